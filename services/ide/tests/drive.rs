//! The driver against a controller in memory.

mod common;
use common::*;

use bulkhead_ata::Unusable;
use bulkhead_driver::{Command, CommandError, Completion, Drive, PhysicalSegment, SubmitError};
use bulkhead_ide::*;
use proptest::prelude::*;

fn start<'a>(bus: &Bus, table: &'a [std::sync::atomic::AtomicU64]) -> IdeDrive<'a, Bus, Bus> {
    let table = PrdTable::new(table, TABLE_PHYSICAL).unwrap();
    IdeDrive::start(bus.clone(), bus.clone(), table, Position::First).unwrap()
}

fn segment(address: u64, length: u64) -> PhysicalSegment {
    PhysicalSegment { address, length }
}

fn on_interrupt(drive: &mut IdeDrive<'_, Bus, Bus>) -> Option<Completion> {
    let mut end = None;
    drive.on_interrupt(&mut |tag, completion| end = (tag == 0).then_some(completion));
    end
}

fn on_time(drive: &mut IdeDrive<'_, Bus, Bus>) -> Option<Completion> {
    let mut end = None;
    drive.on_time(&mut |tag, completion| end = (tag == 0).then_some(completion));
    end
}

/// Submits a command and delivers its interrupt.
fn run(
    drive: &mut IdeDrive<'_, Bus, Bus>,
    bus: &Bus,
    command: Command,
    segments: &[PhysicalSegment],
) -> Option<Completion> {
    drive.submit(0, command, segments.iter().copied()).unwrap();
    assert!(!drive.is_idle());
    assert_eq!(drive.submit(0, Command::Flush, []), Err(SubmitError::Busy));
    let interrupt = bus.0.borrow().interrupt;
    if interrupt { on_interrupt(drive) } else { None }
}

#[test]
fn a_drive_is_identified() {
    for lba48 in [true, false] {
        let bus = Bus::new(lba48);
        let table = bus.table();
        let drive = start(&bus, table);
        let information = drive.information();
        assert_eq!(information.model(), "BULKHEAD TEST DRIVE");
        assert_eq!(information.command_bytes, if lba48 { 32 << 20 } else { 128 << 10 });
        assert_eq!((information.depth, information.queues, information.logical_block_size), (1, 1, 512));
        assert_eq!(information.sectors, if lba48 { DRIVE_SECTORS } else { 0xfff_ffff });
        assert!(information.flush);
        assert!(drive.is_idle());
        assert!(!bus.0.borrow().interrupt);
    }
}

#[test]
fn drives_that_cannot_be_used_are_refused() {
    let refuse = |error, change: fn(&mut Controller)| {
        let bus = Bus::new(true);
        change(&mut bus.0.borrow_mut());
        let table = bus.table();
        let table = PrdTable::new(table, TABLE_PHYSICAL).unwrap();
        assert_eq!(IdeDrive::start(bus.clone(), bus.clone(), table, Position::First).err(), Some(error));
    };
    refuse(StartError::Absent, |controller| controller.drive_present = false);
    refuse(StartError::Timeout, |controller| controller.fault = Fault::Silence(true));
    refuse(StartError::Unusable(Unusable::NotAta), |controller| controller.identify[0] = 0x8500);
    refuse(StartError::Unusable(Unusable::NoLba), |controller| controller.identify[49] = 0x100);
    refuse(StartError::Unusable(Unusable::NoDma), |controller| controller.identify[49] = 0x200);
    refuse(StartError::Unusable(Unusable::Empty), |controller| controller.identify[100..104].fill(0));
    refuse(StartError::Unusable(Unusable::SectorSize), |controller| {
        controller.identify[106] = 0x5000;
        controller.identify[117] = 2048;
    });
}

#[test]
fn the_controller_is_found_and_enabled() {
    let bus = Bus::new(true);
    let function = pci::find(&bus).unwrap();
    assert_eq!(function, pci::Function { bus: 0, device: 1, function: 1 });
    pci::enable(&bus, function, 0xc000).unwrap();
    assert_eq!(bus.0.borrow().pci[8], 0xc001);
    assert_eq!(bus.0.borrow().pci[1], 0x0280_0005);
    bus.0.borrow_mut().pci[2] = 0x0101_8100;
    assert_eq!(pci::enable(&bus, function, 0xc000), Err(pci::PciError::NativeMode));
    bus.0.borrow_mut().pci[2] = 0x0101_0000;
    assert_eq!(pci::enable(&bus, function, 0xc000), Err(pci::PciError::NoBusMaster));
    bus.0.borrow_mut().pci[2] = 0x0200_0000;
    assert_eq!(pci::find(&bus), Err(pci::PciError::NotFound));
}

#[test]
fn commands_fit_the_address() {
    let bus = Bus::new(true);
    let table = bus.table();
    let mut drive = start(&bus, table);
    let data = [segment(0x10_0000, 512)];
    for (first_sector, command) in [(5, 0xc8), (0xfff_ffff, 0xc8), (0x1000_0000, 0x25)] {
        assert_eq!(run(&mut drive, &bus, Command::Read { first_sector, sectors: 1 }, &data), Some(Ok(())));
        assert_eq!(bus.0.borrow().commands.last(), Some(&command));
    }
    let data = [segment(0x10_0000, 257 * 512)];
    assert_eq!(run(&mut drive, &bus, Command::Write { first_sector: 0, sectors: 257 }, &data), Some(Ok(())));
    assert_eq!(bus.0.borrow().commands.last(), Some(&0x35));
    let data = [segment(0x10_0000, 256 * 512)];
    assert_eq!(run(&mut drive, &bus, Command::Write { first_sector: 0, sectors: 256 }, &data), Some(Ok(())));
    assert_eq!(bus.0.borrow().commands.last(), Some(&0xca));
    assert_eq!(run(&mut drive, &bus, Command::Flush, &[]), Some(Ok(())));
    assert_eq!(bus.0.borrow().commands.last(), Some(&0xea));
}

#[test]
fn wrong_commands_are_refused() {
    let bus = Bus::new(true);
    let table = bus.table();
    let mut drive = start(&bus, table);
    let mut refuse = |first_sector, sectors, segments: &[PhysicalSegment], error| {
        let command = Command::Write { first_sector, sectors };
        assert_eq!(drive.submit(0, command, segments.iter().copied()), Err(error));
        assert!(drive.is_idle());
    };
    let data = [segment(0x1000, 512)];
    refuse(DRIVE_SECTORS, 1, &data, SubmitError::Range);
    refuse(u64::MAX, 1, &data, SubmitError::Range);
    refuse(0, 0, &data, SubmitError::Range);
    refuse(0, 65537, &data, SubmitError::Range);
    refuse(0, 2, &data, SubmitError::Length);
    refuse(0, 1, &[], SubmitError::Length);
    for bad in [segment(0x1001, 512), segment(0x1000, 511), segment(0xffff_ff00, 512), segment(u64::MAX - 1, 512)] {
        refuse(0, 1, &[bad], SubmitError::Segments);
    }
    let scattered: Vec<_> = (0..33).map(|index| segment(index * 4096, 512)).collect();
    refuse(0, 33, &scattered, SubmitError::Segments);
    assert!(bus.0.borrow().commands.iter().all(|command| *command == 0xec));
}

#[test]
fn errors_are_reported_and_the_drive_goes_on() {
    let bus = Bus::new(true);
    let table = bus.table();
    let mut drive = start(&bus, table);
    let data = [segment(0x1000, 512)];
    let read = Command::Read { first_sector: 0, sectors: 1 };
    for (fault, error) in [(Fault::Drive, CommandError::Drive), (Fault::Bus, CommandError::Transfer)] {
        bus.0.borrow_mut().fault = fault;
        assert_eq!(run(&mut drive, &bus, read, &data), Some(Err(error)));
        bus.0.borrow_mut().fault = Fault::None;
        assert_eq!(run(&mut drive, &bus, read, &data), Some(Ok(())));
    }
    bus.0.borrow_mut().fault = Fault::Drive;
    assert_eq!(run(&mut drive, &bus, Command::Flush, &[]), Some(Err(CommandError::Drive)));
}

/// Lets time pass until the command ends.
fn pass_time(drive: &mut IdeDrive<'_, Bus, Bus>, bus: &Bus) -> Completion {
    for _ in 0..100_000 {
        let deadline = drive.deadline().expect("the drive waits for something");
        let now = bus.0.borrow().now.max(deadline);
        bus.0.borrow_mut().now = now;
        if let Some(completion) = on_time(drive) {
            return completion;
        }
    }
    panic!("the command never ended");
}

#[test]
fn a_silent_drive_is_reset() {
    let bus = Bus::new(true);
    let table = bus.table();
    let mut drive = start(&bus, table);
    let data = [segment(0x1000, 512)];
    let read = Command::Read { first_sector: 0, sectors: 1 };
    for command in [read, Command::Flush] {
        bus.0.borrow_mut().fault = Fault::Silence(false);
        let segments = if command == read { &data[..] } else { &[] };
        assert_eq!(run(&mut drive, &bus, command, segments), None);
        assert_eq!(on_time(&mut drive), None);
        assert_eq!(on_interrupt(&mut drive), None);
        let resets = bus.0.borrow().resets;
        assert_eq!(pass_time(&mut drive, &bus), Err(CommandError::Timeout));
        assert_eq!(bus.0.borrow().resets, resets + 1);
        assert_eq!(run(&mut drive, &bus, read, &data), Some(Ok(())));
    }
    bus.0.borrow_mut().fault = Fault::Silence(true);
    assert_eq!(run(&mut drive, &bus, read, &data), None);
    assert_eq!(pass_time(&mut drive, &bus), Err(CommandError::Dead));
    assert!(drive.is_dead());
    assert_eq!(drive.submit(0, Command::Flush, []), Err(SubmitError::Busy));
}

#[test]
fn a_lost_interrupt_is_made_up_for() {
    let bus = Bus::new(true);
    let table = bus.table();
    let mut drive = start(&bus, table);
    bus.0.borrow_mut().fault = Fault::LostInterrupt;
    let read = Command::Read { first_sector: 0, sectors: 1 };
    assert_eq!(run(&mut drive, &bus, read, &[segment(0x1000, 512)]), None);
    assert_eq!(pass_time(&mut drive, &bus), Ok(()));
    assert!(drive.is_idle());
}

#[test]
fn tables_must_lie_where_the_controller_reaches_them() {
    let bus = Bus::new(true);
    let memory = bus.table();
    for physical in [4, 0x1_0000_0000, 0x1_ff08, u64::MAX - 7] {
        assert_eq!(PrdTable::new(memory, physical).err(), Some(PrdError::Table), "{physical:#x}");
    }
    assert!(PrdTable::new(memory, 0x1_ff00).is_ok());
    assert!(PrdTable::new(&[], 0).is_err());
}

/// Segments that the controller reaches, 512 bytes in sum.
fn pieces() -> impl Strategy<Value = Vec<PhysicalSegment>> {
    let piece = (0u64..0x20_0000, prop_oneof![Just(512u64), Just(4096), 1u64..3000, Just(0x1_8000)])
        .prop_map(|(address, length)| segment(0x100_0000 + address * 2, length * 2));
    proptest::collection::vec(piece, 1..20)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// What is written to random sectors from random memory is read back from them to other memory.
    #[test]
    fn data_arrive(pieces in pieces(), first_sector in prop_oneof![0u64..1000, DRIVE_SECTORS - 900..DRIVE_SECTORS - 880], seed: u8) {
        let bus = Bus::new(true);
        let table = bus.table();
        let mut drive = start(&bus, table);
        let limit = 16 * 512;
        let bytes = drive.fitting(pieces.iter().copied(), limit);
        let sum: u64 = pieces.iter().map(|piece| piece.length).sum();
        prop_assert_eq!(bytes, sum.min(limit) / 512 * 512);
        prop_assume!(bytes > 0);
        let mut cut = Vec::new();
        let mut left = bytes;
        for piece in &pieces {
            let length = piece.length.min(left);
            left -= length;
            if length > 0 {
                cut.push(segment(piece.address, length));
            }
        }
        for (index, piece) in cut.iter().enumerate() {
            for offset in 0..piece.length {
                bus.0.borrow_mut().poke(piece.address + offset, seed ^ (index as u64 * 31 + offset) as u8);
            }
        }
        // Pieces may overlap: what the memory holds in the end is what is written.
        let expected: Vec<u8> = cut.iter()
            .flat_map(|piece| (piece.address..piece.address + piece.length).collect::<Vec<_>>())
            .map(|address| bus.0.borrow().peek(address)).collect();
        let sectors = (bytes / 512) as u32;
        prop_assert_eq!(run(&mut drive, &bus, Command::Write { first_sector, sectors }, &cut), Some(Ok(())));
        let back = [segment(0x8000_fe00, bytes)];
        prop_assert_eq!(run(&mut drive, &bus, Command::Read { first_sector, sectors }, &back), Some(Ok(())));
        for (offset, byte) in expected.into_iter().enumerate() {
            prop_assert_eq!(bus.0.borrow().peek(0x8000_fe00 + offset as u64), byte);
        }
    }
}

proptest! {
    /// What is said to fit can be filled in, and nothing more is said to fit than there is.
    #[test]
    fn what_fits_can_be_filled_in(
        pieces in proptest::collection::vec((any::<u64>().prop_map(|address| address >> (address % 40 + 20)), 0u64..0x3_0000), 0..50),
        limit in 0u64..0x10_0000)
    {
        let bus = Bus::new(true);
        let memory = bus.table();
        let table = PrdTable::new(memory, TABLE_PHYSICAL).unwrap();
        let pieces: Vec<_> = pieces.into_iter().map(|(address, length)| segment(address, length)).collect();
        let fitting = table.fitting(pieces.iter().copied(), limit);
        prop_assert!(fitting.is_multiple_of(512) && fitting <= limit);
        let mut left = fitting;
        let cut = pieces.iter().map_while(|piece| {
            let length = piece.length.min(left);
            left -= length;
            (left > 0 || length > 0).then_some(segment(piece.address, length))
        });
        let cut: Vec<_> = cut.collect();
        if fitting > 0 {
            prop_assert_eq!(table.fill(cut), Ok(fitting));
        }
    }
}
