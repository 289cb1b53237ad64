//! What is in flight survives its emulator, wherever that ends.
#![cfg(not(loom))]

use bulkhead_channel::*;
use std::sync::atomic::Ordering::Relaxed;

fn memory() -> Vec<AtomicU64> {
    (0..512).map(|_| AtomicU64::new(0)).collect()
}

fn disk() -> DeviceDescription {
    DeviceDescription {
        kind: DeviceKind::Block,
        features: 0,
        queues: 1,
        queue_size: 256,
        configuration: [0; CONFIGURATION_BYTES],
    }
}

/// The words as they are now, for an emulator that begins with them.
fn copy(words: &[AtomicU64]) -> Vec<AtomicU64> {
    words.iter().map(|word| AtomicU64::new(word.load(Relaxed))).collect()
}

/// What the next life finds, if the driver's used index is this.
fn left(words: &[AtomicU64], used: u16) -> Vec<u16> {
    let emulator = EmulatorSide::publish(words, disk()).unwrap();
    emulator.in_flight(0).unwrap().recover(used).collect()
}

#[test]
fn chains_are_in_flight_until_the_driver_has_them() {
    let words = memory();
    let emulator = EmulatorSide::publish(&words, disk()).unwrap();
    let record = emulator.in_flight(0).unwrap();
    assert!(record.take(7) && record.take(511) && record.take(64));
    assert!(!record.take(7), "it is in flight");
    assert!(!record.take(512), "there is no such head");
    assert_eq!(left(&copy(&words), 10), [7, 64, 511]);
    record.give_back(64, 11, || {
        // Not yet in the used ring: it is to be done again. In it: it is not.
        assert_eq!(left(&copy(&words), 10), [7, 64, 511]);
        assert_eq!(left(&copy(&words), 11), [7, 511]);
    });
    assert_eq!(left(&copy(&words), 11), [7, 511]);
    // Taken again with the same used index.
    assert!(record.take(64));
    assert_eq!(left(&copy(&words), 11), [7, 64, 511]);
    record.clear();
    assert_eq!(left(&copy(&words), 11), []);
    assert!(emulator.in_flight(MAX_QUEUES).is_none());
}

#[test]
fn what_was_in_flight_outlives_commands_that_were_not_answered() {
    let words = memory();
    let mut emulator = EmulatorSide::publish(&words, disk()).unwrap();
    let mut monitor = MonitorSide::attach(&words).unwrap();
    let choice = Configuration::default();
    monitor.configure(&choice);
    // Not answered: whatever the notes hold is older than the command.
    assert!(emulator.in_flight(0).unwrap().take(3));
    assert_eq!(left(&copy(&words), 0), []);
    // Answered, although the monitor has not looked yet: the driver's first requests are on their way.
    emulator.next_command();
    emulator.acknowledge(true);
    assert_eq!(left(&copy(&words), 0), [3]);
    // A life that ends before it has answered its resume command leaves everything to the next, and so on.
    let mut emulator = EmulatorSide::publish(&words, disk()).unwrap();
    monitor.resume(&choice);
    assert_eq!(left(&words, 0), [3]);
    monitor.resume(&choice);
    assert_eq!(left(&copy(&words), 0), [3]);
    // A reset is the end of all of it.
    emulator.next_command();
    emulator.acknowledge(true);
    monitor.reset();
    assert_eq!(left(&copy(&words), 0), []);
}
