//! The card's registers (13.4; datasheet 10.2).

use crate::model::Model;
use bulkhead_driver::{Clock, Link, Registers};

/// Offsets.
const CTRL: u32 = 0x0000;
const STATUS: u32 = 0x0008;
const EECD: u32 = 0x0010;
const EERD: u32 = 0x0014;
const ICR: u32 = 0x00c0;
const IMS: u32 = 0x00d0;
const IMC: u32 = 0x00d8;
const IVAR: u32 = 0x00e4;
const RCTL: u32 = 0x0100;
const TCTL: u32 = 0x0400;
const TIPG: u32 = 0x0410;
const RDBAL: u32 = 0x2800;
const TDBAL: u32 = 0x3800;
const TXDCTL: u32 = 0x3828;
const MPC: u32 = 0x4010;
const MTA: u32 = 0x5200;
const RAL: u32 = 0x5400;
/// From the base of a ring's registers: length, head, tail.
const LENGTH: u32 = 0x08;
const HEAD: u32 = 0x10;
const TAIL: u32 = 0x18;

/// CTRL: the card ends its DMA (82574L).
const MASTER_DISABLE: u32 = 1 << 2;
/// CTRL: the MAC tells the speed by itself; set link up; reset.
const AUTO_SPEED: u32 = 1 << 5;
const LINK_UP: u32 = 1 << 6;
const RESET: u32 = 1 << 26;
/// CTRL: link reset, inverted loss of signal, forced speed and duplex, flow control, VLAN tags by the card, PHY reset.
const UNWANTED: u32 = 1 << 3 | 1 << 7 | 1 << 11 | 1 << 12 | 1 << 27 | 1 << 28 | 1 << 30 | 1 << 31;
/// STATUS: the card may do DMA (82574L).
const MASTER_ENABLED: u32 = 1 << 19;
/// EECD: the EEPROM was read (82574L).
const AUTO_READ_DONE: u32 = 1 << 9;
/// EERD: read a word.
const START: u32 = 1 << 0;
/// RCTL: on; all unicast; all multicast; broadcast; no check sequence. Buffers of 2048 bytes and no long frames are 0.
const RECEIVE: u32 = 1 << 1 | 1 << 15 | 1 << 26;
const PROMISCUOUS: u32 = 1 << 3 | 1 << 4;
/// TCTL: on; short frames are padded; 15 tries; collisions as for full duplex (14.5).
const TRANSMIT: u32 = 1 << 1 | 1 << 3 | 0x0f << 4 | 0x40 << 12;
/// RAH: the address is valid.
const VALID: u32 = 1 << 31;
const ADDRESSES: u32 = 16;
const GROUP_WORDS: u32 = 128;

/// Causes of interrupts: a descriptor was written back, the link changed, few receive buffers, none, a frame was received.
const WRITTEN_BACK: u32 = 1 << 0;
const LINK_CHANGED: u32 = 1 << 2;
const FEW_BUFFERS: u32 = 1 << 4;
const OVERRUN: u32 = 1 << 6;
const RECEIVED: u32 = 1 << 7;

/// The same with MSI-X (82574L): of the receive queue, the transmit queue, and all others (datasheet 10.2.4.1).
const RECEIVE_QUEUE: u32 = 1 << 20;
const TRANSMIT_QUEUE: u32 = 1 << 22;
const OTHERS: u32 = 1 << 24;
/// IVAR: vector 0, valid, for the receive queue, the transmit queue and others; each write-back interrupts (datasheet 10.2.4).
const ALL_TO_VECTOR_0: u32 = 1 << 31 | 8 << 16 | 8 << 8 | 8;

/// Limits of waits, in milliseconds.
const RESET_LIMIT: u64 = 1_000;
const MASTER_LIMIT: u64 = 100;
const AUTO_READ_LIMIT: u64 = 500;
const EEPROM_LIMIT: u64 = 100;
/// How long what is under way on the bus may last, and the EEPROM is read.
const SETTLE: u64 = 10;

/// Why there are interrupts: ICR.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Causes(u32);

impl Causes {
    /// The link may have changed.
    pub fn link(self) -> bool {
        self.0 & LINK_CHANGED != 0
    }

    /// Frames were lost.
    pub fn overrun(self) -> bool {
        self.0 & OVERRUN != 0
    }
}

/// A ring's place: its registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ring {
    Receive,
    Transmit,
}

impl Ring {
    fn base(self) -> u32 {
        match self {
            Self::Receive => RDBAL,
            Self::Transmit => TDBAL,
        }
    }
}

/// The registers of a card.
pub struct Card<R> {
    registers: R,
    model: Model,
}

impl<R: Registers> Card<R> {
    pub fn new(registers: R, model: Model) -> Self {
        Self { registers, model }
    }

    /// Nothing answers on the bus.
    pub fn is_gone(&self) -> bool {
        self.registers.read_u32(STATUS) == u32::MAX
    }

    /// Resets the card, with all interrupts masked (14.2, 14.3; datasheet 4.6). False if it does not come back. The models of some
    /// emulators leave the registers as they are, so that all those that count are written afterwards.
    pub fn reset(&self, clock: &impl Clock) -> bool {
        self.quiet();
        self.registers.write_u32(RCTL, 0);
        self.registers.write_u32(TCTL, 0);
        if self.model.is_express() {
            let control = self.registers.read_u32(CTRL);
            self.registers.write_u32(CTRL, control | MASTER_DISABLE);
            // A card that does not end its DMA is reset all the same.
            clock.wait_until(MASTER_LIMIT, || self.registers.read_u32(STATUS) & MASTER_ENABLED == 0);
        }
        clock.wait_until(SETTLE, || false);
        let control = self.registers.read_u32(CTRL);
        self.registers.write_u32(CTRL, control | RESET);
        clock.wait_until(SETTLE, || false);
        if !clock.wait_until(RESET_LIMIT, || self.registers.read_u32(CTRL) & RESET == 0) {
            return false;
        }
        if self.model.is_express() {
            // Without an EEPROM it never is; then there is no address either.
            clock.wait_until(AUTO_READ_LIMIT, || self.registers.read_u32(EECD) & AUTO_READ_DONE != 0);
        }
        self.quiet();
        let control = self.registers.read_u32(CTRL) & !(UNWANTED | MASTER_DISABLE | RESET);
        self.registers.write_u32(CTRL, control | AUTO_SPEED | LINK_UP);
        true
    }

    /// Masks all interrupts, and forgets their causes.
    fn quiet(&self) {
        self.registers.write_u32(IMC, u32::MAX);
        self.causes();
    }

    /// The first receive address, if it is valid (13.5.2).
    pub fn address(&self) -> Option<[u16; 3]> {
        let (low, high) = (self.registers.read_u32(RAL), self.registers.read_u32(RAL + 4));
        (high & VALID != 0).then_some([low as u16, (low >> 16) as u16, high as u16])
    }

    /// A word of the EEPROM; `None` if it does not come in time.
    pub fn eeprom_word(&self, clock: &impl Clock, address: u8) -> Option<u16> {
        let read = self.model.eeprom_read();
        self.registers.write_u32(EERD, u32::from(address) << read.address_shift | START);
        let mut value = 0;
        let done = clock.wait_until(EEPROM_LIMIT, || {
            value = self.registers.read_u32(EERD);
            value & read.done != 0
        });
        done.then_some((value >> 16) as u16)
    }

    /// Makes this the only address to which frames are received; no groups (14.4).
    pub fn set_address(&self, [first, second, third]: [u16; 3]) {
        for index in 1..ADDRESSES {
            self.registers.write_u32(RAL + 8 * index + 4, 0);
            self.registers.write_u32(RAL + 8 * index, 0);
        }
        self.registers.write_u32(RAL, u32::from(first) | u32::from(second) << 16);
        self.registers.write_u32(RAL + 4, u32::from(third) | VALID);
        for word in 0..GROUP_WORDS {
            self.registers.write_u32(MTA + 4 * word, 0);
        }
    }

    /// Gives the card a ring, empty, while receipt or sending is off.
    pub fn set_ring(&self, ring: Ring, address: u64, bytes: u32) {
        let base = ring.base();
        self.registers.write_u64(base, address);
        self.registers.write_u32(base + LENGTH, bytes);
        self.registers.write_u32(base + HEAD, 0);
        self.registers.write_u32(base + TAIL, 0);
    }

    /// The card has the descriptors before this one.
    pub fn set_tail(&self, ring: Ring, index: usize) {
        self.registers.write_u32(ring.base() + TAIL, index as u32);
    }

    /// Begins to send and to receive (14.4, 14.5).
    pub fn run(&self) {
        self.registers.write_u32(TXDCTL, self.model.transmit_descriptors());
        self.registers.write_u32(TIPG, self.model.transmit_gaps());
        self.registers.write_u32(TCTL, TRANSMIT | self.model.transmit_requests());
        self.set_promiscuous(false);
    }

    /// Receives: all frames, or those to the card's address and to everybody.
    pub fn set_promiscuous(&self, promiscuous: bool) {
        self.registers.write_u32(RCTL, RECEIVE | if promiscuous { PROMISCUOUS } else { 0 });
    }

    /// Lets interrupts through, but those of frames that were sent.
    pub fn unmask(&self) {
        let mut causes = LINK_CHANGED | FEW_BUFFERS | OVERRUN | RECEIVED;
        if self.model.is_express() {
            // With MSI-X it is these that interrupt; without, they never come.
            self.registers.write_u32(IVAR, ALL_TO_VECTOR_0);
            causes |= RECEIVE_QUEUE | OTHERS;
        }
        self.registers.write_u32(IMS, causes);
    }

    /// Lets interrupts of frames that were sent through, or not. One that came before comes when they are let through.
    pub fn set_sent_interrupts(&self, on: bool) {
        let queue = if self.model.is_express() { TRANSMIT_QUEUE } else { 0 };
        self.registers.write_u32(if on { IMS } else { IMC }, WRITTEN_BACK | queue);
    }

    /// The causes of interrupts since the last call; the card forgets them (13.4.17). `None` if they are all ones, as on a bus where
    /// nothing answers. What was found is looked at after this call, so that a cause that comes again meanwhile is not missed.
    pub fn causes(&self) -> Option<Causes> {
        let causes = self.registers.read_u32(ICR);
        if causes == u32::MAX {
            return None;
        }
        // The 82540EM forgets them when they are read, the 82574L only if they are all masked.
        if self.model.is_express() && causes != 0 {
            self.registers.write_u32(ICR, causes);
        }
        Some(Causes(causes))
    }

    /// Frames that were lost since the last call (13.7).
    pub fn missed(&self) -> u64 {
        Some(self.registers.read_u32(MPC)).filter(|missed| *missed != u32::MAX).map_or(0, u64::from)
    }

    /// The link now (13.4.2).
    pub fn link(&self) -> Link {
        let status = self.registers.read_u32(STATUS);
        if status == u32::MAX || status & 1 << 1 == 0 {
            return Link::default();
        }
        let speed = match status >> 6 & 3 {
            0 => 10,
            1 => 100,
            _ => 1000,
        };
        Link { up: true, speed, full_duplex: status & 1 != 0 }
    }
}
