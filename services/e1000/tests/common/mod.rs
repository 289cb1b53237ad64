//! A card, its EEPROM, the driver's memory and a clock, in memory. It checks what the driver may do.

use bulkhead_driver::{Clock, DmaMemory, Registers};
use bulkhead_e1000::{MEMORY_BYTES, Model};
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

pub const PHYSICAL: u64 = 0x1_0040_0000;
pub const MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
pub const OTHER: [u8; 6] = [0x52, 0x54, 0, 0, 0, 9];
pub const ALL: [u8; 6] = [0xff; 6];

const CTRL: u32 = 0x0;
const STATUS: u32 = 0x8;
const EERD: u32 = 0x14;
const ICR: u32 = 0xc0;
const IMS: u32 = 0xd0;
const RCTL: u32 = 0x100;
const TCTL: u32 = 0x400;
const RAL: u32 = 0x5400;
const RAH: u32 = 0x5404;

/// How the card misbehaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    None,
    /// It does not come back from a reset.
    NeverReset,
    /// It does not read its EEPROM.
    SilentEeprom,
    /// It is not on the bus any more.
    Gone,
}

pub struct Card {
    pub model: Model,
    pub fault: Fault,
    pub now: u64,
    pub eeprom: [u16; 3],
    /// The registers have the address after a reset.
    pub loads_address: bool,
    /// A reset does nothing, as in Bochs.
    pub keeps_registers: bool,
    pub registers: BTreeMap<u32, u32>,
    pub causes: u32,
    pub missed: u32,
    /// Frames are sent as soon as the tail moves.
    pub at_once: bool,
    pub sent: Vec<Vec<u8>>,
    /// Status of sent frames: done, and collisions.
    pub sent_status: u8,
    context: Option<(u64, u64)>,
    /// What was read of the frame that is being sent.
    pieces: Vec<u8>,
    /// Writes of the receive tail.
    pub releases: usize,
    words: &'static [AtomicU64],
}

impl Card {
    fn new(model: Model) -> Self {
        let words = (0..MEMORY_BYTES / 8).map(|_| AtomicU64::new(u64::MAX)).collect::<Vec<_>>().leak();
        Self {
            model,
            fault: Fault::None,
            now: 0,
            eeprom: [0x5452, 0x1200, 0x5634],
            loads_address: true,
            keeps_registers: false,
            // Left on by somebody before.
            registers: [(RCTL, 2), (TCTL, 2), (IMS, u32::MAX), (STATUS, 0x83), (0x5208, 7), (0x540c, 1 << 31)].into(),
            causes: 0,
            missed: 0,
            at_once: true,
            sent: Vec::new(),
            sent_status: 1,
            context: None,
            pieces: Vec::new(),
            releases: 0,
            words,
        }
    }

    pub fn register(&self, offset: u32) -> u32 {
        self.registers.get(&offset).copied().unwrap_or(0)
    }

    /// Whether there is an interrupt.
    pub fn interrupts(&self) -> bool {
        self.causes & self.register(IMS) != 0
    }

    fn word(&self, address: u64) -> &AtomicU64 {
        let offset = address.checked_sub(PHYSICAL).expect("an address of the driver's memory");
        &self.words[offset as usize / 8]
    }

    pub fn load(&self, address: u64) -> u64 {
        self.word(address).load(SeqCst)
    }

    fn bytes(&self, address: u64, length: usize) -> Vec<u8> {
        let end = address + length as u64;
        (address..end).map(|at| self.load(at & !7).to_le_bytes()[(at % 8) as usize]).collect()
    }

    fn ring(&self, base: u32) -> u64 {
        let address = u64::from(self.register(base)) | u64::from(self.register(base + 4)) << 32;
        assert!(address.is_multiple_of(128) && self.register(base + 8).is_multiple_of(128));
        address
    }

    fn advance(&mut self, base: u32) -> u32 {
        let head = self.register(base + 0x10);
        let next = (head + 1) % (self.register(base + 8) / 16);
        self.registers.insert(base + 0x10, next);
        head
    }

    /// Descriptors of the receive ring that the card has.
    pub fn receive_descriptors(&self) -> u32 {
        let entries = self.register(0x2808) / 16;
        (self.register(0x2818) + entries - self.register(0x2810)) % entries
    }

    fn wanted(&self, frame: &[u8]) -> bool {
        let control = self.register(RCTL);
        let [low, high] = [self.register(RAL), self.register(RAH)];
        let own = u64::from(low) | u64::from(high & 0xffff) << 32;
        let own = high >> 31 != 0 && frame[..6] == own.to_le_bytes()[..6];
        control & 2 != 0 && (own || control & 8 != 0 || frame[..6] == ALL && control & 1 << 15 != 0)
    }

    /// A frame comes from the wire. Returns whether it was received.
    pub fn receive(&mut self, frame: &[u8]) -> bool {
        self.wanted(frame) && self.fill(frame, frame.len() as u16, 3, 0)
    }

    /// Fills a descriptor, with this length, status and these errors.
    pub fn fill(&mut self, data: &[u8], length: u16, status: u8, errors: u8) -> bool {
        if self.receive_descriptors() == 0 {
            self.causes |= 1 << 6;
            self.missed += 1;
            return false;
        }
        let ring = self.ring(0x2800);
        let descriptor = ring + 16 * u64::from(self.advance(0x2800));
        let buffer = self.load(descriptor);
        assert_eq!(self.load(descriptor + 8), 0, "what the card has is clean");
        assert!(buffer.is_multiple_of(2048) && data.len() <= 2048);
        for (index, chunk) in data.chunks(8).enumerate() {
            let mut bytes = [0xee; 8];
            bytes[..chunk.len()].copy_from_slice(chunk);
            self.word(buffer + 8 * index as u64).store(u64::from_le_bytes(bytes), SeqCst);
        }
        let written = u64::from(length) | 0xabcd << 16 | u64::from(status) << 32 | u64::from(errors) << 40;
        // The address is the card's to change, too.
        self.word(descriptor).store(u64::MAX, SeqCst);
        self.word(descriptor + 8).store(written, SeqCst);
        self.causes |= 1 << 7;
        true
    }

    /// Sends at most `count` descriptors.
    pub fn send(&mut self, count: usize) {
        for _ in 0..count {
            if self.register(TCTL) & 2 == 0 || self.register(0x3810) == self.register(0x3818) {
                return;
            }
            let ring = self.ring(0x3800);
            let descriptor = ring + 16 * u64::from(self.advance(0x3800));
            let (first, second) = (self.load(descriptor), self.load(descriptor + 8));
            let command = second >> 24 & 0xff;
            assert_eq!(second >> 32 & 0xf, 0, "status is the card's");
            if command & 0x20 != 0 && second >> 20 & 0xf == 0 {
                assert!(self.pieces.is_empty(), "a context stands before its frame");
                self.context = Some((first, second));
                continue;
            }
            assert_eq!(command & 0x02, 0x02, "check sequence");
            let piece = self.bytes(first, (second & 0xffff) as usize);
            self.pieces.extend(piece);
            if command & 0x09 == 0 {
                continue;
            }
            assert_eq!(command & 0x09, 0x09, "end of packet, report");
            let mut frame = std::mem::take(&mut self.pieces);
            if command & 0x20 != 0 {
                let (first, context) = self.context.take().expect("a context");
                let (start, place) = ((first >> 32 & 0xff) as usize, (first >> 40 & 0xff) as usize);
                assert_eq!((first >> 48, second >> 20 & 0xf), (0, 1), "end of the sum, data");
                if command & 0x04 != 0 {
                    assert_eq!(
                        (second >> 40 & 0xff, context >> 24 & 0xff),
                        (3, 0x27),
                        "both checksums; TCP, IPv4, segments"
                    );
                    self.cut(&frame, (first as usize & 0xff, start), context);
                    frame.clear();
                } else {
                    assert_eq!((second >> 40 & 0xff, first as u32, context >> 32), (2, 0, 0), "checksum of TCP or UDP");
                    let sum = !checksum(&frame[start..]);
                    frame[place..place + 2].copy_from_slice(&sum.to_be_bytes());
                }
            }
            if !frame.is_empty() {
                self.sent.push(frame);
            }
            self.word(descriptor + 8).store(second | u64::from(self.sent_status) << 32, SeqCst);
            self.causes |= 1;
        }
    }

    /// Sends a train by segments (3.5), with IP and TCP headers at these places.
    fn cut(&mut self, train: &[u8], (ip, tcp): (usize, usize), context: u64) {
        let (payload, header) = ((context & 0xf_ffff) as usize, (context >> 40 & 0xff) as usize);
        assert_eq!(header + payload, train.len());
        for (number, data) in train[header..].chunks((context >> 48) as usize).enumerate() {
            let mut frame = [&train[..header], data].concat();
            let mut put = |at: usize, value: u16| frame[at..at + 2].copy_from_slice(&value.to_be_bytes());
            let word = |at: usize| u16::from_be_bytes([train[at], train[at + 1]]);
            assert_eq!((word(ip + 2), word(ip + 10)), (0, 0), "length and checksum are the card's");
            put(ip + 2, (header + data.len() - ip) as u16);
            put(ip + 4, word(ip + 4) + number as u16);
            let sequence = u32::from_be_bytes(train[tcp + 4..tcp + 8].try_into().unwrap());
            let sequence = sequence + (number * (context >> 48) as usize) as u32;
            put(tcp + 4, (sequence >> 16) as u16);
            put(tcp + 6, sequence as u16);
            let with_length =
                checksum(&[&train[tcp + 16..tcp + 18], &((frame.len() - tcp) as u16).to_be_bytes()].concat());
            frame[tcp + 16..tcp + 18].copy_from_slice(&with_length.to_be_bytes());
            for (place, start, end) in [(tcp + 16, tcp, frame.len()), (ip + 10, ip, tcp)] {
                let sum = !checksum(&frame[start..end]);
                frame[place..place + 2].copy_from_slice(&sum.to_be_bytes());
            }
            self.sent.push(frame);
        }
    }

    /// Writes into the last descriptor that was given to the card to send.
    pub fn spoil_sent(&mut self, word: u64) {
        let ring = self.ring(0x3800);
        let entries = self.register(0x3808) / 16;
        let last = (self.register(0x3818) + entries - 1) % entries;
        self.word(ring + 16 * u64::from(last) + 8).store(word, SeqCst);
    }

    fn control(&mut self, value: u32) {
        self.registers.insert(CTRL, value & !(1 << 26));
        if value & 1 << 26 == 0 {
            return;
        }
        assert_eq!((self.register(RCTL), self.register(TCTL), self.register(IMS)), (0, 0, 0), "reset of a quiet card");
        if self.fault == Fault::NeverReset {
            self.registers.insert(CTRL, value);
        } else if !self.keeps_registers {
            self.registers = [(STATUS, 0x8_0083), (0x10, 1 << 9)].into();
            if self.loads_address {
                let [first, second, third] = self.eeprom.map(u32::from);
                self.registers.extend([(RAL, first | second << 16), (RAH, third | 1 << 31)]);
            }
        }
    }

    fn eeprom(&self) -> u32 {
        let asked = self.register(EERD);
        let (shift, done) = if self.model == Model::I82574L { (2, 1 << 1) } else { (8, 1 << 4) };
        let word = self.eeprom[((asked & 0xffff) >> shift) as usize];
        let done = if asked & 1 != 0 && self.fault != Fault::SilentEeprom { done } else { 0 };
        u32::from(word) << 16 | done
    }
}

/// The sum of 16-bit words in ones' complement (RFC 1071).
pub fn checksum(bytes: &[u8]) -> u16 {
    let sum = bytes
        .chunks(2)
        .fold(0u32, |sum, pair| sum + (u32::from(pair[0]) << 8) + pair.get(1).map_or(0, |low| u32::from(*low)));
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// The registers and the clock of a shared card.
#[derive(Clone)]
pub struct Bus(pub Rc<RefCell<Card>>);

impl Bus {
    pub fn new(model: Model) -> Self {
        Self(Rc::new(RefCell::new(Card::new(model))))
    }

    pub fn dma(&self) -> DmaMemory<'static> {
        DmaMemory::new(self.0.borrow().words, PHYSICAL)
    }

    /// Frames that were sent since the last call.
    pub fn sent(&self) -> VecDeque<Vec<u8>> {
        std::mem::take(&mut self.0.borrow_mut().sent).into()
    }
}

impl Clock for Bus {
    fn milliseconds(&self) -> u64 {
        let mut card = self.0.borrow_mut();
        card.now += 1;
        card.now
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
        let mut card = self.0.borrow_mut();
        if card.fault == Fault::Gone {
            return u32::MAX;
        }
        match offset {
            EERD => card.eeprom(),
            ICR if card.model == Model::I82574L && card.register(IMS) != 0 => card.causes,
            ICR => std::mem::take(&mut card.causes),
            STATUS if card.register(CTRL) & 4 != 0 => card.register(STATUS) & !(1 << 19),
            0x4010 => std::mem::take(&mut card.missed),
            _ => card.register(offset),
        }
    }

    fn write_u8(&self, offset: u32, _: u8) {
        panic!("write of 8 bits at {offset:#x}")
    }

    fn write_u16(&self, offset: u32, _: u16) {
        panic!("write of 16 bits at {offset:#x}")
    }

    fn write_u32(&self, offset: u32, value: u32) {
        let mut card = self.0.borrow_mut();
        if card.fault == Fault::Gone {
            return;
        }
        match offset {
            CTRL => card.control(value),
            ICR => card.causes &= !value,
            0xd8 => {
                let left = card.register(IMS) & !value;
                card.registers.insert(IMS, left);
            }
            IMS => {
                let more = card.register(IMS) | value;
                card.registers.insert(IMS, more);
            }
            0x2818 | 0x3818 => {
                assert!(value == 0 || value < card.register(offset - 0x10) / 16, "a tail in the ring");
                card.registers.insert(offset, value);
                card.releases += usize::from(offset == 0x2818);
                if offset == 0x3818 && card.at_once {
                    card.send(usize::MAX);
                }
            }
            0xe4 => assert_eq!((card.model, value), (Model::I82574L, 0x8008_0808), "vectors"),
            EERD | RCTL | TCTL | 0x410 | 0x2800..=0x2810 | 0x3800..=0x3810 | 0x3828 | 0x5200..=0x547c => {
                card.registers.insert(offset, value);
            }
            other => panic!("write at {other:#x}"),
        }
    }
}
