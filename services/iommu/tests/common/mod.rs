//! A remapping unit in memory: its registers. The two fault recording registers are at 0x220.

use bulkhead_driver::Registers;
use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Physical address of the memory.
pub const MEMORY: u64 = 0x1234_5000;

/// Memory for tables, full of what was there before.
pub fn memory(pages: usize) -> Vec<AtomicU64> {
    (0..pages * 512).map(|_| AtomicU64::new(u64::MAX)).collect()
}

/// A word at a physical address.
pub fn word(memory: &[AtomicU64], address: u64) -> u64 {
    memory[((address - MEMORY) / 8) as usize].load(Relaxed)
}

/// A unit.
pub struct Model<'a> {
    pub words: RefCell<Vec<u32>>,
    pub memory: &'a [AtomicU64],
    pub log: RefCell<Vec<&'static str>>,
    /// It takes commands and does nothing.
    pub stuck: bool,
}

pub const CAPABILITY: u64 = 1 << 9 | 1 << 10 | 2 | 38 << 16 | 0x22 << 24 | 1 << 34 | 1 << 40;
pub const EXTENDED: u64 = 1 << 1 | 1 << 3;

impl<'a> Model<'a> {
    pub fn new(memory: &'a [AtomicU64]) -> Self {
        let model = Self { words: vec![0; 1024].into(), memory, log: RefCell::default(), stuck: false };
        model.set(0, 0x10);
        model.set64(8, CAPABILITY);
        model.set64(0x10, EXTENDED);
        model
    }

    pub fn set(&self, offset: u32, value: u32) {
        self.words.borrow_mut()[offset as usize / 4] = value;
    }

    pub fn get(&self, offset: u32) -> u32 {
        self.words.borrow()[offset as usize / 4]
    }

    pub fn set64(&self, offset: u32, value: u64) {
        self.set(offset, value as u32);
        self.set(offset + 4, (value >> 32) as u32);
    }

    pub fn get64(&self, offset: u32) -> u64 {
        u64::from(self.get(offset)) | u64::from(self.get(offset + 4)) << 32
    }

    fn command(&self, value: u32) {
        let old = self.get(0x1c);
        let names = [(31, "translate"), (30, "root"), (26, "queue"), (25, "interrupts"), (24, "table"), (23, "old")];
        for (bit, name) in names {
            if value & 1 << bit != 0 && (old & 1 << bit == 0 || bit == 30 || bit == 24) {
                self.log.borrow_mut().push(name);
            }
        }
        let lasting = 1 << 31 | 1 << 26 | 1 << 25 | 1 << 23;
        let once = (old | value) & (1 << 30 | 1 << 24);
        self.set(0x1c, value & lasting | once);
    }

    /// Carries out what is in the queue.
    fn run_queue(&self, tail: u64) {
        assert_ne!(self.get(0x1c) & 1 << 26, 0, "the queue is on");
        let queue = self.get64(0x90) & !0xfff;
        for place in (0..tail).step_by(16) {
            let (low, high) = (word(self.memory, queue + place), word(self.memory, queue + place + 8));
            self.log.borrow_mut().push(match low & 0xf {
                1 => "forget contexts",
                2 => "forget translations",
                4 => "forget interrupts",
                5 => {
                    let index = ((high - MEMORY) / 8) as usize;
                    self.memory[index].store(low >> 32, Relaxed);
                    "wait"
                }
                _ => panic!("descriptor {low:#x}"),
            });
        }
    }
}

impl Registers for Model<'_> {
    fn read_u8(&self, _: u32) -> u8 {
        panic!("registers have 32 bits")
    }
    fn read_u16(&self, _: u32) -> u16 {
        panic!("registers have 32 bits")
    }
    fn read_u32(&self, offset: u32) -> u32 {
        self.get(offset)
    }
    fn write_u8(&self, _: u32, _: u8) {
        panic!("registers have 32 bits")
    }
    fn write_u16(&self, _: u32, _: u16) {
        panic!("registers have 32 bits")
    }
    fn write_u32(&self, offset: u32, value: u32) {
        match offset {
            0x18 if self.stuck => {}
            0x18 => self.command(value),
            0x34 => self.set(0x34, self.get(0x34) & !value),
            0x22c | 0x23c => self.set(offset, self.get(offset) & !(value & 1 << 31)),
            0x88 if value != 0 => self.run_queue(u64::from(value)),
            _ => self.set(offset, value),
        }
    }
}
