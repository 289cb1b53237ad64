//! The device channel: what one side says is what the other hears, and nonsense is refused.
#![cfg(not(loom))]

use bulkhead_channel::*;
use proptest::prelude::*;
use std::sync::atomic::Ordering::Relaxed;

fn memory() -> Vec<AtomicU64> {
    (0..512).map(|_| AtomicU64::new(0)).collect()
}

fn disk() -> DeviceDescription {
    let mut configuration = [0; CONFIGURATION_BYTES];
    configuration[..8].copy_from_slice(&2048u64.to_le_bytes());
    DeviceDescription { kind: DeviceKind::Block, features: 1 << 32 | 1 << 9, queues: 1, queue_size: 256, configuration }
}

fn queue() -> QueueConfiguration {
    QueueConfiguration { size: 128, descriptors: 0x1000, driver: 0x2000, device: 0x3000 }
}

#[test]
fn a_device_is_published_configured_and_reset() {
    let words = memory();
    let mut monitor = MonitorSide::attach(&words).unwrap();
    assert!(monitor.description().is_none());
    let mut emulator = EmulatorSide::publish(&words, disk()).unwrap();
    let (generation, description) = monitor.description().unwrap().unwrap();
    assert_eq!(description, disk());
    assert_eq!(emulator.next_command(), None);

    let mut configuration = Configuration { features: 1 << 32, ..Default::default() };
    configuration.queues[0] = Some(queue());
    monitor.configure(&configuration);
    assert_eq!(monitor.outcome(), Outcome::Pending);
    assert_eq!(emulator.next_command(), Some(Command::Configure(configuration)));
    assert_eq!(emulator.next_command(), None);
    emulator.acknowledge(true);
    assert_eq!(monitor.outcome(), Outcome::Done);

    assert_eq!(emulator.raise(Interrupts::queue(0)), Signals::LOOK);
    assert_eq!(emulator.raise(Interrupts::queue(0)), Signals::NONE);
    assert_eq!(monitor.take_interrupts(), Interrupts::queue(0));
    assert!(monitor.take_interrupts().is_empty());

    assert_eq!(emulator.set_needs_reset(true), Signals::LOOK);
    assert!(monitor.needs_reset());
    monitor.reset();
    assert_eq!(emulator.next_command(), Some(Command::Reset));
    assert_eq!(emulator.set_needs_reset(false), Signals::NONE);
    emulator.acknowledge(true);
    assert!(!monitor.needs_reset());
    assert_eq!(monitor.outcome(), Outcome::Done);

    // The emulator crashed with a command outstanding, and was restarted.
    monitor.configure(&configuration);
    let mut emulator = EmulatorSide::publish(&words, disk()).unwrap();
    assert_ne!(monitor.generation(), Some(generation));
    assert_eq!(emulator.next_command(), None);
    assert_eq!(monitor.outcome(), Outcome::Done);
    monitor.reset();
    assert_eq!(emulator.next_command(), Some(Command::Reset));

    // The monitor crashed, and was restarted.
    let monitor = MonitorSide::attach(&words).unwrap();
    assert_eq!(monitor.outcome(), Outcome::Pending);
    assert_eq!(emulator.next_command(), Some(Command::Reset));
}

#[test]
fn a_driver_that_asks_for_too_much_is_refused() {
    let words = memory();
    let mut monitor = MonitorSide::attach(&words).unwrap();
    let mut emulator = EmulatorSide::publish(&words, disk()).unwrap();
    let mut refuse = |features, index: usize, queue, reason| {
        let mut configuration = Configuration { features, ..Default::default() };
        configuration.queues[index] = Some(queue);
        monitor.configure(&configuration);
        assert_eq!(emulator.next_command(), Some(Command::Refused(reason)));
        emulator.acknowledge(false);
        assert_eq!(monitor.outcome(), Outcome::Refused);
    };
    refuse(1, 0, queue(), Invalid::Features);
    refuse(0, 1, queue(), Invalid::QueueCount);
    for size in [0, 3, 512] {
        refuse(0, 0, QueueConfiguration { size, ..queue() }, Invalid::QueueSize);
    }
    refuse(0, 0, QueueConfiguration { descriptors: 8, ..queue() }, Invalid::QueueAddress);
    refuse(0, 0, QueueConfiguration { driver: 1, ..queue() }, Invalid::QueueAddress);
    refuse(0, 0, QueueConfiguration { device: 0xffff_ffff_ffff_fffc, ..queue() }, Invalid::QueueAddress);
    words[24].store(1 << 20 | 77 << 32, Relaxed);
    assert_eq!(emulator.next_command(), Some(Command::Refused(Invalid::Command)));
}

#[test]
fn wrong_descriptions_are_refused() {
    let wrong = [
        (DeviceDescription { queues: 0, ..disk() }, Invalid::QueueCount),
        (DeviceDescription { queues: 9, ..disk() }, Invalid::QueueCount),
        (DeviceDescription { queue_size: 100, ..disk() }, Invalid::QueueSize),
    ];
    for (description, reason) in wrong {
        let words = memory();
        assert_eq!(EmulatorSide::publish(&words, description).err(), Some(PublishError::Description(reason)));
    }
}

#[test]
fn the_configuration_changes_within_a_generation() {
    let words = memory();
    let mut emulator = EmulatorSide::publish(&words, disk()).unwrap();
    let monitor = MonitorSide::attach(&words).unwrap();
    let (generation, _) = monitor.description().unwrap().unwrap();
    let grown = [7; CONFIGURATION_BYTES];
    assert_eq!(emulator.set_configuration(&grown), Signals::LOOK);
    assert!(monitor.take_interrupts().contains(Interrupts::CONFIGURATION));
    let (same, description) = monitor.description().unwrap().unwrap();
    assert_eq!((same, description.configuration), (generation, grown));
    // An emulator that was stopped half-way leaves no description; its successor does.
    words[3].store(words[3].load(Relaxed) | 1, Relaxed);
    assert!(monitor.description().is_none());
    EmulatorSide::publish(&words, disk()).unwrap();
    assert_eq!(monitor.description().unwrap().unwrap().1, disk());
}

#[test]
fn there_are_no_other_kinds_of_devices() {
    let words = memory();
    EmulatorSide::publish(&words, disk()).unwrap();
    words[1].store(words[1].load(Relaxed) & !0xffff | 99, Relaxed);
    let monitor = MonitorSide::attach(&words).unwrap();
    assert_eq!(monitor.description(), Some(Err(Invalid::Kind)));
}

proptest! {
    /// Whatever is in the page, neither side panics, and whatever is accepted is valid.
    #[test]
    fn nonsense_is_survived(contents in proptest::collection::vec(prop_oneof![any::<u64>(), 0u64..70000], DEVICE_CHANNEL_WORDS)) {
        let words = memory();
        let mut emulator = EmulatorSide::publish(&words, disk()).unwrap();
        let monitor = MonitorSide::attach(&words).unwrap();
        for (word, value) in words.iter().zip(contents) {
            word.store(value, Relaxed);
        }
        if let Some(Ok((_, description))) = monitor.description() {
            prop_assert!(description.validate().is_ok());
        }
        let _ = monitor.outcome();
        if let Some(Command::Configure(configuration)) = emulator.next_command() {
            prop_assert_eq!(configuration.features & !disk().features, 0);
            for queue in configuration.queues.iter().flatten() {
                prop_assert!(queue.validate(disk().queue_size).is_ok());
            }
        }
    }

    /// A valid configuration arrives as it was sent.
    #[test]
    fn configurations_arrive(log in 0u32..9, descriptors: u32, driver: u32, device: u32, features: u64) {
        let words = memory();
        let mut monitor = MonitorSide::attach(&words).unwrap();
        let mut emulator = EmulatorSide::publish(&words, disk()).unwrap();
        let mut configuration = Configuration { features: features & disk().features, ..Default::default() };
        configuration.queues[0] = Some(QueueConfiguration {
            size: 1 << log,
            descriptors: u64::from(descriptors) << 4,
            driver: u64::from(driver) << 1,
            device: u64::from(device) << 2,
        });
        monitor.configure(&configuration);
        prop_assert_eq!(emulator.next_command(), Some(Command::Configure(configuration)));
    }
}

/// A start that comes to nothing does not make the next one look like the last: whoever sees only the two has to notice.
#[test]
fn a_start_that_is_cut_off_is_counted() {
    let words = memory();
    let monitor = MonitorSide::attach(&words).unwrap();
    EmulatorSide::publish(&words, disk()).unwrap();
    let first = monitor.generation().unwrap();
    // Each store of a start, up to the last one, may be the last that happens.
    words[0].fetch_or(1 << 63, Relaxed);
    assert_eq!(monitor.generation(), None);
    assert!(monitor.description().is_none());
    EmulatorSide::publish(&words, disk()).unwrap();
    assert!(monitor.generation().is_some_and(|generation| generation != first));
}

#[test]
fn interrupts_with_signals_of_their_own_leave_no_trace_in_the_page() {
    let words = memory();
    let monitor = MonitorSide::attach(&words).unwrap();
    let emulator = EmulatorSide::publish(&words, disk()).unwrap().with_direct_interrupts(2);
    let of = |queues: &[usize]| Interrupts(queues.iter().fold(0, |bits, queue| bits | Interrupts::queue(*queue).0));
    for _ in 0..2 {
        assert_eq!(emulator.raise(of(&[0])), Signals(2), "each is a signal");
    }
    assert_eq!(emulator.raise(of(&[0, 1, 2])), Signals(7));
    assert_eq!(emulator.raise(of(&[1, 2])), Signals(4), "the monitor has not looked yet");
    assert_eq!(monitor.take_interrupts(), of(&[2]));
    assert_eq!(emulator.raise(Interrupts::CONFIGURATION), Signals::LOOK);
}
