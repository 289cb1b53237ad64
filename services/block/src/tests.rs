//! Monitors and guests' drivers against an IDE controller in memory.

#[path = "../../ide/tests/common/mod.rs"]
mod controller;

use crate::*;
use bulkhead_channel::{
    AtomicU64, Configuration, Interrupts, MonitorSide, Outcome, QueueConfiguration, SECTOR,
};
use bulkhead_ide::{Drive, PhysicalSegment, Position, PrdTable};
use bulkhead_virtio::{GuestMemory, OutsideMemory, Segment, feature};
use controller::{Bus, Fault, TABLE_PHYSICAL};
use std::sync::atomic::Ordering::Relaxed;

use std::collections::VecDeque;

const RAM_BYTES: u64 = 0x10_0000;
/// From this guest-physical address on the controller does not reach the memory.
const HIGH: u64 = 0xc_0000;
const BOUNCE: PhysicalSegment = PhysicalSegment {
    address: 0xf0_0000,
    length: 4096,
};
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
        if end > RAM_BYTES {
            Err(OutsideMemory)
        } else {
            Ok(())
        }
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
            self.bus
                .0
                .borrow_mut()
                .poke(self.physical(address + offset), *byte);
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

    fn translate(
        &self,
        address: u64,
        length: u64,
    ) -> Result<bulkhead_virtio::PhysicalSegment, OutsideMemory> {
        self.check(address, usize::try_from(length).map_err(|_| OutsideMemory)?)?;
        let next = if address < HIGH {
            HIGH.min((address / 0x2_0000 + 1) * 0x2_0000)
        } else {
            RAM_BYTES
        };
        Ok(bulkhead_virtio::PhysicalSegment {
            address: self.physical(address),
            length: length.min(next - address),
        })
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
    fn configure(&mut self, features: u64) {
        let mut configuration = Configuration {
            features,
            ..Default::default()
        };
        configuration.queues[0] = Some(QueueConfiguration {
            size: QUEUE_SIZE,
            descriptors: DESCRIPTORS,
            driver: DRIVER,
            device: DEVICE,
        });
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
        self.ram
            .write(
                at,
                &(u128::from(kind) | u128::from(sector) << 64).to_le_bytes(),
            )
            .unwrap();
        self.ram.write(at + 16, &[0xff]).unwrap();
        let writes = if kind == 1 { 0 } else { 2 };
        let head = slot * 3;
        let mut chain = vec![
            (
                Segment {
                    address: at,
                    length: 16,
                },
                0,
            ),
            (data, writes),
            (
                Segment {
                    address: at + 16,
                    length: 1,
                },
                2,
            ),
        ];
        chain.retain(|(segment, _)| segment.length != 0);
        let last = chain.len() - 1;
        for (index, (segment, flags)) in chain.into_iter().enumerate() {
            let flags: u16 = flags | u16::from(index != last);
            let value = u128::from(segment.address)
                | u128::from(segment.length) << 64
                | u128::from(flags) << 96
                | u128::from(head + index as u16 + 1) << 112;
            self.ram
                .write(
                    DESCRIPTORS + 16 * (u64::from(head) + index as u64),
                    &value.to_le_bytes(),
                )
                .unwrap();
        }
        self.ram
            .store_u16(
                DRIVER + 4 + 2 * u64::from(self.available % QUEUE_SIZE),
                head,
            )
            .unwrap();
        let before = self.available;
        self.available = self.available.wrapping_add(1);
        self.ram.store_u16(DRIVER + 2, self.available).unwrap();
        let rings = if self.event_index {
            self.ram
                .load_u16(DEVICE + 4 + 8 * u64::from(QUEUE_SIZE))
                .unwrap()
                == before
        } else {
            self.ram.load_u16(DEVICE).unwrap() & 1 == 0
        };
        (slot, rings)
    }

    /// What a driver does at an interrupt.
    fn on_interrupt(&mut self) {
        assert_eq!(self.monitor.take_interrupts(), Interrupts::queue(0));
        while self.ram.load_u16(DEVICE + 2).unwrap() != self.used {
            let element = self
                .ram
                .bytes(DEVICE + 4 + 8 * u64::from(self.used % QUEUE_SIZE), 8);
            let slot = u16::from_le_bytes([element[0], element[1]]) / 3;
            let written = u32::from_le_bytes(element[4..].try_into().unwrap());
            let status = self.ram.bytes(SLOTS + u64::from(slot) * SLOT_BYTES + 16, 1)[0];
            self.finished.push_back((slot, status, written));
            self.free.push(slot);
            self.used = self.used.wrapping_add(1);
            if self.event_index {
                self.ram
                    .store_u16(DRIVER + 4 + 2 * u64::from(QUEUE_SIZE), self.used)
                    .unwrap();
            }
        }
    }
}

type TestService = Service<'static, Bus, Bus, Ram, Buffer>;

struct World {
    bus: Bus,
    service: TestService,
    guests: Vec<Guest>,
    words: Vec<&'static [AtomicU64]>,
}

const FEATURES: u64 = feature::VERSION_1 | feature::BLOCK_FLUSH;

/// Disks of so many sectors, one after the other from sector 100 on; the last is read-only if wanted.
fn world(sizes: &[u64], read_only: bool) -> World {
    let bus = Bus::new(true);
    let table = PrdTable::new(bus.table(), TABLE_PHYSICAL).unwrap();
    let drive = Drive::start(bus.clone(), bus.clone(), table, Position::First).unwrap();
    let mut service = Service::new(drive, Buffer(bus.clone()));
    let (mut guests, mut pages, mut first_sector) = (Vec::new(), Vec::new(), 100);
    for (index, sectors) in (0..).zip(sizes) {
        let words: &'static [AtomicU64] = Box::leak((0..512).map(|_| AtomicU64::new(0)).collect());
        let ram = Ram {
            bus: bus.clone(),
            base: 0x1000_0000 * (index + 1),
        };
        let read_only = read_only && index + 1 == sizes.len() as u64;
        let range = DiskRange {
            name: "disk",
            first_sector,
            sectors: *sectors,
            read_only,
        };
        let disk = Disk::publish(words, ram.clone(), range, service.information()).unwrap();
        service.add(disk).unwrap();
        let monitor = MonitorSide::attach(words).unwrap();
        let (free, finished) = (Vec::new(), VecDeque::new());
        guests.push(Guest {
            monitor,
            ram,
            event_index: false,
            available: 0,
            used: 0,
            free,
            finished,
        });
        pages.push(words);
        first_sector += sectors;
    }
    World {
        bus,
        service,
        guests,
        words: pages,
    }
}

impl World {
    /// Lets the service run until it waits; guests take their interrupts. The drive's interrupts come only if `drive` is true.
    fn run(&mut self, drive: bool) {
        loop {
            let more = self.service.work();
            let mut signalled = Vec::new();
            self.service.take_signals(|index| signalled.push(index));
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
        assert!(
            self.guests
                .iter()
                .all(|guest| guest.monitor.outcome() == Outcome::Done)
        );
    }

    /// One request from beginning to end; returns its status.
    fn request(&mut self, guest: usize, kind: u32, sector: u64, data: Segment) -> u8 {
        let (slot, rings) = self.guests[guest].request(kind, sector, data);
        assert!(rings, "the service did not ask to be rung");
        self.run(true);
        let (finished, status, written) = self.guests[guest]
            .finished
            .pop_front()
            .expect("the request is finished");
        assert_eq!(finished, slot);
        assert_eq!(
            written,
            if matches!(kind, 0 | 8) && status == 0 {
                data.length + 1
            } else {
                1
            }
        );
        status
    }

    /// Writes a pattern to a disk from one place, and reads it back to another.
    fn round_trip(&mut self, guest: usize, sector: u64, from: u64, to: u64, length: u32) {
        let pattern: Vec<u8> = (0..length)
            .map(|at| (at * 7 + at / 512 + from as u32) as u8)
            .collect();
        self.guests[guest].ram.write(from, &pattern).unwrap();
        assert_eq!(
            self.request(
                guest,
                1,
                sector,
                Segment {
                    address: from,
                    length
                }
            ),
            0
        );
        assert_eq!(
            self.request(
                guest,
                0,
                sector,
                Segment {
                    address: to,
                    length
                }
            ),
            0
        );
        assert_eq!(self.guests[guest].ram.bytes(to, length as usize), pattern);
    }
}

const DATA: u64 = 0x1_a000;

fn sector(address: u64) -> Segment {
    Segment {
        address,
        length: SECTOR as u32,
    }
}

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
fn large_requests_take_several_commands() {
    let mut world = world(&[4096], false);
    world.start(FEATURES);
    world.bus.0.borrow_mut().commands.clear();
    let length = 0x5_0000;
    world.round_trip(0, 8, DATA, DATA + length, length as u32);
    assert_eq!(world.bus.0.borrow().commands, [0x35, 0xca, 0x25, 0xc8]);
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
            assert_eq!(
                world.request(guest, kind, first, data),
                1,
                "{kind} {first} {data:?}"
            );
        }
        for kind in [2, 11, 13, u32::MAX] {
            assert_eq!(world.request(guest, kind, 0, sector(DATA)), 2, "{kind}");
        }
    }
    assert_eq!(world.request(0, 1, 0, sector(DATA)), 0);
    let written = world.bus.0.borrow().sectors.len();
    assert_eq!(
        world.request(1, 1, 0, sector(DATA)),
        1,
        "the disk is read-only"
    );
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
    world.guests[0]
        .ram
        .write(
            DESCRIPTORS + 16 * 12,
            &(loop_back | 12 << 112).to_le_bytes(),
        )
        .unwrap();
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
fn disks_take_turns() {
    let mut world = world(&[1024, 16], false);
    world.start(FEATURES);
    // A scattered flood of the first guest: many commands.
    for _ in 0..5 {
        world.guests[0].request(
            0,
            0,
            Segment {
                address: HIGH,
                length: 0x8000,
            },
        );
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
    assert!(
        commands <= 3,
        "the second guest waited for {commands} commands"
    );
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
    assert_eq!(
        world.guests[0].finished.pop_front().map(|end| end.1),
        Some(1)
    );
    assert_eq!(world.request(0, 0, 0, sector(DATA)), 1);
    assert_eq!(world.request(0, 8, 0, sector(DATA).with_length(20)), 0);
}

#[test]
fn configurations_that_cannot_be_served_are_refused() {
    let mut world = world(&[16], false);
    let mut refuse = |features, change: fn(&mut QueueConfiguration)| {
        let mut queue = QueueConfiguration {
            size: 16,
            descriptors: DESCRIPTORS,
            driver: DRIVER,
            device: DEVICE,
        };
        change(&mut queue);
        let mut configuration = Configuration {
            features,
            ..Default::default()
        };
        configuration.queues[0] = Some(queue);
        world.guests[0].monitor.configure(&configuration);
        world.run(true);
        assert_eq!(world.guests[0].monitor.outcome(), Outcome::Refused);
    };
    refuse(FEATURES | feature::BLOCK_READ_ONLY, |_| {});
    refuse(FEATURES, |queue| queue.size = 512);
    refuse(FEATURES, |queue| queue.descriptors = RAM_BYTES - 16);
    refuse(FEATURES, |queue| queue.device = u64::MAX & !0xfff);
    world.guests[0].monitor.configure(&Configuration {
        features: FEATURES,
        ..Default::default()
    });
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
    for (first_sector, sectors) in [
        (0, 0),
        (drive.sectors, 1),
        (1, drive.sectors),
        (u64::MAX, 2),
    ] {
        let range = DiskRange {
            name: "disk",
            first_sector,
            sectors,
            read_only: false,
        };
        let outcome = Disk::publish(&words, world.guests[0].ram.clone(), range, drive);
        assert_eq!(
            outcome.err(),
            Some(PublishError::Range {
                drive: drive.sectors
            })
        );
    }
}

/// What a hostile guest does, together with a hostile monitor.
enum Attack {
    /// Writes a word of the control page.
    Page(usize, u64),
    /// Writes memory of the guest, the queue's most of the time.
    Memory(u64, u64),
    /// Configures the device, correctly.
    Configure(bool),
    /// Resets the device.
    Reset,
    /// Makes a request available, correct but for its arguments.
    Request(u32, u64, u64, u32),
    /// Lets the drive finish.
    Finish,
}

/// Numbers that look random, the same for the same seed (xorshift64*). The property-testing crate cannot be had here: it
/// needs the standard library in crates that the runtime shares.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number of the range.
    fn within(&mut self, range: core::ops::Range<u64>) -> u64 {
        range.start + (self.next() >> 16) % (range.end - range.start)
    }

    fn value(&mut self) -> u64 {
        match self.within(0..4) {
            0 => self.next(),
            1 => self.within(0..0x20),
            2 => self.within(0..RAM_BYTES),
            _ => u64::MAX,
        }
    }

    fn attack(&mut self) -> Attack {
        match self.within(0..19) {
            0..2 => Attack::Page(self.within(0..72) as usize, self.value()),
            2..6 => {
                let (start, length) = match self.within(0..5) {
                    0 => (DESCRIPTORS, 0x100),
                    1 => (DRIVER, 0x30),
                    2 => (DEVICE, 0x90),
                    3 => (SLOTS, 0x40),
                    _ => (0, RAM_BYTES - 8),
                };
                Attack::Memory(self.within(start..start + length), self.value())
            }
            6..8 => Attack::Configure(self.next() & 1 != 0),
            8 => Attack::Reset,
            9..15 => {
                let length = match self.within(0..3) {
                    0 => 512,
                    1 => 4096,
                    _ => self.within(0..0x8000) as u32,
                };
                let (kind, sector) = (self.within(0..6) as u32, self.within(0..40));
                Attack::Request(kind, sector, self.within(DATA..RAM_BYTES), length)
            }
            _ => Attack::Finish,
        }
    }
}

/// Bytes of a guest's memory that nobody but the guest may write: those of the device area hold what the driver was told.
fn own_memory(ram: &Ram) -> Vec<u8> {
    let mut bytes = ram.bytes(0, DEVICE as usize);
    bytes.extend(ram.bytes(DEVICE + 0x1000, 0xc000));
    bytes
}

/// Whatever guest and monitor do, the controller moves data between the guest's own memory (or the bounce buffer) and the
/// disk's own sectors alone, and the other guest is served.
#[test]
fn hostile_partitions_harm_themselves_alone() {
    for seed in 1..=50 {
        attack_and_check(seed);
    }
}

fn attack_and_check(seed: u64) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut world = world(&[32, 16], false);
    world.start(FEATURES);
    let before = own_memory(&world.guests[1].ram);
    for _ in 0..random.within(1..60) {
        let guest = &mut world.guests[0];
        match random.attack() {
            Attack::Page(word, value) => world.words[0][word].store(value, Relaxed),
            Attack::Memory(address, value) => {
                guest.ram.write(address, &value.to_le_bytes()).unwrap()
            }
            Attack::Configure(event_index) => {
                guest.configure(FEATURES | if event_index { feature::EVENT_INDEX } else { 0 });
            }
            Attack::Reset => guest.monitor.reset(),
            Attack::Request(kind, sector, address, length) => {
                if guest.free.is_empty() {
                    guest.free.push(0);
                }
                guest.request(kind, sector, Segment { address, length });
            }
            Attack::Finish => {
                if core::mem::take(&mut world.bus.0.borrow_mut().interrupt) {
                    world.service.on_interrupt();
                }
            }
        }
        let _ = world.service.work();
        world.service.take_signals(|_| ());
    }
    for transfer in &world.bus.0.borrow().transfers {
        assert!(
            transfer.first_sector >= 100 && transfer.first_sector + transfer.sectors <= 132,
            "seed {seed}: {transfer:?}"
        );
        for (address, length) in &transfer.memory {
            let own =
                *address >= 0x1000_0000 && address + length <= 0x1000_0000 + RAM_BYTES + 0x8_0000;
            let bounce = *address == BOUNCE.address && *length <= BOUNCE.length;
            assert!(own || bounce, "seed {seed}: {transfer:?}");
        }
    }
    assert!(own_memory(&world.guests[1].ram) == before, "seed {seed}");
    // What is under way ends, and the other guest is served.
    for _ in 0..1000 {
        let more = world.service.work();
        let interrupted = core::mem::take(&mut world.bus.0.borrow_mut().interrupt);
        if interrupted {
            world.service.on_interrupt();
        }
        if !more && !interrupted {
            break;
        }
    }
    let (slot, _) = world.guests[1].request(0, 3, sector(DATA));
    for _ in 0..1000 {
        let _ = world.service.work();
        if core::mem::take(&mut world.bus.0.borrow_mut().interrupt) {
            world.service.on_interrupt();
        }
    }
    world.guests[1].on_interrupt();
    assert_eq!(world.guests[1].finished.pop_front(), Some((slot, 0, 513)));
    // And so is this one, after a reset.
    world.guests[0].monitor = MonitorSide::attach(world.words[0]).unwrap();
    world.guests[0].monitor.reset();
    let _ = world.service.work();
    assert_eq!(world.guests[0].monitor.outcome(), Outcome::Done);
}
