//! A guest's disk that is copied: the guest's driver, the emulator in its monitor over a [`CopyDrive`], and the service behind it, which
//! sees the bounce memory alone.

use crate::drive::Machine;
use crate::{Bell, Server, Share, bytes, channel};
use bulkhead_block_client::{BlockClient, CopyDrive, MEMORY_BYTES, SameAddress};
use bulkhead_block_device::{Disk, DiskRange, NoBounce, Service, Withheld};
use bulkhead_doubles::{FlatMemory, Time, WordMemory};
use bulkhead_driver::{Command, Completion, DmaMemory, Drive, PhysicalSegment, SECTOR, SubmitError};
use bulkhead_virtio::GuestMemory;
use proptest::prelude::*;

const SECTORS: u64 = 400;
const RAM: usize = 1 << 20;

/// A drive that copies to and from this memory, once its client knows the disk.
fn copy_drive<M: GuestMemory>(
    share: &Share,
    server: &mut Server,
    memory: M,
) -> CopyDrive<'static, Bell, M, DmaMemory<'static>> {
    let mut client = share.client();
    for _ in 0..4 {
        server.work();
        client.poll(&mut |_, _| panic!("nothing was asked for"));
    }
    let buffers = client.buffers();
    CopyDrive::new(client, buffers, memory).unwrap()
}

fn ends(drive: &mut impl Drive) -> Vec<(u16, Completion)> {
    let mut ends = Vec::new();
    drive.on_interrupt(&mut |tag, end| ends.push((tag, end)));
    ends
}

/// Cuts `length` bytes into pieces, each at a place of its own.
fn scattered(cuts: &[u16], length: u64, mut place: u64) -> Vec<PhysicalSegment> {
    let mut left = length;
    let mut segments = Vec::new();
    for cut in cuts.iter().map(|cut| u64::from(*cut)).chain([length]) {
        let piece = cut.clamp(1, left.max(1)).min(left);
        if piece != 0 {
            segments.push(PhysicalSegment { address: place, length: piece });
            (left, place) = (left - piece, place + piece + 3);
        }
    }
    segments
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    /// Data are the same however the guest cuts them, and nothing beside the target changes.
    #[test]
    fn data_are_copied_whatever_pieces_they_are_in(
        cuts in proptest::collection::vec(1..5000u16, 0..12),
        others in proptest::collection::vec(1..5000u16, 0..12),
        first_sector in 0..SECTORS - 128,
        sectors in 1..=128u32,
        seed in any::<u8>(),
    ) {
        let machine = Machine::new();
        let share = Share::new(&machine, 8, SECTORS, false);
        let mut server = Server::new(&machine, std::slice::from_ref(&share));
        let ram = FlatMemory::new(RAM, 1 << 50);
        let mut drive = copy_drive(&share, &mut server, ram.clone());
        let length = u64::from(sectors) * SECTOR;
        let (from, to) = (scattered(&cuts, length, 0x1001), scattered(&others, length, 0x4_0000));
        let data: Vec<u8> = (0..length).map(|at| (at / 5) as u8 ^ seed).collect();
        let mut rest = &data[..];
        for segment in &from {
            let (now, later) = rest.split_at(segment.length as usize);
            ram.write(segment.address, now).unwrap();
            rest = later;
        }
        prop_assert_eq!(drive.fitting(from.iter().copied(), u64::MAX), length);
        drive.submit(2, Command::Write { first_sector, sectors }, from).unwrap();
        // From here on the guest may change its memory.
        ram.write(0x1001, &vec![0xee; 0x2_0000]).unwrap();
        server.finish();
        prop_assert_eq!(ends(&mut drive), [(2, Ok(()))]);
        let before = bytes(&ram, 0, RAM);
        drive.submit(5, Command::Read { first_sector, sectors }, to.iter().copied()).unwrap();
        prop_assert_eq!(drive.submit(5, Command::Flush, []), Err(SubmitError::Busy));
        server.finish();
        prop_assert_eq!(ends(&mut drive), [(5, Ok(()))]);
        let mut expected = before;
        let mut rest = &data[..];
        for segment in &to {
            let (now, later) = rest.split_at(segment.length as usize);
            expected[segment.address as usize..][..now.len()].copy_from_slice(now);
            rest = later;
        }
        prop_assert!(bytes(&ram, 0, RAM) == expected);
    }

    /// A guest's disk over it all keeps its data while the service ends again and again.
    #[test]
    fn a_guest_notices_nothing_of_a_service_that_ends(
        writes in proptest::collection::vec((0..SECTORS - 128, 1..=128u32, any::<bool>()), 1..24),
    ) {
        let machine = Machine::new();
        let share = Share::new(&machine, 8, SECTORS, false);
        let mut server = Server::new(&machine, std::slice::from_ref(&share));
        // The guest's driver is a client, too; all of the guest's memory is what it shares with its monitor.
        let ram = WordMemory::new(MEMORY_BYTES, 1 << 50);
        let drive = copy_drive(&share, &mut server, ram);
        let page = channel();
        let mut emulator = Service::new(drive, Time::default(), NoBounce);
        let range =
            DiskRange { name: "guest/0", first_sector: 0, sectors: SECTORS, read_only: false, withheld: Withheld::default() };
        let disk = Disk::publish(page, SameAddress(ram), range, emulator.information()).unwrap();
        emulator.add(disk.with_prompt_answers()).unwrap();
        let mut guest = BlockClient::attach(page, ram.words(), Bell::default()).unwrap();
        let mut model = vec![0; (SECTORS * SECTOR) as usize];
        for (number, (first_sector, sectors, restart)) in writes.into_iter().enumerate() {
            let length = sectors as usize * 512;
            let data = vec![number as u8 + 1; length];
            model[first_sector as usize * 512..][..length].copy_from_slice(&data);
            guest.buffer(0).unwrap().write(0, &data);
            guest.submit(0, Command::Write { first_sector, sectors }).unwrap();
            let mut ended = false;
            for round in 0..12 {
                while emulator.work() {}
                server.work();
                if restart && round == 3 {
                    server.restart();
                }
                server.finish();
                emulator.on_interrupt();
                while emulator.work() {}
                guest.poll(&mut |_, end| {
                    assert_eq!(end, Ok(()));
                    ended = true;
                });
            }
            prop_assert!(ended);
        }
        prop_assert!(machine.medium.borrow()[8 * 512..][..model.len()] == model);
        let information = guest.information().unwrap();
        prop_assert_eq!((information.sectors, information.physical_exponent, information.queues), (SECTORS, 3, 2));
        prop_assert!(information.flush && information.discard.is_some() && information.write_zeroes.is_some());
    }
}

#[test]
fn what_is_not_the_guests_memory_or_not_on_the_disk_is_refused() {
    let machine = Machine::new();
    let share = Share::new(&machine, 8, SECTORS, false);
    let mut server = Server::new(&machine, std::slice::from_ref(&share));
    let mut drive = copy_drive(&share, &mut server, FlatMemory::new(4096, 0));
    let segment = |address, length| [PhysicalSegment { address, length }];
    let write = Command::Write { first_sector: 0, sectors: 1 };
    assert_eq!(drive.submit(0, write, segment(4000, 512)), Err(SubmitError::Segments));
    assert_eq!(drive.submit(0, write, segment(u64::MAX - 1, 512)), Err(SubmitError::Segments));
    assert_eq!(drive.submit(0, write, segment(0, 511)), Err(SubmitError::Length));
    assert_eq!(drive.submit(0, write, segment(0, u64::MAX)), Err(SubmitError::Segments));
    let read = Command::Read { first_sector: SECTORS, sectors: 1 };
    assert_eq!(drive.submit(0, read, segment(0, 512)), Err(SubmitError::Range));
    assert_eq!(drive.submit(0, Command::Read { first_sector: 0, sectors: 1 }, segment(4000, 512)), Ok(()));
    server.finish();
    assert_eq!(ends(&mut drive), [(0, Err(bulkhead_driver::CommandError::Transfer))]);
}
