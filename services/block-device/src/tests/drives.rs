//! The service over drives with many commands in flight, done in any order: AHCI and NVMe controllers in memory.

#[path = "../../../ahci/tests/common/mod.rs"]
mod ahci;
#[path = "../../../nvme/tests/common/mod.rs"]
mod nvme;

use crate::*;
use bulkhead_ahci::AhciDrive;
use bulkhead_channel::{AtomicU64, Configuration, MonitorSide, Outcome, QueueConfiguration};
use bulkhead_driver::{Clock, Drive, PhysicalSegment, SECTOR};
use bulkhead_nvme::NvmeDrive;
use bulkhead_virtio::{GuestMemory, OutsideMemory, Segment, feature};

const RAM_BYTES: u64 = 0x10_0000;
/// Where the guests' memories begin in physical memory.
const RAM: u64 = 0x1000_0000;
const BOUNCE: PhysicalSegment = PhysicalSegment { address: 0x800_0000, length: 8192 };
const QUEUE_SIZE: u16 = 32;
/// Requests of a guest at a time.
const SLOTS: u16 = QUEUE_SIZE / 3;
const DESCRIPTORS: u64 = 0x1000;
const DRIVER: u64 = 0x2000;
const DEVICE: u64 = 0x3000;
/// Each slot: header, status, and data from its second page on.
const SLOT_AT: u64 = 0x1_0000;
const SLOT_BYTES: u64 = 0x8000;
const STATUS_AT: u64 = 16;
const DATA_AT: u64 = 0x1000;
/// Logical blocks of each guest's disk.
const BLOCKS: u64 = 64;

/// A controller in memory.
trait Machine: Clone + Clock {
    fn peek(&self, address: u64) -> u8;
    fn poke(&self, address: u64, byte: u8);
    /// Whether there is an interrupt, which is then taken.
    fn interrupts(&self) -> bool;
    fn waiting(&self) -> usize;
    fn execute(&self, at: usize);
}

impl Machine for ahci::Bus {
    fn peek(&self, address: u64) -> u8 {
        self.0.borrow().peek(address)
    }
    fn poke(&self, address: u64, byte: u8) {
        self.0.borrow_mut().poke(address, byte);
    }
    fn interrupts(&self) -> bool {
        self.0.borrow().interrupts()
    }
    fn waiting(&self) -> usize {
        self.0.borrow().waiting()
    }
    fn execute(&self, at: usize) {
        self.0.borrow_mut().execute(at);
    }
}

impl Machine for nvme::Bus {
    fn peek(&self, address: u64) -> u8 {
        self.0.borrow().peek(address)
    }
    fn poke(&self, address: u64, byte: u8) {
        self.0.borrow_mut().poke(address, byte);
    }
    fn interrupts(&self) -> bool {
        core::mem::take(&mut self.0.borrow_mut().interrupt)
    }
    fn waiting(&self) -> usize {
        self.0.borrow().waiting()
    }
    fn execute(&self, at: usize) {
        self.0.borrow_mut().execute(at);
    }
}

/// Memory at a physical address: a guest's, or the bounce buffer.
#[derive(Clone)]
struct Memory<X> {
    machine: X,
    base: u64,
    length: u64,
}

impl<X: Machine> Memory<X> {
    fn check(&self, address: u64, length: u64) -> Result<u64, OutsideMemory> {
        let end = address.checked_add(length).ok_or(OutsideMemory)?;
        if end > self.length { Err(OutsideMemory) } else { Ok(self.base + address) }
    }

    fn get(&self, address: u64, destination: &mut [u8]) -> Result<(), OutsideMemory> {
        let physical = self.check(address, destination.len() as u64)?;
        for (at, byte) in (physical..).zip(destination) {
            *byte = self.machine.peek(at);
        }
        Ok(())
    }

    fn put(&self, address: u64, source: &[u8]) -> Result<(), OutsideMemory> {
        let physical = self.check(address, source.len() as u64)?;
        for (at, byte) in (physical..).zip(source) {
            self.machine.poke(at, *byte);
        }
        Ok(())
    }
}

impl<X: Machine> GuestMemory for Memory<X> {
    fn read(&self, address: u64, destination: &mut [u8]) -> Result<(), OutsideMemory> {
        self.get(address, destination)
    }
    fn write(&self, address: u64, source: &[u8]) -> Result<(), OutsideMemory> {
        self.put(address, source)
    }
    fn load_u16(&self, address: u64) -> Result<u16, OutsideMemory> {
        let mut bytes = [0; 2];
        self.get(address, &mut bytes)?;
        Ok(u16::from_le_bytes(bytes))
    }
    fn store_u16(&self, address: u64, value: u16) -> Result<(), OutsideMemory> {
        self.put(address, &value.to_le_bytes())
    }
    fn translate(&self, address: u64, length: u64) -> Result<bulkhead_virtio::PhysicalSegment, OutsideMemory> {
        Ok(bulkhead_virtio::PhysicalSegment { address: self.check(address, length)?, length })
    }
}

impl<X: Machine> Bounce for Memory<X> {
    fn segment(&self) -> PhysicalSegment {
        PhysicalSegment { address: self.base, length: self.length }
    }
    fn read(&self, offset: u64, destination: &mut [u8]) -> Result<(), OutsideMemory> {
        self.get(offset, destination)
    }
    fn write(&self, offset: u64, source: &[u8]) -> Result<(), OutsideMemory> {
        self.put(offset, source)
    }
}

/// A request under way: its blocks, and what has to be read.
struct Open {
    first: u64,
    blocks: u64,
    data: u64,
    expected: Option<Vec<u8>>,
}

/// A guest with its monitor, and what its disk holds.
struct Guest<X> {
    monitor: MonitorSide<'static>,
    ram: Memory<X>,
    available: u16,
    used: u16,
    open: Vec<Option<Open>>,
    /// A byte for each block.
    model: Vec<u8>,
}

impl<X: Machine> Guest<X> {
    /// Makes a request available in a slot.
    fn request(&mut self, slot: u16, kind: u32, sector: u64, data: Segment) {
        let at = SLOT_AT + u64::from(slot) * SLOT_BYTES;
        self.ram.put(at, &(u128::from(kind) | u128::from(sector) << 64).to_le_bytes()).unwrap();
        self.ram.put(at + STATUS_AT, &[0xff]).unwrap();
        let mut chain = vec![(at, 16, 0u16), (at + STATUS_AT, 1, 2)];
        if data.length != 0 {
            chain.insert(1, (data.address, data.length, if kind == 0 { 2 } else { 0 }));
        }
        let (head, last) = (slot * 3, chain.len() - 1);
        for (index, (address, length, flags)) in chain.into_iter().enumerate() {
            let flags = flags | u16::from(index != last);
            let next = head + index as u16 + 1;
            let value =
                u128::from(address) | u128::from(length) << 64 | u128::from(flags) << 96 | u128::from(next) << 112;
            self.ram.put(DESCRIPTORS + 16 * (u64::from(head) + index as u64), &value.to_le_bytes()).unwrap();
        }
        self.ram.store_u16(DRIVER + 4 + 2 * u64::from(self.available % QUEUE_SIZE), head).unwrap();
        self.available = self.available.wrapping_add(1);
        self.ram.store_u16(DRIVER + 2, self.available).unwrap();
    }

    /// Takes what has ended.
    fn drain(&mut self, block: u64) {
        self.monitor.take_interrupts();
        while self.ram.load_u16(DEVICE + 2).unwrap() != self.used {
            let slot = self.ram.load_u16(DEVICE + 4 + 8 * u64::from(self.used % QUEUE_SIZE)).unwrap() / 3;
            self.used = self.used.wrapping_add(1);
            let open = self.open[usize::from(slot)].take().expect("a request under way");
            let mut status = [0xff];
            self.ram.get(SLOT_AT + u64::from(slot) * SLOT_BYTES + STATUS_AT, &mut status).unwrap();
            assert_eq!(status, [0]);
            for (index, byte) in (0..).zip(open.expected.into_iter().flatten()) {
                let mut ends = [0; 1];
                self.ram.get(open.data + block * index + block - 1, &mut ends).unwrap();
                assert_eq!(ends, [byte], "block {}", open.first + index);
            }
        }
    }

    fn is_busy(&self, first: u64, blocks: u64) -> bool {
        self.open.iter().flatten().any(|open| open.first < first + blocks && first < open.first + open.blocks)
    }
}

/// Lets two guests use a drive at random, the controller doing the commands in any order.
fn use_at_random<D: Drive, X: Machine>(drive: D, machine: &X, seed: u64) {
    let information = *drive.information();
    let block = u64::from(information.logical_block_size);
    let scale = block / SECTOR;
    let bounce = Memory { machine: machine.clone(), base: BOUNCE.address, length: BOUNCE.length };
    let mut service = Service::new(drive, machine.clone(), bounce);
    let mut guests: Vec<_> = (0..2)
        .map(|index| {
            let words: &'static [AtomicU64] = Box::leak((0..512).map(|_| AtomicU64::new(0)).collect());
            let ram = Memory { machine: machine.clone(), base: RAM + index * 0x100_0000, length: RAM_BYTES };
            let (first_sector, sectors) = ((10 + BLOCKS * index) * scale, BLOCKS * scale);
            let range =
                DiskRange { name: "disk", first_sector, sectors, read_only: false, withheld: Withheld::default() };
            service.add(Disk::publish(words, ram.clone(), range, &information).unwrap()).unwrap();
            let mut monitor = MonitorSide::attach(words).unwrap();
            let zeroes = if information.write_zeroes.is_some() { feature::BLOCK_WRITE_ZEROES } else { 0 };
            let features = feature::VERSION_1 | feature::BLOCK_FLUSH | feature::BLOCK_DISCARD | zeroes;
            let mut configuration = Configuration { features, ..Default::default() };
            configuration.queues[0] =
                Some(QueueConfiguration { size: QUEUE_SIZE, descriptors: DESCRIPTORS, driver: DRIVER, device: DEVICE });
            monitor.configure(&configuration);
            let open = (0..SLOTS).map(|_| None).collect();
            Guest { monitor, ram, available: 0, used: 0, open, model: vec![0; BLOCKS as usize] }
        })
        .collect();
    while service.work() {}
    assert!(guests.iter().all(|guest| guest.monitor.outcome() == Outcome::Done));
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let mut most = 0;
    for step in 0..400 {
        let guest = &mut guests[random(2) as usize];
        let slot = random(SLOTS.into()) as u16;
        let (first, blocks) = (random(BLOCKS - 3), 1 + random(3));
        // In the end all that is under way is finished.
        if step < 380 && guest.open[usize::from(slot)].is_none() && !guest.is_busy(first, blocks) {
            begin(guest, slot, first, blocks, block, information.write_zeroes.is_some(), &mut random);
        }
        while service.work() {}
        most = most.max(machine.waiting());
        while machine.waiting() > 0 && (step >= 380 || random(3) == 0) {
            machine.execute(random(machine.waiting() as u64) as usize);
            if machine.interrupts() {
                service.on_interrupt();
            }
            while service.work() {}
        }
        service.on_time();
        service.take_signals(|_, _| {});
        for guest in &mut guests {
            guest.drain(block);
        }
    }
    assert!(guests.iter().all(|guest| guest.open.iter().all(Option::is_none)), "every request was answered");
    assert!(most > 4, "commands were in flight together");
}

/// Begins a random request of some blocks.
fn begin<X: Machine>(
    guest: &mut Guest<X>,
    slot: u16,
    first: u64,
    blocks: u64,
    block: u64,
    zeroes: bool,
    random: &mut impl FnMut(u64) -> u64,
) {
    let sector = first * (block / SECTOR);
    let places = first as usize..(first + blocks) as usize;
    // Some data lie where NVMe takes them only through the bounce buffer.
    let data = SLOT_AT + u64::from(slot) * SLOT_BYTES + DATA_AT + random(3);
    let whole = Segment { address: data, length: (blocks * block) as u32 };
    let mut open = Open { first, blocks, data, expected: None };
    match random(6) {
        0 | 1 => {
            open.expected = Some(guest.model[places].to_vec());
            guest.request(slot, 0, sector, whole);
        }
        2 | 3 => {
            let value = random(256) as u8;
            guest.ram.put(data, &vec![value; whole.length as usize]).unwrap();
            guest.model[places].fill(value);
            guest.request(slot, 1, sector, whole);
        }
        4 => {
            (open.first, open.blocks) = (0, 0);
            guest.request(slot, 4, 0, Segment { address: 0, length: 0 });
        }
        _ => {
            let kind = if zeroes && random(2) == 0 { 13 } else { 11 };
            let range = u128::from(sector) | u128::from(blocks * (block / SECTOR)) << 64;
            guest.ram.put(data, &range.to_le_bytes()).unwrap();
            guest.model[places].fill(0);
            guest.request(slot, kind, 0, Segment { address: data, length: 16 });
        }
    }
    guest.open[usize::from(slot)] = Some(open);
}

#[test]
fn an_ahci_drive_serves_many_requests_at_once() {
    for seed in 0..4 {
        let bus = ahci::Bus::new(if seed % 2 == 0 { 512 } else { 4096 }, 0x1_0000);
        let drive = AhciDrive::start(bus.clone(), bus.clone(), &mut bus.dma()).unwrap();
        bus.0.borrow_mut().at_once = false;
        use_at_random(drive, &bus, seed);
    }
}

#[test]
fn an_nvme_drive_serves_many_requests_at_once() {
    for seed in 0..4 {
        let bus = nvme::Bus::new(if seed % 2 == 0 { 9 } else { 12 }, 0x1_0000);
        let drive = NvmeDrive::start(bus.clone(), bus.clone(), &mut bus.dma()).unwrap();
        bus.0.borrow_mut().at_once = false;
        use_at_random(drive, &bus, seed);
    }
}
