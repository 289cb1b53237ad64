//! An AHCI controller, its drives, physical memory and a clock, in memory.
#![allow(dead_code, reason = "not every test file uses everything")]

mod bus;
pub mod driving;

pub use bus::Bus;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

pub const DMA_PHYSICAL: u64 = 0x40_0000;
pub const DMA_BYTES: usize = bulkhead_ahci::MEMORY_BYTES;
const PAGE: u64 = 4096;
/// The port of the drive. Port 0 has a packet device, port 1 is not there, and port 2 has nothing.
pub const DRIVE: u32 = 3;

/// How controller and drive misbehave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    None,
    /// It is not on the bus any more.
    Gone,
    /// The firmware does not give it up.
    Firmware,
    /// The controller's reset does not end.
    HostReset,
    /// The port does not stop; with `true`, a reset of the controller does not help.
    Stuck(bool),
    /// The link does not come back from a reset.
    NoLink,
    /// The drive does not get ready after a reset.
    NotReady,
    /// Commands have no end.
    Silent,
    /// The work is done, and the interrupt does not come.
    LostInterrupt,
    /// The controller says that it has moved less than it has.
    Short,
    /// The link fails during a transfer.
    Link,
}

pub struct Controller {
    pub now: u64,
    pub fault: Fault,
    pub capabilities: u32,
    control: u32,
    pub pending_interrupts: u32,
    handoff: u32,
    list: u64,
    received: u64,
    events: u32,
    enabled: u32,
    command: u32,
    task: u32,
    link: u32,
    link_control: u32,
    errors: u32,
    active: u32,
    issue: u32,
    /// Bits that the port says are busy though nobody gave them to it.
    pub ghosts: u32,
    pending: Vec<u16>,
    /// The drive refuses everything until a reset, after an error of a queued command.
    halted: bool,
    pub at_once: bool,
    pub identify: [u16; 256],
    /// Logical sectors that cannot be read or written.
    pub bad: HashSet<u64>,
    pub disk: HashMap<u64, Vec<u8>>,
    pub memory: HashMap<u64, Vec<u8>>,
    pub commands: Vec<u8>,
    pub link_resets: usize,
    pub host_resets: usize,
    words: &'static [AtomicU64],
}

impl Controller {
    pub fn new(logical: usize, sectors: u64) -> Self {
        let words = (0..DMA_BYTES / 8).map(|_| AtomicU64::new(0)).collect::<Vec<_>>().leak();
        let mut identify = [0u16; 256];
        identify[49] = 0x300;
        identify[75] = 31;
        identify[76] = 0x100;
        identify[83] = 0x7400;
        identify[85] = 0x20;
        identify[87] = 0x4000;
        for (index, word) in identify[100..104].iter_mut().enumerate() {
            *word = (sectors >> (16 * index)) as u16;
        }
        identify[105] = 1;
        identify[106] = 0x5000;
        identify[117] = (logical / 2) as u16;
        identify[169] = 1;
        for (first, text) in [(10, "SERIAL OF AHCI      "), (23, "FW 3    "), (27, "BULKHEAD TEST DRIVE     ")] {
            for (word, pair) in identify[first..].iter_mut().zip(text.as_bytes().chunks(2)) {
                *word = u16::from_be_bytes([pair[0], pair[1]]);
            }
        }
        Self {
            now: 0,
            fault: Fault::None,
            // 64-bit addresses, queuing, 32 slots.
            capabilities: 1 << 31 | 1 << 30 | 31 << 8,
            control: 0,
            pending_interrupts: 0,
            handoff: 1,
            list: 0,
            received: 0,
            events: 0,
            enabled: 0,
            command: 0,
            task: 0x7f,
            link: 0,
            link_control: 0,
            errors: 0,
            active: 0,
            issue: 0,
            ghosts: 0,
            pending: Vec::new(),
            halted: false,
            at_once: true,
            identify,
            bad: HashSet::new(),
            disk: HashMap::new(),
            memory: HashMap::new(),
            commands: Vec::new(),
            link_resets: 0,
            host_resets: 0,
            words,
        }
    }

    fn logical(&self) -> usize {
        usize::from(self.identify[117]) * 2
    }

    fn sectors(&self) -> u64 {
        (0..4).rev().fold(0, |sum, index| sum << 16 | u64::from(self.identify[100 + index]))
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

    fn raise(&mut self, events: u32) {
        self.events |= events;
        if self.fault != Fault::LostInterrupt && self.events & self.enabled != 0 {
            self.pending_interrupts |= 1 << DRIVE;
        }
    }

    /// Whether the controller interrupts.
    pub fn interrupts(&self) -> bool {
        self.control & 2 != 0 && self.pending_interrupts != 0
    }

    /// Takes the drive off its port.
    pub fn unplug(&mut self) {
        self.link = 0;
        self.pending.clear();
        self.errors |= 1 << 26;
        self.raise(1 << 6 | 1 << 22);
    }

    fn link_up(&mut self) {
        if self.fault == Fault::NoLink {
            return;
        }
        self.link = 0x123;
        self.halted = false;
        self.task = if self.fault == Fault::NotReady { 0x80 } else { 0x50 };
        // The drive's arrival is an event of its own.
        self.errors |= 1 << 26;
        self.raise(1 << 6);
    }

    fn write_command(&mut self, value: u32) {
        let before = self.command;
        self.command = value & 0x17 | before & 0xc000;
        if value & 2 != 0 && before & 2 == 0 {
            self.link_up();
        }
        self.command = self.command & !0x4000 | (value & 0x10) << 10;
        if value & 1 != 0 && before & 1 == 0 {
            assert!(self.link & 0xf == 3 && self.task & 0x88 == 0 && value & 0x10 != 0, "the drive is ready");
            self.command |= 0x8000;
        }
        if value & 1 == 0 && !matches!(self.fault, Fault::Stuck(_)) {
            self.command &= !0x8000;
            (self.active, self.issue) = (0, 0);
            self.pending.clear();
        }
    }

    fn reset_host(&mut self) {
        self.host_resets += 1;
        if matches!(self.fault, Fault::HostReset | Fault::Stuck(true)) {
            self.control |= 1;
            return;
        }
        if let Fault::Stuck(_) = self.fault {
            self.fault = Fault::None;
        }
        (self.control, self.command, self.enabled, self.events) = (0, 0, 0, 0);
        (self.active, self.issue, self.link, self.task) = (0, 0, 0, 0x7f);
        self.pending.clear();
    }

    fn write_link_control(&mut self, value: u32) {
        if value & 0xf == 1 {
            assert_eq!(self.command & 0x8001, 0, "the port is stopped");
            assert_eq!(value & 0xf00, 0x300, "the link does not save power");
            self.link = 0;
            self.task = 0x7f;
            self.link_resets += 1;
            if matches!(self.fault, Fault::Silent | Fault::LostInterrupt | Fault::Link | Fault::Short) {
                self.fault = Fault::None;
            }
        } else if self.link_control & 0xf == 1 {
            self.link_up();
        }
        self.link_control = value;
    }

    fn write_issue(&mut self, value: u32) {
        assert_ne!(self.command & 0x8000, 0);
        assert_eq!(self.errors & 1 << 26, 0, "the drive's arrival was noticed");
        for slot in (0..32u16).filter(|slot| value >> slot & 1 != 0) {
            assert_eq!(self.issue >> slot & 1, 0);
            self.issue |= 1 << slot;
            let queued = self.is_queued(slot);
            assert_eq!(queued, self.active >> slot & 1 != 0);
            for other in &self.pending {
                assert!(queued && self.is_queued(*other), "a command without queuing is alone");
            }
            if queued {
                self.issue &= !(1 << slot);
            }
            self.pending.push(slot);
        }
        while self.at_once && !self.pending.is_empty() && !self.halted {
            self.execute(0);
        }
    }

    fn table(&self, slot: u16) -> u64 {
        self.load(self.list + 32 * u64::from(slot) + 8, 8)
    }

    fn is_queued(&self, slot: u16) -> bool {
        matches!(self.peek(self.table(slot) + 2), 0x60 | 0x61)
    }

    pub fn waiting(&self) -> usize {
        if self.halted { 0 } else { self.pending.len() }
    }

    /// Does the pending command number `at`.
    pub fn execute(&mut self, at: usize) {
        let slot = self.pending.remove(at);
        let queued = self.is_queued(slot);
        let header = self.load(self.list + 32 * u64::from(slot), 8);
        self.commands.push(self.peek(self.table(slot) + 2));
        match self.fault {
            Fault::Silent | Fault::Gone | Fault::Stuck(_) | Fault::NoLink | Fault::NotReady => return,
            Fault::Link => return self.raise(1 << 27),
            _ => {}
        }
        match self.command(slot, header) {
            Some(moved) => {
                let moved = if self.fault == Fault::Short { moved / 2 } else { moved };
                if queued {
                    self.active &= !(1 << slot);
                    self.raise(1 << 3);
                } else {
                    for index in 0..4 {
                        let address = self.list + 32 * u64::from(slot) + 4 + index;
                        self.poke(address, (moved >> (8 * index)) as u8);
                    }
                    self.issue &= !(1 << slot);
                    self.task = 0x50;
                    self.raise(1);
                }
            }
            None => {
                self.task = 0x441;
                self.halted = queued;
                self.raise(1 << 30);
            }
        }
    }

    /// Bytes that were moved, or nothing after an error.
    fn command(&mut self, slot: u16, header: u64) -> Option<u64> {
        let table = self.table(slot);
        assert_eq!(header & 0x1f, 5);
        let byte = |index: u64| u64::from(self.peek(table + index));
        assert_eq!((byte(0), byte(1)), (0x27, 0x80));
        let low = byte(4) | byte(5) << 8 | byte(6) << 16;
        let long = low | byte(8) << 24 | byte(9) << 32 | byte(10) << 40;
        let short = low | (byte(7) & 0xf) << 24;
        let (features, count) = (byte(3) | byte(11) << 8, byte(12) | byte(13) << 8);
        let whole = |count: u64, most: u64| if count == 0 { most } else { count };
        let command = byte(2);
        let pieces: Vec<(u64, u64)> = (0..header >> 16 & 0xffff)
            .map(|index| {
                let at = table + 0x80 + 16 * index;
                (self.load(at, 8), (self.load(at + 12, 4) & 0x3f_ffff) + 1)
            })
            .collect();
        assert!(pieces.iter().all(|(address, length)| address % 2 == 0 && length % 2 == 0));
        let bytes: u64 = pieces.iter().map(|(_, length)| length).sum();
        let places = pieces.iter().flat_map(|(address, length)| *address..address + length);
        let write = header >> 6 & 1 != 0;
        match command {
            0xec => {
                assert!(!write);
                let answer: Vec<u8> = self.identify.iter().flat_map(|word| word.to_le_bytes()).collect();
                let places: Vec<_> = places.collect();
                for (place, byte) in places.into_iter().zip(answer) {
                    self.poke(place, byte);
                }
            }
            0x25 | 0x35 | 0x60 | 0x61 | 0xc8 | 0xca => {
                let (first, count) = match command {
                    0x25 | 0x35 => (long, whole(count, 65536)),
                    0x60 | 0x61 => {
                        assert_eq!(count, u64::from(slot) << 3);
                        (long, whole(features, 65536))
                    }
                    _ => (short, whole(count & 0xff, 256)),
                };
                assert_eq!(write, matches!(command, 0x35 | 0x61 | 0xca), "direction");
                let size = self.logical() as u64;
                assert_eq!(bytes, count * size, "the descriptors describe the transfer exactly");
                assert!(first + count <= self.sectors());
                let places: Vec<_> = places.collect();
                for (at, place) in (0..).zip(places) {
                    let (sector, index) = (first + at / size, (at % size) as usize);
                    if self.bad.contains(&sector) {
                        return None;
                    }
                    if write {
                        let byte = self.peek(place);
                        self.disk.entry(sector).or_insert_with(|| vec![0; size as usize])[index] = byte;
                    } else {
                        let byte = self.disk.get(&sector).map_or(0, |data| data[index]);
                        self.poke(place, byte);
                    }
                }
            }
            0xe7 | 0xea => {
                if self.bad.contains(&u64::MAX) {
                    return None;
                }
            }
            0x06 => {
                assert!(write && features == 1 && count == 1 && bytes == 512);
                let (first, _) = pieces[0];
                for index in 0..64 {
                    let range = self.load(first + 8 * index, 8);
                    let (sector, length) = (range & 0xffff_ffff_ffff, range >> 48);
                    assert!(sector + length <= self.sectors());
                    if length > 0 {
                        self.disk.retain(|place, _| !(sector..sector + length).contains(place));
                    }
                }
            }
            other => panic!("command {other:#x}"),
        }
        Some(bytes)
    }

    fn read_port(&self, register: u32) -> u32 {
        match register {
            0x10 => self.events,
            0x14 => self.enabled,
            0x18 => self.command,
            0x20 => self.task,
            0x24 => 0x101,
            0x28 => self.link,
            0x2c => self.link_control,
            0x30 => self.errors,
            0x34 => self.active,
            0x38 => self.issue | self.ghosts,
            other => panic!("read of port register {other:#x}"),
        }
    }

    fn write_port(&mut self, register: u32, value: u32) {
        let half = |old: u64, upper: bool| {
            if upper { old & 0xffff_ffff | u64::from(value) << 32 } else { old & !0xffff_ffff | u64::from(value) }
        };
        match register {
            0x00 | 0x04 => self.list = half(self.list, register == 4),
            0x08 | 0x0c => self.received = half(self.received, register == 12),
            0x10 => self.events &= !value | if self.errors & 1 << 26 != 0 { 1 << 6 } else { 0 },
            0x14 => self.enabled = value,
            0x18 => self.write_command(value),
            0x2c => self.write_link_control(value),
            0x30 => self.errors &= !value,
            0x34 => self.active |= value,
            0x38 => self.write_issue(value),
            other => panic!("write of port register {other:#x}"),
        }
    }
}
