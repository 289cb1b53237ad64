//! An NVMe controller, its namespace, physical memory and a clock, in memory.
#![allow(dead_code, reason = "not every test file uses everything")]

use bulkhead_driver::{Clock, DmaMemory, Registers};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

pub const DMA_PHYSICAL: u64 = 0x40_0000;
pub const DMA_BYTES: usize = bulkhead_nvme::MEMORY_BYTES;
pub const PAGE: u64 = 4096;

/// How the controller misbehaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    None,
    /// It never gets ready.
    NeverReady,
    /// It never stops being ready.
    NeverStops,
    /// Admin commands have no end.
    SilentAdmin,
    /// I/O commands have no end.
    Silent,
    /// The completion is there, and the interrupt is not.
    LostInterrupt,
    /// The completion's identifier has these bits changed; then the right one follows.
    WrongIdentifier(u16),
    /// Each completion comes twice.
    Twice,
    /// Commands fail with this status.
    Status(u16),
    /// The controller has failed.
    Fatal,
    /// It is not on the bus any more.
    Gone,
    /// It fills its completion queues with new entries of all kinds.
    Flood,
}

/// A queue as the controller has it.
#[derive(Clone, Copy, Debug)]
struct Ring {
    address: u64,
    entries: u16,
    head: u16,
    tail: u16,
    phase: bool,
    /// Completion queue of a submission queue.
    completion: u16,
}

#[derive(Clone, Debug)]
struct Fetched {
    queue: u16,
    words: [u32; 16],
}

pub struct Controller {
    pub now: u64,
    pub fault: Fault,
    pub capabilities: u64,
    pub stride: u32,
    configuration: u32,
    attributes: u32,
    admin: [u64; 2],
    submission: BTreeMap<u16, Ring>,
    completion: BTreeMap<u16, Ring>,
    pending: Vec<Fetched>,
    /// Commands are done as soon as they are rung for.
    pub at_once: bool,
    pub interrupt: bool,
    pub resets: usize,
    pub granted: u16,
    pub controller: Vec<u8>,
    pub namespace: Vec<u8>,
    pub block_exponent: u32,
    /// Blocks that were written.
    pub disk: HashMap<u64, Vec<u8>>,
    /// Bytes of physical memory outside the driver's.
    pub memory: HashMap<u64, Vec<u8>>,
    /// Opcodes of I/O commands with their queues.
    pub commands: Vec<(u16, u8)>,
    words: &'static [AtomicU64],
}

impl Controller {
    pub fn new(block_exponent: u32, blocks: u64) -> Self {
        let words = (0..DMA_BYTES / 8).map(|_| AtomicU64::new(0)).collect::<Vec<_>>().leak();
        let mut controller = vec![0; 4096];
        controller[4..24].copy_from_slice(b"SERIAL OF NVME      ");
        controller[24..64].copy_from_slice(b"BULKHEAD TEST NAMESPACE                 ");
        controller[64..72].copy_from_slice(b"FW 2    ");
        controller[77] = 5;
        controller[520] = 0b1100;
        controller[525] = 1;
        let mut namespace = vec![0; 4096];
        namespace[..8].copy_from_slice(&blocks.to_le_bytes());
        namespace[26] = 2;
        namespace[33] = 9;
        namespace[136..140].copy_from_slice(&(block_exponent << 16).to_le_bytes());
        Self {
            now: 0,
            fault: Fault::None,
            // 1024 entries, 1 s, NVM commands.
            capabilities: 1023 | 2 << 24 | 1 << 37,
            stride: 0,
            configuration: 0,
            attributes: 0,
            admin: [0; 2],
            submission: BTreeMap::new(),
            completion: BTreeMap::new(),
            pending: Vec::new(),
            at_once: true,
            interrupt: false,
            resets: 0,
            granted: 64,
            controller,
            namespace,
            block_exponent,
            disk: HashMap::new(),
            memory: HashMap::new(),
            commands: Vec::new(),
            words,
        }
    }

    fn block_bytes(&self) -> usize {
        1 << self.block_exponent
    }

    pub fn peek(&self, address: u64) -> u8 {
        if let Some(offset) = address.checked_sub(DMA_PHYSICAL).filter(|offset| *offset < DMA_BYTES as u64) {
            return self.words[offset as usize / 8].load(SeqCst).to_le_bytes()[offset as usize % 8];
        }
        self.memory.get(&(address / PAGE)).map_or(0, |page| page[(address % PAGE) as usize])
    }

    pub fn poke(&mut self, address: u64, byte: u8) {
        if let Some(offset) = address.checked_sub(DMA_PHYSICAL).filter(|offset| *offset < DMA_BYTES as u64) {
            let word = &self.words[offset as usize / 8];
            let mut bytes = word.load(SeqCst).to_le_bytes();
            bytes[offset as usize % 8] = byte;
            return word.store(u64::from_le_bytes(bytes), SeqCst);
        }
        self.memory.entry(address / PAGE).or_insert_with(|| vec![0; PAGE as usize])[(address % PAGE) as usize] = byte;
    }

    fn load(&self, address: u64, bytes: u64) -> u64 {
        (0..bytes).rev().fold(0, |value, index| value << 8 | u64::from(self.peek(address + index)))
    }

    fn copy_out(&mut self, address: u64, data: &[u8]) {
        for (index, byte) in data.iter().enumerate() {
            self.poke(address + index as u64, *byte);
        }
    }

    fn status(&self) -> u32 {
        match self.fault {
            Fault::Gone => u32::MAX,
            Fault::NeverReady => 0,
            Fault::NeverStops => 1,
            Fault::Fatal => self.configuration & 1 | 2,
            _ => self.configuration & 1,
        }
    }

    fn configure(&mut self, value: u32) {
        let (before, after) = (self.configuration & 1, value & 1);
        self.configuration = value;
        if before == 1 && after == 0 {
            self.resets += 1;
            self.submission.clear();
            self.completion.clear();
            self.pending.clear();
            if !matches!(self.fault, Fault::Gone | Fault::NeverStops | Fault::NeverReady | Fault::SilentAdmin) {
                self.fault = Fault::None;
            }
        }
        if before == 0 && after == 1 {
            assert_eq!(value, 1 | 6 << 16 | 4 << 20, "entry sizes, pages of 4 KiB");
            let [submission, completion] = self.admin;
            let ring = |address: u64, entries| {
                assert!(address.is_multiple_of(PAGE));
                Ring { address, entries, head: 0, tail: 0, phase: true, completion: 0 }
            };
            self.submission.insert(0, ring(submission, (self.attributes & 0xfff) as u16 + 1));
            self.completion.insert(0, ring(completion, (self.attributes >> 16) as u16 + 1));
        }
    }

    fn doorbell(&mut self, offset: u32, value: u32) {
        let index = offset / (4 << self.stride);
        assert_eq!(offset % (4 << self.stride), 0);
        let queue = (index / 2) as u16;
        if index % 2 == 1 {
            let ring = self.completion.get_mut(&queue).expect("a completion queue");
            assert!(value < ring.entries.into());
            ring.head = value as u16;
            return;
        }
        let mut ring = self.submission[&queue];
        assert!(value < ring.entries.into());
        while u32::from(ring.head) != value {
            let address = ring.address + 64 * u64::from(ring.head);
            let words = std::array::from_fn(|index| self.load(address + 4 * index as u64, 4) as u32);
            ring.head = (ring.head + 1) % ring.entries;
            self.pending.push(Fetched { queue, words });
        }
        self.submission.insert(queue, ring);
        while let Some(at) = self.pending.iter().position(|fetched| self.at_once || fetched.queue == 0) {
            self.execute(at);
        }
    }

    pub fn waiting(&self) -> usize {
        self.pending.len()
    }

    /// Does the pending command number `at`.
    pub fn execute(&mut self, at: usize) {
        let Fetched { queue, words } = self.pending.remove(at);
        let identifier = (words[0] >> 16) as u16;
        let (status, result) = if queue == 0 {
            if self.fault == Fault::SilentAdmin {
                return;
            }
            self.admin_command(&words)
        } else {
            self.commands.push((queue, words[0] as u8));
            match self.fault {
                Fault::Silent | Fault::Fatal | Fault::Gone | Fault::NeverStops => return,
                Fault::Status(status) => (status, 0),
                Fault::WrongIdentifier(bits) => {
                    self.complete(queue, identifier ^ bits, 0, 0);
                    (self.io_command(&words), 0)
                }
                Fault::Twice => {
                    self.complete(queue, identifier, 0, 0);
                    (self.io_command(&words), 0)
                }
                Fault::Flood => {
                    for flood in 0..400u16 {
                        self.complete(queue, flood.wrapping_mul(167), flood % 3, 0);
                    }
                    return;
                }
                _ => (self.io_command(&words), 0),
            }
        };
        self.complete(queue, identifier, status, result);
    }

    fn complete(&mut self, queue: u16, identifier: u16, status: u16, result: u32) {
        let submission = self.submission[&queue];
        let mut ring = self.completion[&submission.completion];
        let address = ring.address + 16 * u64::from(ring.tail);
        let upper = u32::from(identifier) | u32::from(ring.phase) << 16 | u32::from(status) << 17;
        for (index, word) in
            [result, 0, u32::from(submission.head) | u32::from(queue) << 16, upper].into_iter().enumerate()
        {
            self.copy_out(address + 4 * index as u64, &word.to_le_bytes());
        }
        ring.tail = (ring.tail + 1) % ring.entries;
        ring.phase ^= ring.tail == 0;
        self.completion.insert(submission.completion, ring);
        self.interrupt |= self.fault != Fault::LostInterrupt;
    }

    fn admin_command(&mut self, words: &[u32; 16]) -> (u16, u32) {
        let data = u64::from(words[6]) | u64::from(words[7]) << 32;
        let ring = |completion| Ring {
            address: data,
            entries: (words[10] >> 16) as u16 + 1,
            head: 0,
            tail: 0,
            phase: true,
            completion,
        };
        let queue = words[10] as u16;
        match words[0] as u8 {
            0x06 => {
                let answer = if words[10] == 1 { self.controller.clone() } else { self.namespace.clone() };
                self.copy_out(data, &answer);
                (0, 0)
            }
            0x0a => (0, 1),
            0x09 => {
                assert_eq!(words[10], 7);
                let granted = u32::from(self.granted.min(words[11] as u16 + 1) - 1);
                (0, granted << 16 | granted)
            }
            0x05 => {
                assert_eq!((words[11], data % PAGE), (3, 0), "contiguous, with interrupts");
                assert!(queue <= self.granted && u64::from(words[10] >> 16) <= self.capabilities & 0xffff);
                self.completion.insert(queue, ring(0));
                (0, 0)
            }
            0x01 => {
                let completion = (words[11] >> 16) as u16;
                assert!(words[11] & 1 == 1 && self.completion.contains_key(&completion));
                self.submission.insert(queue, ring(completion));
                (0, 0)
            }
            other => panic!("admin command {other:#x}"),
        }
    }

    /// The pages of a transfer, each with the bytes in it (4.3).
    fn pages(&self, words: &[u32; 16], bytes: u64) -> Vec<(u64, u64)> {
        let first = u64::from(words[6]) | u64::from(words[7]) << 32;
        let second = u64::from(words[8]) | u64::from(words[9]) << 32;
        assert!(first.is_multiple_of(4));
        let mut pages = vec![(first, bytes.min(PAGE - first % PAGE))];
        let mut left = bytes - pages[0].1;
        let listed = left > PAGE;
        assert!(left > 0 || second == 0);
        let mut at = 0;
        while left > 0 {
            let page = if listed { self.load(second + 8 * at, 8) } else { second };
            assert!(page.is_multiple_of(PAGE), "{page:#x}");
            assert!(!listed || second % PAGE + 8 * at < PAGE, "the list stays in its page");
            let taken = left.min(PAGE);
            pages.push((page, taken));
            (left, at) = (left - taken, at + 1);
        }
        pages
    }

    fn io_command(&mut self, words: &[u32; 16]) -> u16 {
        assert_eq!(words[1], 1, "namespace");
        let first = u64::from(words[10]) | u64::from(words[11]) << 32;
        let count = u64::from(words[12] & 0xffff) + 1;
        let size = self.block_bytes();
        let blocks = u64::from_le_bytes(self.namespace[..8].try_into().unwrap());
        match words[0] as u8 {
            0x00 => 0,
            opcode @ (1 | 2) => {
                assert!(first + count <= blocks);
                let bytes = count * size as u64;
                let limit = self.controller[77];
                assert!(limit == 0 || bytes <= PAGE << limit);
                let mut at = 0;
                for (address, length) in self.pages(words, bytes) {
                    for offset in 0..length {
                        let (block, index) = (first + at / size as u64, at as usize % size);
                        if opcode == 2 {
                            let byte = self.disk.get(&block).map_or(0, |data| data[index]);
                            self.poke(address + offset, byte);
                        } else {
                            let byte = self.peek(address + offset);
                            self.disk.entry(block).or_insert_with(|| vec![0; size])[index] = byte;
                        }
                        at += 1;
                    }
                }
                0
            }
            8 => {
                assert!(first + count <= blocks);
                for block in first..first + count {
                    self.disk.remove(&block);
                }
                0
            }
            9 => {
                assert_eq!((words[10], words[11]), (0, 4));
                let range = u64::from(words[6]) | u64::from(words[7]) << 32;
                let (count, first) = (self.load(range + 4, 4), self.load(range + 8, 8));
                assert!(first + count <= blocks);
                for block in first..first + count {
                    self.disk.remove(&block);
                }
                0
            }
            other => panic!("command {other:#x}"),
        }
    }
}

/// The registers and the clock of a shared controller.
#[derive(Clone)]
pub struct Bus(pub Rc<RefCell<Controller>>);

impl Bus {
    pub fn new(block_exponent: u32, blocks: u64) -> Self {
        Self(Rc::new(RefCell::new(Controller::new(block_exponent, blocks))))
    }

    pub fn dma(&self) -> DmaMemory<'static> {
        DmaMemory::new(self.0.borrow().words, DMA_PHYSICAL)
    }
}

impl Clock for Bus {
    fn milliseconds(&self) -> u64 {
        let mut controller = self.0.borrow_mut();
        controller.now += 1;
        controller.now
    }
}

impl Registers for Bus {
    fn read_u8(&self, offset: u32) -> u8 {
        panic!("read of 8 bits at {offset:#x}")
    }

    fn read_u16(&self, offset: u32) -> u16 {
        panic!("read of 16 bits at {offset:#x}")
    }

    fn read_u32(&self, offset: u32) -> u32 {
        let controller = self.0.borrow();
        if controller.fault == Fault::Gone {
            return u32::MAX;
        }
        match offset {
            0 => controller.capabilities as u32,
            4 => (controller.capabilities >> 32) as u32 | controller.stride,
            0x1c => controller.status(),
            other => panic!("read at {other:#x}"),
        }
    }

    fn write_u8(&self, offset: u32, _: u8) {
        panic!("write of 8 bits at {offset:#x}")
    }

    fn write_u16(&self, offset: u32, _: u16) {
        panic!("write of 16 bits at {offset:#x}")
    }

    fn write_u32(&self, offset: u32, value: u32) {
        let mut controller = self.0.borrow_mut();
        let half = |old: u64, upper: bool| {
            if upper { old & 0xffff_ffff | u64::from(value) << 32 } else { old & !0xffff_ffff | u64::from(value) }
        };
        match offset {
            _ if controller.fault == Fault::Gone => {}
            0x14 => controller.configure(value),
            0x24 => controller.attributes = value,
            0x28 | 0x2c => controller.admin[0] = half(controller.admin[0], offset == 0x2c),
            0x30 | 0x34 => controller.admin[1] = half(controller.admin[1], offset == 0x34),
            0x1000.. => controller.doorbell(offset - 0x1000, value),
            other => panic!("write at {other:#x}"),
        }
    }
}
