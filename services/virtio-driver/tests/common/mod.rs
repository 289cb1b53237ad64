//! Virtio devices, physical memory and a clock, in memory.
#![allow(dead_code, reason = "not every test file uses everything")]

use bulkhead_driver::{Clock, DmaMemory, Registers};
use bulkhead_virtio_driver::{BLK_MEMORY_BYTES, NET_MEMORY_BYTES, Place, Structures};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

pub mod blk;
pub mod net;

pub const DMA_PHYSICAL: u64 = 0x40_0000;
pub const PAGE: u64 = 4096;
pub const WINDOW: u32 = 0x4000;
const ISR: u32 = 0x1000;
const DEVICE: u32 = 0x2000;
const NOTIFY: u32 = 0x3000;
const MULTIPLIER: u32 = 4;

pub const VERSION_1: u64 = 1 << 32;
pub const INDIRECT: u64 = 1 << 28;

/// How the device misbehaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    None,
    /// It is not on the bus any more.
    Gone,
    /// It never ends a reset.
    NeverResets,
    /// It does not take the features.
    RefusesFeatures,
    /// It has no room for a vector.
    NoVector,
    /// Its configuration changes whenever it is read.
    Restless,
    /// Doorbells lie behind the structure.
    FarDoorbells,
    /// It cannot go on without a reset.
    Failed,
    /// Requests have no end.
    Silent,
    /// The end is there, and the interrupt is not.
    LostInterrupt,
    /// Requests end with this status.
    Status(u8),
    /// Requests end without a status.
    Unwritten,
    /// The element of the used ring has this number.
    Number(u32),
    /// The element has this length.
    Length(u32),
    /// Each request comes back twice.
    Twice,
    /// The count of the used ring is too high by this.
    Ahead(u16),
}

/// A queue as the device has it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Queue {
    pub size: u16,
    pub vector: u16,
    pub enabled: bool,
    pub descriptors: u64,
    pub driver: u64,
    pub device: u64,
    seen: u16,
    used: u16,
}

/// A request that the device has.
#[derive(Clone, Debug)]
pub struct Chain {
    pub queue: usize,
    pub head: u16,
    pub readable: Vec<(u64, u32)>,
    pub writable: Vec<(u64, u32)>,
}

pub struct Device {
    pub now: u64,
    pub fault: Fault,
    pub offered: u64,
    pub accepted: u64,
    pub configuration: Vec<u8>,
    pub queues: Vec<Queue>,
    pub most_entries: u16,
    pub resets: usize,
    /// Requests are done as soon as they are told of.
    pub at_once: bool,
    pub interrupts: usize,
    pub notifications: usize,
    pub pending: Vec<Chain>,
    /// Sectors that were written.
    pub disk: HashMap<u64, Vec<u8>>,
    pub kinds: Vec<u32>,
    pub serial: [u8; 20],
    /// Frames that were sent, with their headers.
    pub sent: Vec<Vec<u8>>,
    is_net: bool,
    status: u8,
    generation: u8,
    selects: [u32; 2],
    selected: u16,
    configuration_vector: u16,
    memory: HashMap<u64, Vec<u8>>,
    words: &'static [AtomicU64],
}

impl Device {
    fn new(is_net: bool, offered: u64, configuration: Vec<u8>) -> Self {
        let bytes = if is_net { NET_MEMORY_BYTES } else { BLK_MEMORY_BYTES };
        let words = (0..bytes / 8).map(|_| AtomicU64::new(0x55)).collect::<Vec<_>>().leak();
        Self {
            now: 0,
            fault: Fault::None,
            offered,
            accepted: 0,
            configuration,
            queues: vec![Queue::default(); if is_net { 2 } else { 1 }],
            most_entries: 256,
            resets: 0,
            at_once: true,
            interrupts: 0,
            notifications: 0,
            pending: Vec::new(),
            disk: HashMap::new(),
            kinds: Vec::new(),
            serial: *b"SERIAL\0not shown any",
            sent: Vec::new(),
            is_net,
            status: 0,
            generation: 0,
            selects: [0; 2],
            selected: 0,
            configuration_vector: u16::MAX,
            memory: HashMap::new(),
            words,
        }
    }

    fn word(&self, address: u64) -> Option<&AtomicU64> {
        self.words.get(usize::try_from(address.checked_sub(DMA_PHYSICAL)? / 8).ok()?)
    }

    pub fn peek(&self, address: u64) -> u8 {
        if let Some(word) = self.word(address) {
            return word.load(SeqCst).to_le_bytes()[address as usize % 8];
        }
        self.memory.get(&(address / PAGE)).map_or(0, |page| page[(address % PAGE) as usize])
    }

    pub fn poke(&mut self, address: u64, byte: u8) {
        if let Some(word) = self.word(address) {
            let mut bytes = word.load(SeqCst).to_le_bytes();
            bytes[address as usize % 8] = byte;
            return word.store(u64::from_le_bytes(bytes), SeqCst);
        }
        self.memory.entry(address / PAGE).or_insert_with(|| vec![0; PAGE as usize])[(address % PAGE) as usize] = byte;
    }

    pub fn load(&self, address: u64, bytes: u64) -> u64 {
        (0..bytes).rev().fold(0, |value, index| value << 8 | u64::from(self.peek(address + index)))
    }

    pub fn store(&mut self, address: u64, bytes: &[u8]) {
        for (index, byte) in bytes.iter().enumerate() {
            self.poke(address + index as u64, *byte);
        }
    }

    /// The bytes of a request's readable or writable parts, in order.
    pub fn gather(&self, parts: &[(u64, u32)]) -> Vec<u8> {
        parts.iter().flat_map(|(at, length)| (*at..at + u64::from(*length)).map(|at| self.peek(at))).collect()
    }

    pub fn scatter(&mut self, parts: &[(u64, u32)], bytes: &[u8]) {
        let places: Vec<u64> = parts.iter().flat_map(|(at, length)| *at..at + u64::from(*length)).collect();
        assert!(bytes.len() <= places.len());
        for (at, byte) in places.into_iter().zip(bytes) {
            self.poke(at, *byte);
        }
    }

    fn set_status(&mut self, value: u8) {
        if value == 0 {
            self.resets += 1;
            if self.fault == Fault::NeverResets {
                return;
            }
            (self.status, self.accepted, self.configuration_vector) = (0, 0, u16::MAX);
            self.queues.fill(Queue { size: self.most_entries, vector: u16::MAX, ..Queue::default() });
            self.pending.clear();
            if !matches!(self.fault, Fault::Gone | Fault::RefusesFeatures | Fault::NoVector) && self.resets > 1 {
                self.fault = Fault::None;
            }
            return;
        }
        assert_eq!(value & self.status, self.status, "bits are only set");
        let new = value & !self.status;
        if new & 2 != 0 {
            assert!(self.status & 1 != 0, "acknowledged");
        }
        if new & 8 != 0 {
            assert!(self.status & 2 != 0, "driven");
            assert_eq!(self.accepted & !self.offered, 0, "only what is offered");
        }
        if new & 4 != 0 {
            assert!(self.status & 8 != 0, "features first");
            assert!(self.queues.iter().all(|queue| queue.enabled && queue.vector == 0));
            assert_eq!(self.configuration_vector, 0);
        }
        self.status = value;
        if self.fault == Fault::RefusesFeatures {
            self.status &= !8;
        }
    }

    pub fn is_going(&self) -> bool {
        self.status & 4 != 0
    }

    fn enable(&mut self) {
        assert!(self.status & 8 != 0 && self.status & 4 == 0);
        let queue = &mut self.queues[usize::from(self.selected)];
        assert!(queue.size.is_power_of_two() && queue.size <= self.most_entries);
        assert!(
            queue.descriptors.is_multiple_of(16) && queue.driver.is_multiple_of(2) && queue.device.is_multiple_of(4)
        );
        queue.enabled = true;
    }

    /// The next request of a queue.
    pub fn fetch(&mut self, index: usize) -> Option<Chain> {
        assert!(self.is_going(), "not before it goes");
        let queue = self.queues[index];
        if self.load(queue.driver + 2, 2) as u16 == queue.seen {
            return None;
        }
        let head = self.load(queue.driver + 4 + 2 * u64::from(queue.seen % queue.size), 2) as u16;
        self.queues[index].seen = queue.seen.wrapping_add(1);
        let mut chain = Chain { queue: index, head, readable: Vec::new(), writable: Vec::new() };
        let descriptor = |table: u64, at: u16| {
            let place = table + 16 * u64::from(at);
            let [address, length, flags, next] =
                [(0, 8), (8, 4), (12, 2), (14, 2)].map(|(offset, bytes)| self.load(place + offset, bytes));
            (address, length as u32, flags as u16, next as u16)
        };
        let (mut table, mut at, mut count) = (queue.descriptors, head, 0);
        assert!(at < queue.size);
        loop {
            let (address, length, flags, next) = descriptor(table, at);
            if flags & 4 != 0 {
                assert!(self.accepted & INDIRECT != 0 && table == queue.descriptors && flags == 4);
                assert!(length % 16 == 0 && length > 0);
                (table, at) = (address, 0);
                continue;
            }
            count += 1;
            assert!(count <= queue.size, "chains are not longer than the queue");
            assert!(length > 0);
            if flags & 2 != 0 {
                chain.writable.push((address, length));
            } else {
                assert!(chain.writable.is_empty(), "what is written comes last");
                chain.readable.push((address, length));
            }
            if flags & 1 == 0 {
                return Some(chain);
            }
            at = next;
        }
    }

    /// Gives a request back.
    pub fn complete(&mut self, index: usize, number: u32, length: u32) {
        let queue = self.queues[index];
        let at = queue.device + 4 + 8 * u64::from(queue.used % queue.size);
        self.store(at, &number.to_le_bytes());
        self.store(at + 4, &length.to_le_bytes());
        let used = queue.used.wrapping_add(1);
        self.queues[index].used = used;
        let ahead = if let Fault::Ahead(more) = self.fault { more } else { 0 };
        self.store(queue.device + 2, &used.wrapping_add(ahead).to_le_bytes());
        if self.fault != Fault::LostInterrupt && self.load(queue.driver, 2) & 1 == 0 {
            self.interrupts += 1;
        }
    }

    /// Gives a request back as the fault demands.
    fn finish(&mut self, chain: &Chain, length: u32) {
        let (index, head) = (chain.queue, u32::from(chain.head));
        match self.fault {
            Fault::Silent | Fault::Gone | Fault::NeverResets | Fault::Failed => {}
            Fault::Number(number) => self.complete(index, number, length),
            Fault::Length(length) => self.complete(index, head, length),
            Fault::Twice => {
                self.complete(index, head, length);
                self.complete(index, head, length);
            }
            _ => self.complete(index, head, length),
        }
    }

    fn notified(&mut self, index: usize) {
        self.notifications += 1;
        if self.is_net {
            self.notified_net(index);
            return;
        }
        while let Some(chain) = self.fetch(index) {
            self.pending.push(chain);
        }
        while self.at_once && !self.pending.is_empty() {
            self.execute(0);
        }
    }
}

/// The registers and the clock of a shared device.
#[derive(Clone)]
pub struct Bus(pub Rc<RefCell<Device>>);

impl Bus {
    fn new(device: Device) -> Self {
        Self(Rc::new(RefCell::new(device)))
    }

    pub fn dma(&self) -> DmaMemory<'static> {
        DmaMemory::new(self.0.borrow().words, DMA_PHYSICAL)
    }

    pub fn structures(&self) -> Structures {
        let place = |offset, length| Place { bar: 4, offset, length };
        Structures {
            common: place(0, 0x1000),
            notify: place(NOTIFY, 0x1000),
            notify_multiplier: MULTIPLIER,
            isr: Some(place(ISR, 0x1000)),
            device: place(DEVICE, self.0.borrow().configuration.len() as u32),
        }
    }

    fn configuration(&self, offset: u32, bytes: usize) -> u32 {
        let mut device = self.0.borrow_mut();
        if device.fault == Fault::Restless {
            device.generation = device.generation.wrapping_add(1);
        }
        let at = (offset - DEVICE) as usize;
        assert!(at.is_multiple_of(bytes));
        let field = device.configuration.get(at..at + bytes).expect("a field of the configuration");
        field.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte))
    }

    fn is_gone(&self) -> bool {
        self.0.borrow().fault == Fault::Gone
    }
}

impl Clock for Bus {
    fn milliseconds(&self) -> u64 {
        let mut device = self.0.borrow_mut();
        device.now += 1;
        device.now
    }
}

impl Registers for Bus {
    fn read_u8(&self, offset: u32) -> u8 {
        if self.is_gone() {
            return u8::MAX;
        }
        let device = self.0.borrow();
        match offset {
            0x14 if device.fault == Fault::Failed => device.status | 0x40,
            0x14 if device.fault == Fault::NeverResets => device.status | 1,
            0x14 => device.status,
            0x15 => device.generation,
            DEVICE.. => {
                drop(device);
                self.configuration(offset, 1) as u8
            }
            other => panic!("read of 8 bits at {other:#x}"),
        }
    }

    fn read_u16(&self, offset: u32) -> u16 {
        if self.is_gone() {
            return u16::MAX;
        }
        let device = self.0.borrow();
        let queue = device.queues.get(usize::from(device.selected));
        match offset {
            0x10 => device.configuration_vector,
            0x12 => device.queues.len() as u16,
            0x18 => queue.map_or(0, |queue| queue.size),
            0x1a => queue.map_or(u16::MAX, |queue| queue.vector),
            0x1e if device.fault == Fault::FarDoorbells => 0x400,
            0x1e => device.selected,
            DEVICE.. => {
                drop(device);
                self.configuration(offset, 2) as u16
            }
            other => panic!("read of 16 bits at {other:#x}"),
        }
    }

    fn read_u32(&self, offset: u32) -> u32 {
        if self.is_gone() {
            return u32::MAX;
        }
        match offset {
            4 => {
                let device = self.0.borrow();
                (device.offered >> (32 * device.selects[0])) as u32
            }
            DEVICE.. => self.configuration(offset, 4),
            other => panic!("read of 32 bits at {other:#x}"),
        }
    }

    fn write_u8(&self, offset: u32, value: u8) {
        assert_eq!(offset, 0x14, "only the status");
        if !self.is_gone() {
            self.0.borrow_mut().set_status(value);
        }
    }

    fn write_u16(&self, offset: u32, value: u16) {
        if self.is_gone() {
            return;
        }
        let mut device = self.0.borrow_mut();
        let vector = if device.fault == Fault::NoVector { u16::MAX } else { value };
        let selected = usize::from(device.selected);
        match offset {
            0x10 => device.configuration_vector = vector,
            0x16 => device.selected = value,
            0x18 => device.queues[selected].size = value,
            0x1a => device.queues[selected].vector = vector,
            0x1c => {
                assert_eq!(value, 1);
                device.enable();
            }
            NOTIFY.. => {
                assert_eq!((offset - NOTIFY) / MULTIPLIER, value.into(), "the queue's own doorbell");
                device.notified(value.into());
            }
            other => panic!("write of 16 bits at {other:#x}"),
        }
    }

    fn write_u32(&self, offset: u32, value: u32) {
        if self.is_gone() {
            return;
        }
        let mut device = self.0.borrow_mut();
        let selected = usize::from(device.selected);
        let half = |old: u64, upper: bool| {
            if upper { old & 0xffff_ffff | u64::from(value) << 32 } else { old & !0xffff_ffff | u64::from(value) }
        };
        let upper = offset % 8 == 4;
        match offset {
            0 => device.selects[0] = value,
            8 => device.selects[1] = value,
            0xc => device.accepted = half(device.accepted, device.selects[1] == 1),
            0x20 | 0x24 => device.queues[selected].descriptors = half(device.queues[selected].descriptors, upper),
            0x28 | 0x2c => device.queues[selected].driver = half(device.queues[selected].driver, upper),
            0x30 | 0x34 => device.queues[selected].device = half(device.queues[selected].device, upper),
            other => panic!("write of 32 bits at {other:#x}"),
        }
    }
}
