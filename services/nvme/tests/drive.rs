//! The driver against a controller in memory.

mod common;
use common::*;

use bulkhead_driver::{Command, CommandError, Completion, Drive, DriveInformation, PhysicalSegment, SubmitError};
use bulkhead_nvme::*;
use proptest::prelude::*;

type TestDrive = NvmeDrive<'static, Bus, Bus>;
const BLOCKS: u64 = 0x1_0000;

fn start(bus: &Bus) -> TestDrive {
    let drive = NvmeDrive::start(bus.clone(), bus.clone(), &mut bus.dma()).unwrap();
    bus.0.borrow_mut().interrupt = false;
    drive
}

fn segment(address: u64, length: u64) -> PhysicalSegment {
    PhysicalSegment { address, length }
}

/// The ends that an interrupt tells.
fn interrupt(drive: &mut TestDrive) -> Vec<(u16, Completion)> {
    let mut ends = Vec::new();
    drive.on_interrupt(&mut |tag, completion| ends.push((tag, completion)));
    ends
}

/// Lets time pass until the drive waits for nothing, or is done with `ends` commands.
fn pass_time(drive: &mut TestDrive, bus: &Bus, count: usize) -> Vec<(u16, Completion)> {
    let mut ends = Vec::new();
    for _ in 0..100_000 {
        let Some(deadline) = drive.deadline() else { break };
        if ends.len() >= count {
            break;
        }
        let now = bus.0.borrow().now.max(deadline);
        bus.0.borrow_mut().now = now;
        drive.on_time(&mut |tag, completion| ends.push((tag, completion)));
    }
    ends
}

/// Lets time pass until the drive has nothing to wait for.
fn settle(drive: &mut TestDrive, bus: &Bus) {
    assert_eq!(pass_time(drive, bus, usize::MAX), []);
}

const READ: Command = Command::Read { first_sector: 8, sectors: 8 };

#[test]
fn a_namespace_is_identified() {
    for (exponent, stride) in [(9, 0), (10, 1), (12, 4)] {
        let bus = Bus::new(exponent, BLOCKS);
        bus.0.borrow_mut().stride = stride;
        let mut drive = start(&bus);
        let information: DriveInformation = *drive.information();
        assert_eq!(information.model(), "BULKHEAD TEST NAMESPACE");
        assert_eq!((&information.serial[..14], &information.firmware), (&b"SERIAL OF NVME"[..], b"FW 2    "));
        assert_eq!((information.sectors, information.logical_block_size), (BLOCKS << (exponent - 9), 1 << exponent));
        assert!(information.write_cache && information.flush && information.discard.is_some());
        assert_eq!((information.depth, information.queues, information.command_bytes), (64, 4, 128 << 10));
        assert_eq!(information.identify[..], bus.0.borrow().controller[..512]);
        drive.submit(1, READ, [segment(0x10_0000, 4096)]).unwrap();
        assert_eq!(interrupt(&mut drive), [(1, Ok(()))]);
    }
}

#[test]
fn what_the_controller_does_not_have_is_not_offered() {
    let bus = Bus::new(9, BLOCKS);
    {
        let mut controller = bus.0.borrow_mut();
        controller.granted = 1;
        controller.capabilities = controller.capabilities & !0xffff | 7;
        controller.controller[520] = 0;
        controller.controller[525] = 0;
        controller.controller[77] = 0;
    }
    let mut drive = start(&bus);
    let information = drive.information();
    assert_eq!((information.depth, information.queues, information.command_bytes), (7, 1, 256 << 10));
    assert_eq!((information.discard, information.write_zeroes, information.write_cache), (None, None, false));
    let discard = Command::Discard { first_sector: 0, sectors: 1 };
    assert_eq!(drive.submit(0, discard, []), Err(SubmitError::Unsupported));
    assert_eq!(drive.submit(7, READ, [segment(0, 4096)]), Err(SubmitError::Busy));
}

#[test]
fn controllers_that_cannot_be_used_are_refused() {
    let refuse = |error, change: fn(&mut Controller)| {
        let bus = Bus::new(9, BLOCKS);
        change(&mut bus.0.borrow_mut());
        assert_eq!(NvmeDrive::start(bus.clone(), bus.clone(), &mut bus.dma()).err(), Some(error));
    };
    refuse(StartError::Absent, |controller| controller.fault = Fault::Gone);
    refuse(StartError::Timeout, |controller| controller.fault = Fault::NeverReady);
    refuse(StartError::Timeout, |controller| controller.fault = Fault::NeverStops);
    refuse(StartError::Timeout, |controller| controller.fault = Fault::SilentAdmin);
    refuse(StartError::Unusable(Unusable::Capabilities), |controller| controller.capabilities &= !(1 << 37));
    refuse(StartError::Unusable(Unusable::Capabilities), |controller| controller.capabilities |= 1 << 48);
    refuse(StartError::Unusable(Unusable::Size), |controller| controller.namespace[..8].fill(0));
    refuse(StartError::Unusable(Unusable::Size), |controller| controller.namespace[..8].fill(0xff));
    refuse(StartError::Unusable(Unusable::Format), |controller| controller.namespace[136] = 8);
    refuse(StartError::Unusable(Unusable::Format), |controller| controller.namespace[138] = 13);
    refuse(StartError::Unusable(Unusable::Format), |controller| controller.namespace[26] = 0);
    let bus = Bus::new(9, BLOCKS);
    let mut less = bus.dma().part(8, DMA_BYTES - 8).unwrap();
    assert_eq!(NvmeDrive::start(bus.clone(), bus.clone(), &mut less).err(), Some(StartError::Memory));
}

#[test]
fn wrong_commands_are_refused() {
    let bus = Bus::new(12, BLOCKS);
    let mut drive = start(&bus);
    let mut refuse = |first_sector, sectors, segments: &[PhysicalSegment], error| {
        let command = Command::Write { first_sector, sectors };
        assert_eq!(drive.submit(0, command, segments.iter().copied()), Err(error));
    };
    let page = [segment(0x1000, 4096)];
    refuse(8 * BLOCKS, 8, &page, SubmitError::Range);
    refuse(u64::MAX - 7, 8, &page, SubmitError::Range);
    refuse(0, 0, &page, SubmitError::Range);
    refuse(4, 8, &page, SubmitError::Range);
    refuse(0, 4, &page, SubmitError::Range);
    refuse(0, 264, &page, SubmitError::Range);
    refuse(0, 16, &page, SubmitError::Length);
    refuse(0, 8, &[], SubmitError::Length);
    refuse(0, 8, &[segment(0x1002, 4096)], SubmitError::Segments);
    refuse(0, 8, &[segment(1 << 62, 4096)], SubmitError::Segments);
    refuse(0, 8, &[segment(u64::MAX - 3, 4096)], SubmitError::Segments);
    refuse(0, 8, &[segment(0x1000, 2048), segment(0x3000, 2048)], SubmitError::Segments);
    refuse(0, 8, &[segment(0x1800, 2048), segment(0x3800, 2048)], SubmitError::Segments);
    assert_eq!(bus.0.borrow().commands, []);
    assert_eq!(drive.deadline(), None);
}

#[test]
fn the_tag_decides_the_queue() {
    let bus = Bus::new(9, BLOCKS);
    let mut drive = start(&bus);
    bus.0.borrow_mut().at_once = false;
    for tag in 0..64 {
        drive.submit(tag, Command::Flush, []).unwrap();
        assert_eq!(drive.submit(tag, Command::Flush, []), Err(SubmitError::Busy));
    }
    for left in (0..64).rev() {
        bus.0.borrow_mut().execute(left * 7 % (left + 1));
    }
    let mut tags: Vec<_> = interrupt(&mut drive).into_iter().map(|(tag, end)| end.map(|()| tag).unwrap()).collect();
    tags.sort_unstable();
    assert_eq!(tags, (0..64).collect::<Vec<_>>());
    let queues = bus.0.borrow().commands.iter().fold([0; 5], |mut sum, (queue, _)| {
        sum[usize::from(*queue)] += 1;
        sum
    });
    assert_eq!(queues, [0, 16, 16, 16, 16]);
}

#[test]
fn errors_are_reported() {
    let bus = Bus::new(9, BLOCKS);
    let mut drive = start(&bus);
    for (status, error) in [(0x281, CommandError::Drive), (0x04, CommandError::Transfer), (0x80, CommandError::Drive)] {
        bus.0.borrow_mut().fault = Fault::Status(status);
        drive.submit(3, READ, [segment(0x1000, 4096)]).unwrap();
        assert_eq!(interrupt(&mut drive), [(3, Err(error))]);
    }
}

#[test]
fn completions_of_nothing_are_counted_and_ignored() {
    let bus = Bus::new(9, BLOCKS);
    let mut drive = start(&bus);
    // Another tag of the same queue, another queue's tag, another use of the tag.
    for bits in [4, 1, 0x40, 0xffc0] {
        bus.0.borrow_mut().fault = Fault::WrongIdentifier(bits);
        drive.submit(9, READ, [segment(0x1000, 4096)]).unwrap();
        let before = drive.strays();
        assert_eq!(interrupt(&mut drive), [(9, Ok(()))]);
        assert_eq!(drive.strays(), before + 1);
    }
    bus.0.borrow_mut().fault = Fault::Twice;
    drive.submit(9, READ, [segment(0x1000, 4096)]).unwrap();
    assert_eq!(interrupt(&mut drive), [(9, Ok(()))]);
    assert_eq!(drive.strays(), 5);
    // However many come, a call ends, and the drive goes on.
    bus.0.borrow_mut().fault = Fault::Flood;
    drive.submit(9, READ, [segment(0x1000, 4096)]).unwrap();
    for _ in 0..20 {
        assert!(interrupt(&mut drive).len() <= 1);
    }
    let ends = pass_time(&mut drive, &bus, 1);
    assert!(ends.len() <= 1);
    settle(&mut drive, &bus);
    assert!(!drive.is_dead());
}

#[test]
fn a_silent_controller_is_reset() {
    let bus = Bus::new(9, BLOCKS);
    let mut drive = start(&bus);
    for round in 1..4 {
        bus.0.borrow_mut().fault = Fault::Silent;
        let resets = bus.0.borrow().resets;
        drive.submit(1, READ, [segment(0x1000, 4096)]).unwrap();
        drive.submit(2, Command::Flush, []).unwrap();
        assert_eq!(interrupt(&mut drive), []);
        let ends = pass_time(&mut drive, &bus, 2);
        assert_eq!(ends, [(1, Err(CommandError::Timeout)), (2, Err(CommandError::Timeout))], "{round}");
        assert_eq!(bus.0.borrow().resets, resets + 1);
        assert_eq!(drive.submit(1, Command::Flush, []), Err(SubmitError::Busy));
        settle(&mut drive, &bus);
        drive.submit(1, READ, [segment(0x1000, 4096)]).unwrap();
        assert_eq!(interrupt(&mut drive), [(1, Ok(()))]);
    }
}

#[test]
fn a_failed_controller_is_reset_at_once() {
    let bus = Bus::new(9, BLOCKS);
    let mut drive = start(&bus);
    bus.0.borrow_mut().fault = Fault::Fatal;
    drive.submit(1, READ, [segment(0x1000, 4096)]).unwrap();
    let before = bus.0.borrow().now;
    assert_eq!(interrupt(&mut drive), []);
    assert_eq!(pass_time(&mut drive, &bus, 1), [(1, Err(CommandError::Timeout))]);
    assert!(bus.0.borrow().now < before + 1000);
    settle(&mut drive, &bus);
    assert!(!drive.is_dead());
}

#[test]
fn a_controller_that_does_not_come_back_is_dead() {
    for fault in [Fault::Gone, Fault::NeverStops] {
        let bus = Bus::new(9, BLOCKS);
        let mut drive = start(&bus);
        bus.0.borrow_mut().fault = fault;
        drive.submit(1, READ, [segment(0x1000, 4096)]).unwrap();
        assert_eq!(pass_time(&mut drive, &bus, 1), [(1, Err(CommandError::Dead))]);
        assert!(drive.is_dead());
        assert_eq!(drive.submit(1, Command::Flush, []), Err(SubmitError::Busy));
        assert_eq!((interrupt(&mut drive), drive.deadline()), (vec![], None));
    }
    // It stops, and does not set up its queues again.
    let bus = Bus::new(9, BLOCKS);
    let mut drive = start(&bus);
    bus.0.borrow_mut().fault = Fault::Silent;
    drive.submit(1, Command::Flush, []).unwrap();
    bus.0.borrow_mut().fault = Fault::SilentAdmin;
    bus.0.borrow_mut().at_once = false;
    drive.submit(2, Command::Flush, []).unwrap();
    assert_eq!(pass_time(&mut drive, &bus, 3).len(), 2);
    assert!(drive.is_dead());
}

#[test]
fn a_removed_controller_is_noticed_at_an_interrupt() {
    let bus = Bus::new(9, BLOCKS);
    let mut drive = start(&bus);
    bus.0.borrow_mut().at_once = false;
    drive.submit(5, Command::Flush, []).unwrap();
    bus.0.borrow_mut().fault = Fault::Gone;
    assert_eq!(interrupt(&mut drive), [(5, Err(CommandError::Dead))]);
    assert!(drive.is_dead());
}

#[test]
fn fewer_queues_after_a_reset_are_the_end() {
    let bus = Bus::new(9, BLOCKS);
    let mut drive = start(&bus);
    bus.0.borrow_mut().fault = Fault::Silent;
    bus.0.borrow_mut().granted = 2;
    drive.submit(5, Command::Flush, []).unwrap();
    assert_eq!(pass_time(&mut drive, &bus, 1), [(5, Err(CommandError::Timeout))]);
    settle(&mut drive, &bus);
    assert!(drive.is_dead());
}

#[test]
fn a_lost_interrupt_is_made_up_for() {
    let bus = Bus::new(9, BLOCKS);
    let mut drive = start(&bus);
    bus.0.borrow_mut().fault = Fault::LostInterrupt;
    drive.submit(1, READ, [segment(0x1000, 4096)]).unwrap();
    assert!(!bus.0.borrow().interrupt);
    assert_eq!(pass_time(&mut drive, &bus, 1), [(1, Ok(()))]);
    assert_eq!(bus.0.borrow().resets, 0);
}

#[test]
fn ranges_are_discarded_and_made_zero() {
    for exponent in [9, 12] {
        let bus = Bus::new(exponent, BLOCKS);
        let mut drive = start(&bus);
        let scale = 1 << (exponent - 9);
        let filled = |bus: &Bus| {
            for block in 0..64 {
                bus.0.borrow_mut().disk.insert(block, vec![1; 1 << exponent]);
            }
        };
        for unmap in [false, true] {
            filled(&bus);
            let zeroes = Command::WriteZeroes { first_sector: 8 * scale, sectors: 16 * scale as u32, unmap };
            drive.submit(0, zeroes, []).unwrap();
            assert_eq!(interrupt(&mut drive), [(0, Ok(()))]);
            assert!((0..64).all(|block| bus.0.borrow().disk.contains_key(&block) != (8..24).contains(&block)));
        }
        filled(&bus);
        drive.submit(63, Command::Discard { first_sector: 3 * scale, sectors: 5 * scale as u32 }, []).unwrap();
        assert_eq!(interrupt(&mut drive), [(63, Ok(()))]);
        assert!((0..64).all(|block| bus.0.borrow().disk.contains_key(&block) != (3..8).contains(&block)));
    }
}

/// Segments as a guest's driver makes them: pages, parts of pages, and what no controller takes.
fn pieces() -> impl Strategy<Value = Vec<PhysicalSegment>> {
    let piece = (
        0u64..0x400,
        prop_oneof![4 => Just(0u64), 1 => 0u64..0x1000],
        prop_oneof![
            4 => (1u64..6).prop_map(|pages| pages * 4096),
            1 => Just(512u64),
            1 => 1u64..9000,
        ],
    );
    proptest::collection::vec(piece, 1..40).prop_map(|pieces| {
        let mut all: Vec<PhysicalSegment> = Vec::new();
        for (index, (page, offset, length)) in pieces.into_iter().enumerate() {
            let address = 0x1000_0000 + page * 0x1_0000 + index as u64 * 0x4000 + offset;
            // Some go on where the one before ended.
            let address = match all.last() {
                Some(last) if page % 4 == 0 => last.address + last.length,
                _ => address,
            };
            all.push(segment(address, length));
        }
        all
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
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// What is said to fit is taken, and arrives.
    #[test]
    fn data_arrive(pieces in pieces(), exponent in 9u32..13, block in 0u64..100, seed: u8) {
        let bus = Bus::new(exponent, BLOCKS);
        let mut drive = start(&bus);
        let bytes = drive.fitting(pieces.iter().copied(), 1 << 20);
        prop_assert!(bytes.is_multiple_of(1 << exponent) && bytes <= drive.information().command_bytes);
        let aligned = pieces.iter().all(|piece| piece.address % 4096 == 0 && piece.length % 4096 == 0);
        let sum: u64 = pieces.iter().map(|piece| piece.length).sum();
        prop_assert!(!aligned || bytes == sum.min(128 << 10));
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
        let back = 0x8000_0000 + u64::from(seed) * 4;
        let all = drive.fitting([segment(back, bytes)], bytes);
        prop_assert_eq!(all, bytes);
        drive.submit(6, Command::Read { first_sector, sectors }, [segment(back, bytes)]).unwrap();
        prop_assert_eq!(interrupt(&mut drive), [(6, Ok(()))]);
        for (offset, byte) in expected.into_iter().enumerate() {
            prop_assert_eq!(bus.0.borrow().peek(back + offset as u64), byte);
        }
    }

    /// Many commands in flight, done in any order, against a model of the disk.
    #[test]
    fn the_disk_is_what_was_written(
        steps in proptest::collection::vec((0u16..64, 0u64..32, 1u32..5, 0u8..4, any::<u8>(), any::<usize>()), 1..80))
    {
        let bus = Bus::new(9, BLOCKS);
        let mut drive = start(&bus);
        bus.0.borrow_mut().at_once = false;
        let mut model = vec![0u8; 40];
        let mut flying: Vec<Option<Flying>> = vec![None; 64];
        let buffer = |tag: u16| 0x200_0000 + u64::from(tag) * 0x1_0000;
        for (tag, first_sector, sectors, kind, value, pick) in steps {
            let waiting = bus.0.borrow().waiting();
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
        while bus.0.borrow().waiting() > 0 {
            bus.0.borrow_mut().execute(0);
        }
        prop_assert_eq!(interrupt(&mut drive).len(), flying.iter().flatten().count());
        prop_assert_eq!(drive.strays(), 0);
        for (sector, byte) in model.into_iter().enumerate() {
            prop_assert_eq!(bus.0.borrow().disk.get(&(sector as u64)).map_or(0, |data| data[511]), byte);
        }
    }
}
