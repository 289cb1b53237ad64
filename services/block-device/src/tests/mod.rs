//! Monitors and guests' drivers against an IDE controller in memory.

mod control;
#[path = "../../../ide/tests/common/mod.rs"]
mod controller;
mod drives;
mod hostile;
mod requests;
mod restart;

use crate::*;
use bulkhead_channel::{AtomicU64, Configuration, Interrupts, MonitorSide, Outcome, QueueConfiguration};
use bulkhead_driver::PhysicalSegment;
use bulkhead_ide::{IdeDrive, Position, PrdTable};
use bulkhead_virtio::{GuestMemory, OutsideMemory, SECTOR, Segment, feature};
use controller::{Bus, Fault, TABLE_PHYSICAL};
use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;

const RAM_BYTES: u64 = 0x10_0000;
/// From this guest-physical address on the controller does not reach the memory.
const HIGH: u64 = 0xc_0000;
const BOUNCE: PhysicalSegment = PhysicalSegment { address: 0xf0_0000, length: 4096 };
const QUEUE_SIZE: u16 = 16;
const DESCRIPTORS: u64 = 0x1000;
const DRIVER: u64 = 0x2000;
const DEVICE: u64 = 0x3000;
/// Each request in flight has so much memory, from here on, for header, status and data.
const SLOTS: u64 = 0x8000;
const SLOT_BYTES: u64 = 0x2000;

/// A guest's memory, in the controller's physical memory.
#[derive(Clone)]
struct Ram {
    bus: Bus,
    base: u64,
}

impl Ram {
    fn physical(&self, address: u64) -> u64 {
        let high = if address >= HIGH { 1 << 32 } else { 0 };
        self.base + address + address / 0x2_0000 * 0x1000 + high
    }

    fn check(&self, address: u64, length: usize) -> Result<(), OutsideMemory> {
        let end = address.checked_add(length as u64).ok_or(OutsideMemory)?;
        if end > RAM_BYTES { Err(OutsideMemory) } else { Ok(()) }
    }

    fn bytes(&self, address: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.read(address, &mut bytes).unwrap();
        bytes
    }
}

impl GuestMemory for Ram {
    fn read(&self, address: u64, destination: &mut [u8]) -> Result<(), OutsideMemory> {
        self.check(address, destination.len())?;
        for (offset, byte) in (0..).zip(destination) {
            *byte = self.bus.0.borrow().peek(self.physical(address + offset));
        }
        Ok(())
    }

    fn write(&self, address: u64, source: &[u8]) -> Result<(), OutsideMemory> {
        self.check(address, source.len())?;
        for (offset, byte) in (0..).zip(source) {
            self.bus.0.borrow_mut().poke(self.physical(address + offset), *byte);
        }
        Ok(())
    }

    fn load_u16(&self, address: u64) -> Result<u16, OutsideMemory> {
        let mut bytes = [0; 2];
        self.read(address, &mut bytes)?;
        Ok(u16::from_le_bytes(bytes))
    }

    fn store_u16(&self, address: u64, value: u16) -> Result<(), OutsideMemory> {
        self.write(address, &value.to_le_bytes())
    }

    fn translate(&self, address: u64, length: u64) -> Result<bulkhead_virtio::PhysicalSegment, OutsideMemory> {
        self.check(address, usize::try_from(length).map_err(|_| OutsideMemory)?)?;
        let next = if address < HIGH { HIGH.min((address / 0x2_0000 + 1) * 0x2_0000) } else { RAM_BYTES };
        Ok(bulkhead_virtio::PhysicalSegment { address: self.physical(address), length: length.min(next - address) })
    }
}

struct Buffer(Bus);

impl Bounce for Buffer {
    fn segment(&self) -> PhysicalSegment {
        BOUNCE
    }

    fn read(&self, offset: u64, destination: &mut [u8]) -> Result<(), OutsideMemory> {
        assert!(offset + destination.len() as u64 <= BOUNCE.length);
        for (at, byte) in (offset..).zip(destination) {
            *byte = self.0.0.borrow().peek(BOUNCE.address + at);
        }
        Ok(())
    }

    fn write(&self, offset: u64, source: &[u8]) -> Result<(), OutsideMemory> {
        assert!(offset + source.len() as u64 <= BOUNCE.length);
        for (at, byte) in (offset..).zip(source) {
            self.0.0.borrow_mut().poke(BOUNCE.address + at, *byte);
        }
        Ok(())
    }
}

/// A guest with its monitor.
struct Guest {
    monitor: MonitorSide<'static>,
    ram: Ram,
    event_index: bool,
    available: u16,
    used: u16,
    /// Slot of each request on its way, and its status byte.
    free: Vec<u16>,
    finished: VecDeque<(u16, u8, u32)>,
}

impl Guest {
    /// What the driver chose, for [`MonitorSide::configure`] and [`MonitorSide::resume`].
    fn choice(&self, features: u64) -> Configuration {
        let mut configuration = Configuration { features, ..Default::default() };
        configuration.queues[0] =
            Some(QueueConfiguration { size: QUEUE_SIZE, descriptors: DESCRIPTORS, driver: DRIVER, device: DEVICE });
        configuration
    }

    fn configure(&mut self, features: u64) {
        let configuration = self.choice(features);
        for area in [DRIVER, DEVICE] {
            self.ram.write(area, &[0; 0x200]).unwrap();
        }
        self.event_index = features & feature::EVENT_INDEX != 0;
        (self.available, self.used) = (0, 0);
        self.free = (0..QUEUE_SIZE / 3).collect();
        self.monitor.configure(&configuration);
    }

    /// Makes a request available; returns its slot, and whether the guest rings.
    fn request(&mut self, kind: u32, sector: u64, data: Segment) -> (u16, bool) {
        let slot = self.free.pop().expect("a free slot");
        let at = SLOTS + u64::from(slot) * SLOT_BYTES;
        self.ram.write(at, &(u128::from(kind) | u128::from(sector) << 64).to_le_bytes()).unwrap();
        self.ram.write(at + 16, &[0xff]).unwrap();
        let writes = if kind == 1 { 0 } else { 2 };
        let head = slot * 3;
        let mut chain = vec![
            (Segment { address: at, length: 16 }, 0),
            (data, writes),
            (Segment { address: at + 16, length: 1 }, 2),
        ];
        chain.retain(|(segment, _)| segment.length != 0);
        let last = chain.len() - 1;
        for (index, (segment, flags)) in chain.into_iter().enumerate() {
            let flags: u16 = flags | u16::from(index != last);
            let value = u128::from(segment.address)
                | u128::from(segment.length) << 64
                | u128::from(flags) << 96
                | u128::from(head + index as u16 + 1) << 112;
            self.ram.write(DESCRIPTORS + 16 * (u64::from(head) + index as u64), &value.to_le_bytes()).unwrap();
        }
        self.ram.store_u16(DRIVER + 4 + 2 * u64::from(self.available % QUEUE_SIZE), head).unwrap();
        let before = self.available;
        self.available = self.available.wrapping_add(1);
        self.ram.store_u16(DRIVER + 2, self.available).unwrap();
        let rings = if self.event_index {
            self.ram.load_u16(DEVICE + 4 + 8 * u64::from(QUEUE_SIZE)).unwrap() == before
        } else {
            self.ram.load_u16(DEVICE).unwrap() & 1 == 0
        };
        (slot, rings)
    }

    /// What a driver does at an interrupt.
    fn on_interrupt(&mut self) {
        assert_eq!(self.monitor.take_interrupts(), Interrupts::queue(0));
        self.drain();
    }

    /// Takes what is in the used ring.
    fn drain(&mut self) {
        while self.ram.load_u16(DEVICE + 2).unwrap() != self.used {
            let element = self.ram.bytes(DEVICE + 4 + 8 * u64::from(self.used % QUEUE_SIZE), 8);
            let slot = u16::from_le_bytes([element[0], element[1]]) / 3;
            let written = u32::from_le_bytes(element[4..].try_into().unwrap());
            let status = self.ram.bytes(SLOTS + u64::from(slot) * SLOT_BYTES + 16, 1)[0];
            self.finished.push_back((slot, status, written));
            self.free.push(slot);
            self.used = self.used.wrapping_add(1);
            if self.event_index {
                self.ram.store_u16(DRIVER + 4 + 2 * u64::from(QUEUE_SIZE), self.used).unwrap();
            }
        }
    }
}

type TestService = Service<'static, IdeDrive<'static, Bus, Bus>, Bus, Ram, Buffer>;

struct World {
    bus: Bus,
    service: TestService,
    guests: Vec<Guest>,
    words: Vec<&'static [AtomicU64]>,
    ranges: Vec<DiskRange<'static>>,
}

const FEATURES: u64 = feature::VERSION_1 | feature::BLOCK_FLUSH;

/// A service for a drive that is started anew.
fn service(bus: &Bus) -> TestService {
    let table = PrdTable::new(bus.table(), TABLE_PHYSICAL).unwrap();
    let drive = IdeDrive::start(bus.clone(), bus.clone(), table, Position::First).unwrap();
    Service::new(drive, bus.clone(), Buffer(bus.clone()))
}

/// Disks of so many sectors, one after the other from sector 100 on; the last is read-only if wanted.
fn world(sizes: &[u64], read_only: bool) -> World {
    let bus = Bus::new(true);
    let service = service(&bus);
    let mut world = World { bus: bus.clone(), service, guests: Vec::new(), words: Vec::new(), ranges: Vec::new() };
    let mut first_sector = 100;
    for (index, sectors) in (0..).zip(sizes) {
        let words: &'static [AtomicU64] = Box::leak((0..512).map(|_| AtomicU64::new(0)).collect());
        let ram = Ram { bus: bus.clone(), base: 0x1000_0000 * (index + 1) };
        let read_only = read_only && index + 1 == sizes.len() as u64;
        let withheld = Withheld::default();
        world.ranges.push(DiskRange { name: "disk", first_sector, sectors: *sectors, read_only, withheld });
        let monitor = MonitorSide::attach(words).unwrap();
        let (free, finished) = (Vec::new(), VecDeque::new());
        world.guests.push(Guest { monitor, ram, event_index: false, available: 0, used: 0, free, finished });
        world.words.push(words);
        first_sector += sectors;
    }
    world.publish();
    world
}

impl World {
    /// Offers the disks, as the service does when it starts.
    fn publish(&mut self) {
        for ((guest, words), range) in self.guests.iter().zip(&self.words).zip(&self.ranges) {
            let disk = Disk::publish(words, guest.ram.clone(), *range, self.service.information()).unwrap();
            self.service.add(disk).unwrap();
        }
    }

    /// Lets the service run until it waits; guests take their interrupts. The drive's interrupts come only if `drive` is true.
    fn run(&mut self, drive: bool) {
        loop {
            let more = self.service.work();
            let mut signalled = Vec::new();
            self.service.take_signals(|index, _| signalled.push(index));
            for index in signalled {
                let guest = &mut self.guests[index];
                if guest.monitor.needs_reset() {
                    guest.monitor.take_interrupts();
                } else if self.words[index][16].load(Relaxed) & 1 != 0 {
                    guest.on_interrupt();
                }
            }
            if more {
                continue;
            }
            if drive && core::mem::take(&mut self.bus.0.borrow_mut().interrupt) {
                self.service.on_interrupt();
                continue;
            }
            return;
        }
    }

    fn start(&mut self, features: u64) {
        for guest in &mut self.guests {
            guest.configure(features);
        }
        self.run(true);
        assert!(self.guests.iter().all(|guest| guest.monitor.outcome() == Outcome::Done));
    }

    /// One request from beginning to end; returns its status.
    fn request(&mut self, guest: usize, kind: u32, sector: u64, data: Segment) -> u8 {
        let (slot, rings) = self.guests[guest].request(kind, sector, data);
        assert!(rings, "the service did not ask to be rung");
        self.run(true);
        let (finished, status, written) = self.guests[guest].finished.pop_front().expect("the request is finished");
        assert_eq!(finished, slot);
        assert_eq!(written, if matches!(kind, 0 | 8) && status == 0 { data.length + 1 } else { 1 });
        status
    }

    /// Writes a pattern to a disk from one place, and reads it back to another.
    fn round_trip(&mut self, guest: usize, sector: u64, from: u64, to: u64, length: u32) {
        let pattern: Vec<u8> = (0..length).map(|at| (at * 7 + at / 512 + from as u32) as u8).collect();
        self.guests[guest].ram.write(from, &pattern).unwrap();
        assert_eq!(self.request(guest, 1, sector, Segment { address: from, length }), 0);
        assert_eq!(self.request(guest, 0, sector, Segment { address: to, length }), 0);
        assert_eq!(self.guests[guest].ram.bytes(to, length as usize), pattern);
    }
}

const DATA: u64 = 0x1_a000;

fn sector(address: u64) -> Segment {
    Segment { address, length: SECTOR as u32 }
}
