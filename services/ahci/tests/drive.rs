//! The driver against a controller in memory.

mod common;
use common::*;

use bulkhead_ahci::*;
use bulkhead_ata::Unusable;
use bulkhead_driver::{Command, CommandError, Completion, Drive, PhysicalSegment, SubmitError};
use proptest::prelude::*;

type TestDrive = AhciDrive<'static, Bus, Bus>;
const SECTORS: u64 = 0x2000_0000;

fn start(bus: &Bus) -> TestDrive {
    let drive = AhciDrive::start(bus.clone(), bus.clone(), &mut bus.dma()).unwrap();
    assert!(!bus.0.borrow().interrupts());
    bus.0.borrow_mut().commands.clear();
    drive
}

/// A drive without native command queuing.
fn start_simple(bus: &Bus) -> TestDrive {
    bus.0.borrow_mut().identify[76] = 0;
    start(bus)
}

fn segment(address: u64, length: u64) -> PhysicalSegment {
    PhysicalSegment { address, length }
}

/// The ends that interrupts tell, as long as there are interrupts.
fn interrupt(drive: &mut TestDrive, bus: &Bus) -> Vec<(u16, Completion)> {
    let mut ends = Vec::new();
    for _ in 0..100 {
        if !bus.0.borrow().interrupts() {
            break;
        }
        drive.on_interrupt(&mut |tag, completion| ends.push((tag, completion)));
    }
    ends
}

/// Lets time pass until so many commands have ended, or the drive waits for nothing.
fn pass_time(drive: &mut TestDrive, bus: &Bus, count: usize) -> Vec<(u16, Completion)> {
    let mut ends = interrupt(drive, bus);
    for _ in 0..100_000 {
        let Some(deadline) = drive.deadline() else { break };
        if ends.len() >= count {
            break;
        }
        let now = bus.0.borrow().now.max(deadline);
        bus.0.borrow_mut().now = now;
        drive.on_time(&mut |tag, completion| ends.push((tag, completion)));
        ends.extend(interrupt(drive, bus));
    }
    ends
}

const READ: Command = Command::Read { first_sector: 8, sectors: 8 };
const DATA: [PhysicalSegment; 1] = [PhysicalSegment { address: 0x10_0000, length: 4096 }];

#[test]
fn the_drive_is_found_and_identified() {
    for logical in [512, 4096] {
        let bus = Bus::new(logical, SECTORS);
        let mut drive = start(&bus);
        let information = drive.information();
        assert_eq!(information.model(), "BULKHEAD TEST DRIVE");
        assert_eq!((&information.serial[..14], &information.firmware), (&b"SERIAL OF AHCI"[..], b"FW 3    "));
        assert_eq!(
            (information.sectors, information.logical_block_size),
            (SECTORS * logical as u64 / 512, logical as u32)
        );
        assert_eq!((information.depth, information.queues), (32, 1));
        assert!(information.write_cache && information.flush && information.discard.is_some());
        drive.submit(31, READ, DATA).unwrap();
        assert_eq!(interrupt(&mut drive, &bus), [(31, Ok(()))]);
    }
}

#[test]
fn the_depth_is_what_both_have() {
    for (capabilities, word, depth, command) in
        [(31 << 8, 31, 1, 0xc8), (1 << 30 | 31 << 8, 6, 7, 0x60), (1 << 30 | 3 << 8, 31, 4, 0x60)]
    {
        let bus = Bus::new(512, SECTORS);
        bus.0.borrow_mut().capabilities = capabilities;
        bus.0.borrow_mut().identify[75] = word;
        let mut drive = start(&bus);
        assert_eq!(drive.information().depth, depth);
        assert_eq!(drive.submit(depth, Command::Flush, []), Err(SubmitError::Busy));
        drive.submit(0, READ, DATA).unwrap();
        assert_eq!(bus.0.borrow().commands, [command]);
    }
}

#[test]
fn drives_that_cannot_be_used_are_refused() {
    let refuse = |error, change: fn(&mut Controller)| {
        let bus = Bus::new(512, SECTORS);
        change(&mut bus.0.borrow_mut());
        assert_eq!(AhciDrive::start(bus.clone(), bus.clone(), &mut bus.dma()).err(), Some(error));
    };
    refuse(StartError::Absent, |controller| controller.fault = Fault::Gone);
    refuse(StartError::Timeout, |controller| controller.fault = Fault::Firmware);
    refuse(StartError::Timeout, |controller| controller.fault = Fault::HostReset);
    refuse(StartError::NoDrive, |controller| controller.fault = Fault::NoLink);
    refuse(StartError::NoDrive, |controller| controller.fault = Fault::NotReady);
    refuse(StartError::Timeout, |controller| controller.fault = Fault::Silent);
    refuse(StartError::Refused, |controller| controller.fault = Fault::Short);
    refuse(StartError::Unusable(Unusable::SectorSize), |controller| controller.identify[117] = 0);
    refuse(StartError::Unusable(Unusable::Empty), |controller| controller.identify[100..104].fill(0));
    let bus = Bus::new(512, SECTORS);
    let mut less = bus.dma().part(0, DMA_BYTES - 8).unwrap();
    assert_eq!(AhciDrive::start(bus.clone(), bus.clone(), &mut less).err(), Some(StartError::Memory));
}

#[test]
fn wrong_commands_are_refused() {
    let bus = Bus::new(4096, SECTORS);
    let mut drive = start(&bus);
    let mut refuse = |first_sector, sectors, segments: &[PhysicalSegment], error| {
        let command = Command::Write { first_sector, sectors };
        assert_eq!(drive.submit(0, command, segments.iter().copied()), Err(error));
    };
    refuse(8 * SECTORS, 8, &DATA, SubmitError::Range);
    refuse(u64::MAX - 7, 8, &DATA, SubmitError::Range);
    refuse(0, 0, &DATA, SubmitError::Range);
    refuse(4, 8, &DATA, SubmitError::Range);
    refuse(0, 4, &DATA, SubmitError::Range);
    refuse(0, 16, &DATA, SubmitError::Length);
    refuse(0, 8, &[], SubmitError::Length);
    for bad in [segment(0x1001, 4096), segment(0x1000, 4095), segment(1 << 62, 4096), segment(u64::MAX - 1, 4096)] {
        refuse(0, 8, &[bad], SubmitError::Segments);
    }
    let scattered: Vec<_> = (0..121).map(|index| segment(index * 8192, 4096)).collect();
    refuse(0, 968, &scattered, SubmitError::Segments);
    let zeroes = Command::WriteZeroes { first_sector: 0, sectors: 8, unmap: false };
    assert_eq!(drive.submit(0, zeroes, []), Err(SubmitError::Unsupported));
    assert_eq!((drive.deadline(), &bus.0.borrow().commands[..]), (None, &[][..]));
}

#[test]
fn a_controller_of_32_bits_is_given_nothing_above() {
    let bus = Bus::new(512, SECTORS);
    bus.0.borrow_mut().capabilities &= !(1 << 31);
    let mut drive = start(&bus);
    let high = [segment(0xffff_f000, 8192)];
    assert_eq!(drive.fitting(high, 8192), 0);
    assert_eq!(drive.submit(0, Command::Read { first_sector: 0, sectors: 16 }, high), Err(SubmitError::Segments));
}

#[test]
fn commands_fit_the_address() {
    let bus = Bus::new(512, SECTORS);
    let mut drive = start_simple(&bus);
    for (first_sector, sectors, command) in
        [(0, 256, 0xc8), (0, 257, 0x25), (0xfff_ffff, 1, 0xc8), (0xfff_ffff, 2, 0x25), (0x1000_0000, 65536, 0x25)]
    {
        let data = [segment(0x100_0000, u64::from(sectors) * 512)];
        drive.submit(0, Command::Read { first_sector, sectors }, data).unwrap();
        assert_eq!(interrupt(&mut drive, &bus), [(0, Ok(()))]);
        assert_eq!(bus.0.borrow_mut().commands.pop(), Some(command));
    }
    drive.submit(0, Command::Flush, []).unwrap();
    assert_eq!(interrupt(&mut drive, &bus), [(0, Ok(()))]);
    assert_eq!(bus.0.borrow().commands, [0xea]);
}

#[test]
fn commands_without_queuing_go_alone_and_in_turn() {
    let bus = Bus::new(512, SECTORS);
    let mut drive = start(&bus);
    bus.0.borrow_mut().at_once = false;
    drive.submit(0, READ, DATA).unwrap();
    drive.submit(1, READ, DATA).unwrap();
    drive.submit(2, Command::Flush, []).unwrap();
    drive.submit(3, READ, DATA).unwrap();
    drive.submit(4, Command::Discard { first_sector: 0, sectors: 1 }, []).unwrap();
    drive.submit(5, READ, DATA).unwrap();
    let mut order = Vec::new();
    while bus.0.borrow().waiting() > 0 {
        bus.0.borrow_mut().execute(0);
        order.extend(interrupt(&mut drive, &bus).into_iter().map(|(tag, end)| end.map(|()| tag).unwrap()));
    }
    assert_eq!(order, [0, 1, 2, 3, 4, 5]);
    assert_eq!(bus.0.borrow().commands, [0x60, 0x60, 0xea, 0x60, 6, 0x60]);
}

#[test]
fn ranges_are_trimmed() {
    for logical in [512, 4096] {
        let bus = Bus::new(logical, SECTORS);
        let mut drive = start(&bus);
        let scale = logical as u64 / 512;
        for sector in 0..64 {
            bus.0.borrow_mut().disk.insert(sector * 0x8000, vec![1; logical]);
        }
        let limits = drive.information().discard.unwrap();
        assert_eq!(u64::from(limits.sectors), 64 * 0xffff * scale);
        let discard = Command::Discard { first_sector: 0x8000 * scale, sectors: 0xf_8001 * scale as u32 };
        drive.submit(0, discard, []).unwrap();
        assert_eq!(interrupt(&mut drive, &bus), [(0, Ok(()))]);
        let left: Vec<u64> = (0..64).filter(|sector| bus.0.borrow().disk.contains_key(&(sector * 0x8000))).collect();
        assert_eq!(left, [0].into_iter().chain(33..64).collect::<Vec<_>>());
    }
}

#[test]
fn an_error_without_queuing_fails_its_command_alone() {
    let bus = Bus::new(512, SECTORS);
    let mut drive = start_simple(&bus);
    bus.0.borrow_mut().bad.insert(8);
    drive.submit(0, READ, DATA).unwrap();
    assert_eq!(pass_time(&mut drive, &bus, 1), [(0, Err(CommandError::Drive))]);
    assert_eq!(pass_time(&mut drive, &bus, 1), []);
    let good = Command::Write { first_sector: 16, sectors: 8 };
    drive.submit(0, good, DATA).unwrap();
    assert_eq!(interrupt(&mut drive, &bus), [(0, Ok(()))]);
    assert_eq!((bus.0.borrow().link_resets, bus.0.borrow().host_resets), (1, 1));
}

#[test]
fn an_error_with_queuing_fails_the_command_that_made_it() {
    let bus = Bus::new(512, SECTORS);
    let mut drive = start(&bus);
    bus.0.borrow_mut().at_once = false;
    bus.0.borrow_mut().bad.insert(8);
    for tag in 0..6 {
        let first_sector = if tag == 2 { 8 } else { 1000 + u64::from(tag) * 8 };
        drive.submit(tag, Command::Write { first_sector, sectors: 8 }, DATA).unwrap();
    }
    drive.submit(6, Command::Flush, []).unwrap();
    // One is done before the error, the others are not.
    bus.0.borrow_mut().execute(4);
    bus.0.borrow_mut().execute(2);
    bus.0.borrow_mut().at_once = true;
    let mut ends = pass_time(&mut drive, &bus, 7);
    ends.sort_by_key(|(tag, _)| *tag);
    let expected: Vec<_> = (0..7).map(|tag| (tag, if tag == 2 { Err(CommandError::Drive) } else { Ok(()) })).collect();
    assert_eq!(ends, expected);
    assert_eq!(bus.0.borrow().link_resets, 2);
    // Afterwards commands go together again.
    bus.0.borrow_mut().at_once = false;
    pass_time(&mut drive, &bus, usize::MAX);
    for tag in 0..3 {
        drive.submit(tag, Command::Read { first_sector: 500, sectors: 8 }, DATA).unwrap();
    }
    assert_eq!(bus.0.borrow().waiting(), 3);
}

#[test]
fn transfers_that_fail_or_are_cut_short_are_reported() {
    let bus = Bus::new(512, SECTORS);
    let mut drive = start_simple(&bus);
    bus.0.borrow_mut().fault = Fault::Short;
    drive.submit(0, READ, DATA).unwrap();
    assert_eq!(interrupt(&mut drive, &bus), [(0, Err(CommandError::Transfer))]);
    bus.0.borrow_mut().fault = Fault::Link;
    drive.submit(0, READ, DATA).unwrap();
    assert_eq!(pass_time(&mut drive, &bus, 1), [(0, Err(CommandError::Transfer))]);
}

#[test]
fn a_failed_flush_is_reported() {
    let bus = Bus::new(512, SECTORS);
    let mut drive = start(&bus);
    bus.0.borrow_mut().bad.insert(u64::MAX);
    drive.submit(9, Command::Flush, []).unwrap();
    assert_eq!(pass_time(&mut drive, &bus, 1), [(9, Err(CommandError::Drive))]);
}

#[test]
fn a_silent_drive_is_reset() {
    for simple in [false, true] {
        let bus = Bus::new(512, SECTORS);
        let mut drive = if simple { start_simple(&bus) } else { start(&bus) };
        for _ in 0..3 {
            let resets = bus.0.borrow().link_resets;
            bus.0.borrow_mut().fault = Fault::Silent;
            drive.submit(0, READ, DATA).unwrap();
            assert_eq!(interrupt(&mut drive, &bus), []);
            assert_eq!(pass_time(&mut drive, &bus, 1), [(0, Err(CommandError::Timeout))]);
            assert_eq!(drive.submit(0, READ, DATA), Err(SubmitError::Busy));
            assert_eq!(pass_time(&mut drive, &bus, 1), []);
            assert_eq!(bus.0.borrow().link_resets, resets + 1);
            drive.submit(0, READ, DATA).unwrap();
            assert_eq!(interrupt(&mut drive, &bus), [(0, Ok(()))]);
        }
    }
}

#[test]
fn commands_that_waited_are_done_after_a_reset() {
    let bus = Bus::new(512, SECTORS);
    let mut drive = start(&bus);
    bus.0.borrow_mut().fault = Fault::Silent;
    drive.submit(0, READ, DATA).unwrap();
    drive.submit(1, Command::Flush, []).unwrap();
    let ends = pass_time(&mut drive, &bus, 2);
    assert_eq!(ends, [(0, Err(CommandError::Timeout)), (1, Ok(()))]);
}

#[test]
fn a_port_that_does_not_stop_has_the_controller_reset() {
    let bus = Bus::new(512, SECTORS);
    let mut drive = start(&bus);
    bus.0.borrow_mut().fault = Fault::Stuck(false);
    drive.submit(0, READ, DATA).unwrap();
    assert_eq!(pass_time(&mut drive, &bus, 1), [(0, Err(CommandError::Timeout))]);
    assert_eq!(bus.0.borrow().host_resets, 2);
    pass_time(&mut drive, &bus, 1);
    drive.submit(0, READ, DATA).unwrap();
    assert_eq!(interrupt(&mut drive, &bus), [(0, Ok(()))]);
}

#[test]
fn a_drive_that_does_not_come_back_is_dead() {
    for fault in [Fault::Stuck(true), Fault::NoLink, Fault::NotReady, Fault::Gone] {
        let bus = Bus::new(512, SECTORS);
        let mut drive = start(&bus);
        bus.0.borrow_mut().fault = fault;
        drive.submit(0, READ, DATA).unwrap();
        drive.submit(1, Command::Flush, []).unwrap();
        let ends = pass_time(&mut drive, &bus, 2);
        assert_eq!(ends.len(), 2);
        assert_eq!(ends[1], (1, Err(CommandError::Dead)), "{fault:?}");
        assert!(drive.is_dead() && drive.deadline().is_none());
        assert_eq!(drive.submit(2, READ, DATA), Err(SubmitError::Busy));
    }
}

#[test]
fn a_drive_that_is_removed_is_dead_at_once() {
    let bus = Bus::new(512, SECTORS);
    let mut drive = start(&bus);
    bus.0.borrow_mut().at_once = false;
    drive.submit(0, READ, DATA).unwrap();
    drive.submit(1, Command::Flush, []).unwrap();
    bus.0.borrow_mut().unplug();
    drive.on_interrupt(&mut |_, end| assert_eq!(end, Err(CommandError::Dead)));
    assert!(drive.is_dead());
}

#[test]
fn a_lost_interrupt_is_made_up_for() {
    let bus = Bus::new(512, SECTORS);
    let mut drive = start(&bus);
    bus.0.borrow_mut().fault = Fault::LostInterrupt;
    drive.submit(0, READ, DATA).unwrap();
    assert_eq!(pass_time(&mut drive, &bus, 1), [(0, Ok(()))]);
    assert_eq!(bus.0.borrow().link_resets, 0);
}

#[test]
fn slots_that_nobody_gave_to_the_port_are_not_believed() {
    let bus = Bus::new(512, SECTORS);
    let mut drive = start(&bus);
    bus.0.borrow_mut().ghosts = !1;
    drive.submit(0, READ, DATA).unwrap();
    assert_eq!(interrupt(&mut drive, &bus), [(0, Ok(()))]);
    bus.0.borrow_mut().ghosts = 0;
    drive.on_interrupt(&mut |_, _| panic!("nothing was under way"));
    // A slot that stays busy for ever ends by its time.
    bus.0.borrow_mut().ghosts = 1;
    drive.submit(0, READ, DATA).unwrap();
    assert_eq!(pass_time(&mut drive, &bus, 1), [(0, Err(CommandError::Timeout))]);
}

/// Segments that a controller takes: even, of any size.
fn pieces() -> impl Strategy<Value = Vec<PhysicalSegment>> {
    let piece = (0u64..0x10_0000, prop_oneof![Just(4096u64), Just(512), (1u64..5000).prop_map(|half| half * 2)])
        .prop_map(|(address, length)| segment(0x1000_0000 + address * 2, length));
    proptest::collection::vec(piece, 1..130)
}

/// A command under way: its range, and what has to be read.
type Flying = (u64, u32, Option<Vec<u8>>);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// What is said to fit is taken, and arrives.
    #[test]
    fn data_arrive(pieces in pieces(), large: bool, simple: bool, sector in 0u64..100, seed: u8) {
        let logical = if large { 4096 } else { 512 };
        let bus = Bus::new(logical as usize, SECTORS);
        let mut drive = if simple { start_simple(&bus) } else { start(&bus) };
        let bytes = drive.fitting(pieces.iter().copied(), 256 << 10);
        let sum: u64 = pieces.iter().take(120).map(|piece| piece.length).sum();
        prop_assert_eq!(bytes, sum.min(256 << 10) / logical * logical);
        prop_assume!(bytes > 0);
        let mut left = bytes;
        let cut: Vec<_> = pieces.iter().map(|piece| {
            let length = piece.length.min(left);
            left -= length;
            segment(piece.address, length)
        }).filter(|piece| piece.length != 0).collect();
        for (index, piece) in cut.iter().enumerate() {
            for offset in 0..piece.length {
                bus.0.borrow_mut().poke(piece.address + offset, seed ^ (index as u64 * 31 + offset) as u8);
            }
        }
        // Pieces may overlap: what the memory holds in the end is what is written.
        let places = || cut.iter().flat_map(|piece| piece.address..piece.address + piece.length);
        let expected: Vec<u8> = places().map(|address| bus.0.borrow().peek(address)).collect();
        let (first_sector, sectors) = (sector * logical / 512, (bytes / 512) as u32);
        drive.submit(0, Command::Write { first_sector, sectors }, cut.iter().copied()).unwrap();
        prop_assert_eq!(interrupt(&mut drive, &bus), [(0, Ok(()))]);
        drive.submit(0, Command::Read { first_sector, sectors }, [segment(0x8000_0002, bytes)]).unwrap();
        prop_assert_eq!(interrupt(&mut drive, &bus), [(0, Ok(()))]);
        for (offset, byte) in expected.into_iter().enumerate() {
            prop_assert_eq!(bus.0.borrow().peek(0x8000_0002 + offset as u64), byte);
        }
    }

    /// Many commands in flight, done in any order, some of them failing, against a model of the disk: every command ends once, and
    /// fails only if it touches a sector that is bad.
    #[test]
    fn the_disk_is_what_was_written(
        steps in proptest::collection::vec((0u16..32, 0u64..32, 1u32..5, 0u8..6, any::<u8>(), any::<usize>()), 1..80),
        bad in proptest::collection::vec(0u64..36, 0..2))
    {
        let bus = Bus::new(512, SECTORS);
        let mut drive = start(&bus);
        bus.0.borrow_mut().at_once = false;
        bus.0.borrow_mut().bad.extend(bad.iter().copied());
        let mut model = vec![0u8; 40];
        let mut flying: Vec<Option<Flying>> = vec![None; 32];
        let buffer = |tag: u16| 0x200_0000 + u64::from(tag) * 0x1_0000;
        let is_bad = |first: u64, count: u32| bad.iter().any(|sector| (first..first + u64::from(count)).contains(sector));
        let end = |flying: &mut Vec<Option<Flying>>, ends: Vec<(u16, Completion)>| {
            for (tag, end) in ends {
                let (first, count, expected) = flying[usize::from(tag)].take().expect("a command in flight");
                let fails = count > 0 && is_bad(first, count);
                prop_assert_eq!(end, if fails { Err(CommandError::Drive) } else { Ok(()) });
                for (index, byte) in expected.into_iter().flatten().enumerate().filter(|_| !fails) {
                    prop_assert_eq!(bus.0.borrow().peek(buffer(tag) + 512 * index as u64), byte);
                }
            }
            Ok(())
        };
        for (tag, first_sector, sectors, kind, value, pick) in steps {
            let waiting = bus.0.borrow().waiting();
            if waiting > 0 && pick % 3 != 0 {
                bus.0.borrow_mut().execute(pick % waiting);
            }
            let ends = interrupt(&mut drive, &bus);
            end(&mut flying, ends)?;
            if pick % 5 == 0 {
                let now = bus.0.borrow().now;
                for _ in 0..20 {
                    let mut ends = Vec::new();
                    if drive.deadline().is_some_and(|deadline| deadline < now + 1000) {
                        bus.0.borrow_mut().now += 2;
                        drive.on_time(&mut |tag, completion| ends.push((tag, completion)));
                    }
                    end(&mut flying, ends)?;
                }
            }
            let range = first_sector..first_sector + u64::from(sectors);
            let overlaps = flying.iter().flatten().any(|(first, count, _)| {
                *first < range.end && range.start < first + u64::from(*count)
            });
            let flush = kind == 5;
            if flying[usize::from(tag)].is_some() || overlaps && !flush {
                continue;
            }
            let places = first_sector as usize..range.end as usize;
            let data = [segment(buffer(tag), 512 * u64::from(sectors))];
            let command = match kind {
                0..2 => Command::Read { first_sector, sectors },
                2..4 => {
                    for offset in 0..512 * u64::from(sectors) {
                        bus.0.borrow_mut().poke(buffer(tag) + offset, value);
                    }
                    Command::Write { first_sector, sectors }
                }
                4 => Command::Discard { first_sector, sectors },
                _ => Command::Flush,
            };
            // What touches a bad sector leaves the others unknown: such ranges are only read.
            if is_bad(first_sector, sectors) && kind >= 2 {
                continue;
            }
            let data = if kind < 4 { &data[..] } else { &[] };
            if drive.submit(tag, command, data.iter().copied()).is_err() {
                continue;
            }
            let expected = (kind < 2).then(|| model[places.clone()].to_vec());
            match kind {
                2..4 => model[places].fill(value),
                4 => model[places].fill(0),
                _ => {}
            }
            flying[usize::from(tag)] = Some(if flush { (0, 0, None) } else { (first_sector, sectors, expected) });
        }
        bus.0.borrow_mut().at_once = true;
        let mut rounds = 0;
        while flying.iter().any(Option::is_some) {
            if bus.0.borrow().waiting() > 0 {
                bus.0.borrow_mut().execute(0);
            }
            let mut ends = interrupt(&mut drive, &bus);
            if ends.is_empty() && bus.0.borrow().waiting() == 0 {
                ends = pass_time(&mut drive, &bus, 1);
            }
            end(&mut flying, ends)?;
            rounds += 1;
            prop_assert!(rounds < 1000);
        }
        for (sector, byte) in model.into_iter().enumerate() {
            prop_assert_eq!(bus.0.borrow().disk.get(&(sector as u64)).map_or(0, |data| data[511]), byte);
        }
    }
}
