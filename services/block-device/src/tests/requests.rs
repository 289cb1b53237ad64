//! What guests and monitors may expect.

use super::*;

#[test]
fn data_go_to_the_disks_own_range_and_back() {
    for features in [FEATURES, FEATURES | feature::EVENT_INDEX] {
        let mut world = world(&[64, 32], false);
        world.start(features);
        world.round_trip(0, 3, DATA, DATA + 0x2000, 4096);
        world.round_trip(1, 5, DATA, DATA + 0x2000, 1024);
        let keys: Vec<u64> = {
            let mut keys: Vec<u64> = world.bus.0.borrow().sectors.keys().copied().collect();
            keys.sort();
            keys
        };
        let expected: Vec<u64> = (103..111).chain(169..171).collect();
        assert_eq!(keys, expected);
        assert_eq!(world.request(0, 4, 0, sector(0).with_length(0)), 0);
        assert_eq!(world.bus.0.borrow().commands.last(), Some(&0xea));
    }
}

trait WithLength {
    fn with_length(self, length: u32) -> Self;
}

impl WithLength for Segment {
    fn with_length(self, length: u32) -> Self {
        Self { length, ..self }
    }
}

#[test]
fn memory_that_the_controller_does_not_reach_is_bounced() {
    let mut world = world(&[1024], false);
    world.start(FEATURES);
    // High memory, odd addresses, and from the one kind into the other.
    world.round_trip(0, 0, HIGH, HIGH + 0x8000, 0x6000);
    world.round_trip(0, 0, DATA + 1, DATA + 0x4001, 0x2200);
    world.round_trip(0, 0, HIGH - 0x1200, HIGH + 0x4000, 0x3000);
    world.round_trip(0, 0, DATA, HIGH - 0x100, 0x400);
}

#[test]
fn large_requests_take_one_command_if_nobody_waits() {
    let mut world = world(&[4096], false);
    world.start(FEATURES);
    world.bus.0.borrow_mut().commands.clear();
    let length = 0x5_0000;
    world.round_trip(0, 8, DATA, DATA + length, length as u32);
    // More than 256 sectors take the long form. Nobody waits, so each request is one command.
    assert_eq!(world.bus.0.borrow().commands, [0x35, 0x25]);
}

#[test]
fn wrong_requests_are_answered_with_an_error() {
    let mut world = world(&[16, 16], true);
    world.start(FEATURES);
    for guest in 0..2 {
        for (kind, first, data) in [
            (0, 16, sector(DATA)),
            (0, 15, sector(DATA).with_length(1024)),
            (1, u64::MAX, sector(DATA)),
            (0, 0, sector(DATA).with_length(100)),
            (0, 0, sector(RAM_BYTES)),
            (0, 0, sector(u64::MAX - 10)),
            (0, 0, sector(0).with_length(0)),
        ] {
            assert_eq!(world.request(guest, kind, first, data), 1, "{kind} {first} {data:?}");
        }
        for kind in [2, 11, 13, u32::MAX] {
            assert_eq!(world.request(guest, kind, 0, sector(DATA)), 2, "{kind}");
        }
    }
    assert_eq!(world.request(0, 1, 0, sector(DATA)), 0);
    let written = world.bus.0.borrow().sectors.len();
    assert_eq!(world.request(1, 1, 0, sector(DATA)), 1, "the disk is read-only");
    assert_eq!(world.bus.0.borrow().sectors.len(), written);
    assert_eq!(world.request(1, 0, 0, sector(DATA)), 0);
}

#[test]
fn a_broken_queue_needs_a_reset() {
    let mut world = world(&[16, 16], false);
    world.start(FEATURES);
    // A chain that runs in a circle.
    world.guests[0].request(0, 0, sector(DATA));
    let loop_back = 16_u128 << 64 | 1 << 96;
    world.guests[0].ram.write(DESCRIPTORS + 16 * 12, &(loop_back | 12 << 112).to_le_bytes()).unwrap();
    world.guests[0].ram.store_u16(DRIVER + 4, 12).unwrap();
    world.run(true);
    assert!(world.guests[0].monitor.needs_reset());
    assert!(!world.guests[1].monitor.needs_reset());
    assert_eq!(world.request(1, 0, 0, sector(DATA)), 0);
    world.guests[0].monitor.reset();
    world.run(true);
    assert_eq!(world.guests[0].monitor.outcome(), Outcome::Done);
    assert!(!world.guests[0].monitor.needs_reset());
    world.guests[0].configure(FEATURES);
    world.run(true);
    assert_eq!(world.request(0, 0, 0, sector(DATA)), 0);
}

#[test]
fn a_reset_waits_for_the_controller() {
    let mut world = world(&[16, 16], false);
    world.start(FEATURES);
    world.guests[0].request(0, 0, sector(DATA));
    world.run(false);
    assert!(world.bus.0.borrow().interrupt, "the command is on its way");
    world.guests[0].monitor.reset();
    world.run(false);
    assert_eq!(world.guests[0].monitor.outcome(), Outcome::Pending);
    // Meanwhile the other one goes on once the drive is free, and nothing is given back to the first.
    let used = world.guests[0].ram.load_u16(DEVICE + 2).unwrap();
    world.run(true);
    assert_eq!(world.guests[0].monitor.outcome(), Outcome::Done);
    assert_eq!(world.guests[0].ram.load_u16(DEVICE + 2).unwrap(), used);
    world.guests[0].configure(FEATURES);
    world.run(true);
    world.round_trip(0, 1, DATA, DATA + 512, 512);
}

#[test]
fn many_answers_are_one_interrupt() {
    let mut world = world(&[1024], false);
    world.start(FEATURES);
    for number in 0..4 {
        world.guests[0].request(0, number, sector(DATA));
    }
    let (mut signals, mut answers) = (0, Vec::new());
    for _ in 0..4 {
        let _ = world.service.work();
        assert!(core::mem::take(&mut world.bus.0.borrow_mut().interrupt));
        world.service.on_interrupt();
        let _ = world.service.work();
        world.service.take_signals(|_, _| signals += 1);
        if signals > answers.len() {
            world.guests[0].on_interrupt();
            answers.push(world.guests[0].finished.len());
        }
    }
    // When as many are answered as are open, and at the end.
    assert_eq!(answers, [2, 3, 4]);
    // One that stays alone for long is told.
    for number in 0..4 {
        world.guests[0].request(0, number, sector(DATA));
    }
    let _ = world.service.work();
    world.bus.0.borrow_mut().interrupt = false;
    world.service.on_interrupt();
    let _ = world.service.work();
    world.service.take_signals(|_, _| signals += 1);
    assert_eq!(signals, 3);
    world.bus.0.borrow_mut().now += 20;
    assert!(world.service.deadline().is_some_and(|deadline| deadline <= world.bus.0.borrow().now));
    world.service.on_time();
    world.service.take_signals(|_, _| signals += 1);
    assert_eq!(signals, 4);
}

#[test]
fn disks_take_turns() {
    let mut world = world(&[1024, 16], false);
    world.start(FEATURES);
    // A scattered flood of the first guest: many commands.
    for _ in 0..5 {
        world.guests[0].request(0, 0, Segment { address: HIGH, length: 0x8000 });
    }
    world.run(false);
    world.guests[1].request(0, 0, sector(DATA));
    let mut commands = 0;
    while world.guests[1].finished.is_empty() {
        commands += 1;
        assert!(core::mem::take(&mut world.bus.0.borrow_mut().interrupt));
        world.service.on_interrupt();
        world.run(false);
    }
    assert!(commands <= 3, "the second guest waited for {commands} commands");
    world.run(true);
    assert_eq!(world.guests[0].finished.len(), 5);
}

#[test]
fn failures_of_the_drive_are_io_errors() {
    let mut world = world(&[16], false);
    world.start(FEATURES);
    for fault in [Fault::Drive, Fault::Bus] {
        world.bus.0.borrow_mut().fault = fault;
        assert_eq!(world.request(0, 0, 0, sector(DATA)), 1);
        world.bus.0.borrow_mut().fault = Fault::None;
        assert_eq!(world.request(0, 0, 0, sector(DATA)), 0);
    }
    // A drive that is lost for good answers all that follows at once.
    world.bus.0.borrow_mut().fault = Fault::Silence(true);
    world.guests[0].request(0, 0, sector(DATA));
    world.run(true);
    while let Some(deadline) = world.service.deadline() {
        world.bus.0.borrow_mut().now += deadline;
        world.service.on_time();
    }
    world.run(true);
    assert_eq!(world.guests[0].finished.pop_front().map(|end| end.1), Some(1));
    assert_eq!(world.request(0, 0, 0, sector(DATA)), 1);
    assert_eq!(world.request(0, 8, 0, sector(DATA).with_length(20)), 0);
}

#[test]
fn configurations_that_cannot_be_served_are_refused() {
    let mut world = world(&[16], false);
    let mut refuse = |features, change: fn(&mut QueueConfiguration)| {
        let mut queue = QueueConfiguration { size: 16, descriptors: DESCRIPTORS, driver: DRIVER, device: DEVICE };
        change(&mut queue);
        let mut configuration = Configuration { features, ..Default::default() };
        configuration.queues[0] = Some(queue);
        world.guests[0].monitor.configure(&configuration);
        world.run(true);
        assert_eq!(world.guests[0].monitor.outcome(), Outcome::Refused);
    };
    refuse(FEATURES | feature::BLOCK_READ_ONLY, |_| {});
    refuse(FEATURES, |queue| queue.size = 1024);
    refuse(FEATURES, |queue| queue.descriptors = RAM_BYTES - 16);
    refuse(FEATURES, |queue| queue.device = !0xfff);
    world.guests[0].monitor.configure(&Configuration { features: FEATURES, ..Default::default() });
    world.run(true);
    assert_eq!(world.guests[0].monitor.outcome(), Outcome::Refused);
    world.start(FEATURES);
    // Without a reset between.
    world.guests[0].configure(FEATURES);
    world.run(true);
    assert_eq!(world.guests[0].monitor.outcome(), Outcome::Refused);
}

#[test]
fn ranges_beyond_the_drive_are_not_offered() {
    let world = world(&[16], false);
    let drive = world.service.information();
    let words: Vec<AtomicU64> = (0..512).map(|_| AtomicU64::new(0)).collect();
    for (first_sector, sectors) in [(0, 0), (drive.sectors, 1), (1, drive.sectors), (u64::MAX, 2)] {
        let range = DiskRange { name: "disk", first_sector, sectors, read_only: false, withheld: Withheld::default() };
        let outcome = Disk::publish(&words, world.guests[0].ram.clone(), range, drive);
        assert_eq!(outcome.err(), Some(PublishError::Range { drive: drive.sectors }));
    }
}
