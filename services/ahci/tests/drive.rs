//! The driver against a controller in memory.

mod common;
use common::driving::*;
use common::*;

use bulkhead_ahci::*;
use bulkhead_ata::Unusable;
use bulkhead_driver::{Command, CommandError, Drive, PhysicalSegment, SubmitError};

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
