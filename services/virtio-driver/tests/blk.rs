//! The driver of a block device against one in memory.

mod common;

use bulkhead_driver::{Command, CommandError, Completion, Drive, PhysicalSegment, SubmitError};
use bulkhead_virtio_driver::VirtioBlk;
use common::{Bus, Fault, WINDOW};
use proptest::prelude::*;

const SECTORS: u64 = 4096;
const READ: Command = Command::Read { first_sector: 8, sectors: 8 };

type Blk = VirtioBlk<'static, Bus, Bus>;

fn start(bus: &Bus) -> Blk {
    let drive = VirtioBlk::start(bus.clone(), WINDOW, &bus.structures(), bus.clone(), &mut bus.dma());
    bus.0.borrow_mut().kinds.clear();
    drive.unwrap()
}

fn segment(address: u64, length: u64) -> PhysicalSegment {
    PhysicalSegment { address, length }
}

fn interrupt(drive: &mut Blk) -> Vec<(u16, Completion)> {
    let mut ends = Vec::new();
    drive.on_interrupt(&mut |tag, end| ends.push((tag, end)));
    ends
}

/// Lets time pass until so many commands have ended.
fn pass_time(drive: &mut Blk, bus: &Bus, count: usize) -> Vec<(u16, Completion)> {
    let mut ends = Vec::new();
    for _ in 0..100 {
        if let Some(deadline) = drive.deadline() {
            let now = bus.0.borrow().now;
            bus.0.borrow_mut().now = now.max(deadline);
        }
        drive.on_time(&mut |tag, end| ends.push((tag, end)));
        if ends.len() >= count {
            break;
        }
        bus.0.borrow_mut().now += 100;
    }
    ends
}

#[test]
fn wrong_commands_are_refused() {
    let bus = Bus::blk(4096, SECTORS);
    let mut drive = start(&bus);
    let mut refuse = |first_sector, sectors, segments: &[PhysicalSegment], error| {
        let command = Command::Write { first_sector, sectors };
        assert_eq!(drive.submit(0, command, segments.iter().copied()), Err(error));
    };
    let page = [segment(0x1000, 4096)];
    refuse(SECTORS, 8, &page, SubmitError::Range);
    refuse(u64::MAX - 7, 8, &page, SubmitError::Range);
    refuse(0, 0, &page, SubmitError::Range);
    refuse(4, 8, &page, SubmitError::Range);
    refuse(0, 4, &page, SubmitError::Range);
    refuse(0, 2056, &page, SubmitError::Range);
    refuse(0, 16, &page, SubmitError::Length);
    refuse(0, 8, &[], SubmitError::Length);
    refuse(0, 8, &[segment(1 << 62, 4096)], SubmitError::Segments);
    refuse(0, 8, &[segment(u64::MAX - 3, 4096)], SubmitError::Segments);
    refuse(0, 8, &[segment(0x1000, 1); 127], SubmitError::Segments);
    let too_many = Command::Discard { first_sector: 0, sectors: 0x40_0000 };
    assert_eq!(drive.submit(0, too_many, []), Err(SubmitError::Range));
    assert_eq!(drive.submit(64, Command::Flush, []), Err(SubmitError::Busy));
    assert!(bus.0.borrow().kinds.is_empty());
    assert_eq!(drive.deadline(), None);
    let bus = Bus::blk(512, SECTORS);
    bus.0.borrow_mut().offered &= !(1 << 9 | 1 << 13 | 1 << 14);
    let mut drive = start(&bus);
    let range = (0, 8);
    for command in [
        Command::Flush,
        Command::Discard { first_sector: range.0, sectors: range.1 },
        Command::WriteZeroes { first_sector: range.0, sectors: range.1, unmap: true },
    ] {
        assert_eq!(drive.submit(0, command, []), Err(SubmitError::Unsupported));
    }
}

#[test]
fn all_tags_are_in_flight_at_once() {
    let bus = Bus::blk(512, SECTORS);
    let mut drive = start(&bus);
    bus.0.borrow_mut().at_once = false;
    for round in 0..5 {
        for tag in 0..64 {
            drive.submit(tag, Command::Flush, []).unwrap();
            assert_eq!(drive.submit(tag, Command::Flush, []), Err(SubmitError::Busy));
        }
        for left in (0..64).rev() {
            bus.0.borrow_mut().execute(left * 7 % (left + 1));
        }
        let mut tags: Vec<_> = interrupt(&mut drive).into_iter().map(|(tag, end)| end.map(|()| tag).unwrap()).collect();
        tags.sort_unstable();
        assert_eq!(tags, (0..64).collect::<Vec<_>>(), "{round}");
    }
}

#[test]
fn a_device_that_looks_for_itself_is_not_told() {
    let bus = Bus::blk(512, SECTORS);
    let mut drive = start(&bus);
    let before = bus.0.borrow().notifications;
    let used = bus.0.borrow().queues[0].device;
    bus.0.borrow_mut().poke(used, 1);
    drive.submit(1, Command::Flush, []).unwrap();
    assert_eq!(bus.0.borrow().notifications, before);
    let chain = bus.0.borrow_mut().fetch(0).unwrap();
    bus.0.borrow_mut().pending.push(chain);
    bus.0.borrow_mut().execute(0);
    assert_eq!(interrupt(&mut drive), [(1, Ok(()))]);
}

#[test]
fn errors_are_reported() {
    let bus = Bus::blk(512, SECTORS);
    let mut drive = start(&bus);
    for status in [1, 2, 3, 0xfe] {
        bus.0.borrow_mut().fault = Fault::Status(status);
        drive.submit(3, READ, [segment(0x1000, 4096)]).unwrap();
        assert_eq!(interrupt(&mut drive), [(3, Err(CommandError::Drive))]);
    }
    assert_eq!(bus.0.borrow().resets, 1);
}

#[test]
fn a_silent_device_is_reset() {
    let bus = Bus::blk(512, SECTORS);
    let mut drive = start(&bus);
    for round in 1..4 {
        bus.0.borrow_mut().fault = Fault::Silent;
        let (resets, before) = (bus.0.borrow().resets, bus.0.borrow().now);
        drive.submit(1, READ, [segment(0x1000, 4096)]).unwrap();
        drive.submit(2, Command::Flush, []).unwrap();
        assert_eq!(interrupt(&mut drive), []);
        let ends = pass_time(&mut drive, &bus, 2);
        assert_eq!(ends, [(1, Err(CommandError::Timeout)), (2, Err(CommandError::Timeout))], "{round}");
        assert_eq!(bus.0.borrow().resets, resets + 1);
        assert!(bus.0.borrow().now >= before + 10_000);
        assert!(bus.0.borrow().is_going());
        drive.submit(1, READ, [segment(0x1000, 4096)]).unwrap();
        assert_eq!(interrupt(&mut drive), [(1, Ok(()))]);
    }
}

#[test]
fn a_device_that_breaks_the_rules_is_reset_before_anything_ends() {
    for fault in [
        Fault::Failed,
        Fault::Unwritten,
        Fault::Number(64),
        Fault::Number(127),
        Fault::Number(128),
        Fault::Number(u32::MAX),
        Fault::Number(0x1_0000),
        Fault::Length(4098),
        Fault::Length(u32::MAX),
        Fault::Ahead(1000),
        Fault::Ahead(0x8000),
    ] {
        let bus = Bus::blk(512, SECTORS);
        let mut drive = start(&bus);
        bus.0.borrow_mut().fault = fault;
        drive.submit(5, READ, [segment(0x1000, 4096)]).unwrap();
        assert_eq!(interrupt(&mut drive), [], "{fault:?}");
        assert_eq!(bus.0.borrow().resets, 2);
        assert!(!bus.0.borrow().is_going());
        assert_eq!(drive.submit(1, Command::Flush, []), Err(SubmitError::Busy));
        assert_eq!(pass_time(&mut drive, &bus, 1), [(5, Err(CommandError::Timeout))]);
        assert!(bus.0.borrow().is_going() && !drive.is_dead());
        drive.submit(5, READ, [segment(0x1000, 4096)]).unwrap();
        assert_eq!(interrupt(&mut drive), [(5, Ok(()))]);
    }
}

#[test]
fn what_comes_twice_ends_once() {
    let bus = Bus::blk(512, SECTORS);
    let mut drive = start(&bus);
    bus.0.borrow_mut().fault = Fault::Twice;
    drive.submit(9, READ, [segment(0x1000, 4096)]).unwrap();
    assert_eq!(interrupt(&mut drive), [(9, Ok(()))]);
    assert_eq!(bus.0.borrow().resets, 2);
    assert_eq!(pass_time(&mut drive, &bus, 1), []);
    // A number that comes again when the tag is in use again is not the next command's end.
    let bus = Bus::blk(512, SECTORS);
    let mut drive = start(&bus);
    drive.submit(9, READ, [segment(0x1000, 4096)]).unwrap();
    assert_eq!(interrupt(&mut drive), [(9, Ok(()))]);
    bus.0.borrow_mut().at_once = false;
    drive.submit(9, READ, [segment(0x1000, 4096)]).unwrap();
    for number in 0..128 {
        bus.0.borrow_mut().complete(0, number, 1);
        assert_eq!(interrupt(&mut drive), []);
        if !bus.0.borrow().is_going() {
            break;
        }
    }
    assert_eq!(pass_time(&mut drive, &bus, 1), [(9, Err(CommandError::Timeout))]);
}

#[test]
fn a_device_that_does_not_come_back_is_dead() {
    for fault in [Fault::Gone, Fault::NeverResets] {
        let bus = Bus::blk(512, SECTORS);
        let mut drive = start(&bus);
        bus.0.borrow_mut().fault = fault;
        drive.submit(1, READ, [segment(0x1000, 4096)]).unwrap();
        assert_eq!(pass_time(&mut drive, &bus, 1), [(1, Err(CommandError::Dead))]);
        assert!(drive.is_dead());
        assert_eq!(drive.submit(1, Command::Flush, []), Err(SubmitError::Busy));
        assert_eq!((interrupt(&mut drive), drive.deadline()), (vec![], None));
    }
    // It comes back as another one, or not at all.
    for change in [
        |device: &mut common::Device| device.offered &= !(1 << 9),
        |device: &mut common::Device| device.most_entries = 32,
        |device: &mut common::Device| device.offered = 0,
    ] {
        let bus = Bus::blk(512, SECTORS);
        let mut drive = start(&bus);
        bus.0.borrow_mut().fault = Fault::Silent;
        drive.submit(1, Command::Flush, []).unwrap();
        change(&mut bus.0.borrow_mut());
        assert_eq!(pass_time(&mut drive, &bus, 1), [(1, Err(CommandError::Timeout))]);
        assert!(drive.is_dead());
        assert!(!bus.0.borrow().is_going());
    }
}

#[test]
fn a_removed_device_is_noticed_at_an_interrupt() {
    let bus = Bus::blk(512, SECTORS);
    let mut drive = start(&bus);
    bus.0.borrow_mut().at_once = false;
    drive.submit(5, Command::Flush, []).unwrap();
    bus.0.borrow_mut().fault = Fault::Gone;
    assert_eq!(interrupt(&mut drive), [(5, Err(CommandError::Dead))]);
    assert!(drive.is_dead());
}

#[test]
fn a_lost_interrupt_is_made_up_for() {
    let bus = Bus::blk(512, SECTORS);
    let mut drive = start(&bus);
    bus.0.borrow_mut().fault = Fault::LostInterrupt;
    let before = bus.0.borrow().interrupts;
    drive.submit(1, READ, [segment(0x1000, 4096)]).unwrap();
    assert_eq!(bus.0.borrow().interrupts, before);
    assert_eq!(pass_time(&mut drive, &bus, 1), [(1, Ok(()))]);
    assert_eq!(bus.0.borrow().resets, 1);
}

/// Segments as a guest's driver makes them: pages, parts of pages, odd places.
fn pieces() -> impl Strategy<Value = Vec<PhysicalSegment>> {
    let piece = (0u64..0x1000, prop_oneof![3 => (1u64..6).prop_map(|pages| pages * 4096), 1 => 0u64..9000]);
    proptest::collection::vec(piece, 1..40).prop_map(|pieces| {
        (0u64..)
            .zip(pieces)
            .map(|(index, (offset, length))| segment(0x1000_0000 + index * 0x1_0000 + offset, length))
            .collect()
    })
}

/// The first `bytes` of the segments.
fn cut(pieces: &[PhysicalSegment], bytes: u64) -> Vec<PhysicalSegment> {
    let mut left = bytes;
    let kept = pieces.iter().map(|piece| {
        let length = piece.length.min(left);
        left -= length;
        segment(piece.address, length)
    });
    kept.filter(|piece| piece.length != 0).collect()
}

/// A command under way: its range, and what has to be read.
type Flying = (u64, u32, Option<Vec<u8>>);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// What is said to fit is taken, and arrives, whatever the device's bounds.
    #[test]
    fn data_arrive(pieces in pieces(), exponent in 9u32..13, block in 0u64..100, seed: u8, size_max in 512u32..10_000,
        seg_max in 8u32..200, most_entries in 4u32..9)
    {
        let bus = Bus::blk(1 << exponent, SECTORS);
        bus.0.borrow_mut().configuration[8..12].copy_from_slice(&size_max.to_le_bytes());
        bus.0.borrow_mut().configuration[12..16].copy_from_slice(&seg_max.to_le_bytes());
        bus.0.borrow_mut().most_entries = 1 << most_entries;
        let mut drive = start(&bus);
        let bytes = drive.fitting(pieces.iter().copied(), 1 << 20);
        prop_assert!(bytes.is_multiple_of(1 << exponent) && bytes <= drive.information().command_bytes);
        prop_assume!(bytes > 0);
        let cut = cut(&pieces, bytes);
        for (index, piece) in cut.iter().enumerate() {
            for offset in 0..piece.length {
                bus.0.borrow_mut().poke(piece.address + offset, seed ^ (index as u64 * 31 + offset) as u8);
            }
        }
        let places = || cut.iter().flat_map(|piece| piece.address..piece.address + piece.length);
        let expected: Vec<u8> = places().map(|address| bus.0.borrow().peek(address)).collect();
        let first_sector = block << (exponent - 9);
        let sectors = (bytes / 512) as u32;
        drive.submit(5, Command::Write { first_sector, sectors }, cut.iter().copied()).unwrap();
        prop_assert_eq!(interrupt(&mut drive), [(5, Ok(()))]);
        let back = 0x8000_0000 + u64::from(seed);
        prop_assert_eq!(drive.fitting([segment(back, bytes)], bytes), bytes);
        drive.submit(6, Command::Read { first_sector, sectors }, [segment(back, bytes)]).unwrap();
        prop_assert_eq!(interrupt(&mut drive), [(6, Ok(()))]);
        for (offset, byte) in expected.into_iter().enumerate() {
            prop_assert_eq!(bus.0.borrow().peek(back + offset as u64), byte);
        }
    }

    /// Many commands in flight, done in any order, against a model of the disk.
    #[test]
    fn the_disk_is_what_was_written(
        steps in proptest::collection::vec((0u16..64, 0u64..32, 1u32..5, 0u8..4, any::<u8>(), any::<usize>()), 1..200))
    {
        let bus = Bus::blk(512, SECTORS);
        let mut drive = start(&bus);
        bus.0.borrow_mut().at_once = false;
        let mut model = vec![0u8; 40];
        let mut flying: Vec<Option<Flying>> = vec![None; 64];
        let buffer = |tag: u16| 0x200_0000 + u64::from(tag) * 0x1_0000;
        for (tag, first_sector, sectors, kind, value, pick) in steps {
            let waiting = bus.0.borrow().pending.len();
            if waiting > 0 && pick % 3 != 0 {
                bus.0.borrow_mut().execute(pick % waiting);
            }
            for (tag, end) in interrupt(&mut drive) {
                prop_assert_eq!(end, Ok(()));
                let (_, _, expected) = flying[usize::from(tag)].take().expect("a command in flight");
                for (index, byte) in expected.into_iter().flatten().enumerate() {
                    prop_assert_eq!(bus.0.borrow().peek(buffer(tag) + 512 * index as u64), byte);
                }
            }
            let range = first_sector..first_sector + u64::from(sectors);
            let overlaps = flying.iter().flatten().any(|(first, count, _)| {
                *first < range.end && range.start < first + u64::from(*count)
            });
            if flying[usize::from(tag)].is_some() || overlaps {
                continue;
            }
            let places = first_sector as usize..range.end as usize;
            let data = [segment(buffer(tag), 512 * u64::from(sectors))];
            let expected = match kind {
                0 => {
                    drive.submit(tag, Command::Read { first_sector, sectors }, data).unwrap();
                    Some(model[places].to_vec())
                }
                1 => {
                    for offset in 0..512 * u64::from(sectors) {
                        bus.0.borrow_mut().poke(buffer(tag) + offset, value);
                    }
                    drive.submit(tag, Command::Write { first_sector, sectors }, data).unwrap();
                    model[places].fill(value);
                    None
                }
                2 => {
                    drive.submit(tag, Command::WriteZeroes { first_sector, sectors, unmap: value % 2 == 0 }, []).unwrap();
                    model[places].fill(0);
                    None
                }
                _ => {
                    drive.submit(tag, Command::Discard { first_sector, sectors }, []).unwrap();
                    model[places].fill(0);
                    None
                }
            };
            flying[usize::from(tag)] = Some((first_sector, sectors, expected));
        }
        while !bus.0.borrow().pending.is_empty() {
            bus.0.borrow_mut().execute(0);
        }
        prop_assert_eq!(interrupt(&mut drive).len(), flying.iter().flatten().count());
        prop_assert_eq!(bus.0.borrow().resets, 1);
        for (sector, byte) in model.into_iter().enumerate() {
            prop_assert_eq!(bus.0.borrow().disk.get(&(sector as u64)).map_or(0, |data| data[511]), byte);
        }
    }

    /// Whatever the device writes to its ring, and to statuses, each command ends once, and in time.
    #[test]
    fn a_hostile_ring_ends_each_command_once(
        steps in proptest::collection::vec((0u8..6, any::<u16>(), prop_oneof![0u32..130, any::<u32>()], any::<u32>()), 1..120))
    {
        let bus = Bus::blk(512, SECTORS);
        let mut drive = start(&bus);
        bus.0.borrow_mut().at_once = false;
        let mut flying = [false; 64];
        for (kind, place, number, length) in steps {
            let ring = bus.0.borrow().queues[0].device;
            let mut ends = Vec::new();
            match kind {
                0 | 1 => {
                    let tag = place % 64;
                    let taken = drive.submit(tag, READ, [segment(0x1000, 4096)]);
                    prop_assert!(taken.is_err() || !flying[usize::from(tag)]);
                    flying[usize::from(tag)] |= taken.is_ok();
                }
                _ if !bus.0.borrow().is_going() => ends = pass_time(&mut drive, &bus, 1),
                2 => bus.0.borrow_mut().complete(0, number, length % 5000),
                3 => {
                    let pending = bus.0.borrow().pending.len();
                    if pending > 0 {
                        bus.0.borrow_mut().execute(usize::from(place) % pending);
                    }
                }
                4 => bus.0.borrow_mut().store(ring + u64::from(place % 1024), &number.to_le_bytes()),
                _ => {
                    let pending = bus.0.borrow().pending.first().map(|chain| chain.writable[chain.writable.len() - 1].0);
                    if let Some(status) = pending {
                        bus.0.borrow_mut().poke(status, length as u8);
                    }
                }
            }
            ends.extend(interrupt(&mut drive));
            for (tag, _) in ends {
                prop_assert!(std::mem::take(&mut flying[usize::from(tag)]), "it had ended");
            }
        }
        for (tag, _) in pass_time(&mut drive, &bus, 64) {
            prop_assert!(std::mem::take(&mut flying[usize::from(tag)]), "it had ended");
        }
        prop_assert!(!flying.contains(&true));
    }
}
