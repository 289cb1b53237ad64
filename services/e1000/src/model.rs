//! The cards that the driver knows, and where they differ.

/// A card.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Model {
    /// 82540EM, on PCI.
    I82540Em,
    /// 82574L, on PCI Express.
    I82574L,
}

/// How a word of the EEPROM is asked for in EERD.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EepromRead {
    /// The bit that says that the word is there.
    pub done: u32,
    /// The lowest bit of the word's address.
    pub address_shift: u32,
}

impl Model {
    /// The card with a PCI identifier: vendor in the lower half, device in the upper one.
    pub const fn of(identifier: u32) -> Option<Self> {
        match identifier {
            0x100e_8086 => Some(Self::I82540Em),
            0x10d3_8086 => Some(Self::I82574L),
            _ => None,
        }
    }

    /// EERD (13.4.4; datasheet 10.2).
    pub(crate) const fn eeprom_read(self) -> EepromRead {
        match self {
            Self::I82540Em => EepromRead { done: 1 << 4, address_shift: 8 },
            Self::I82574L => EepromRead { done: 1 << 1, address_shift: 2 },
        }
    }

    /// Whether the card is on PCI Express: it can be told to end its DMA (CTRL, bit 2), says when it has read its
    /// EEPROM (EECD, bit 9), and forgets a cause of interrupts only when it is told so (datasheet 10.2.4.1).
    pub(crate) const fn is_express(self) -> bool {
        matches!(self, Self::I82574L)
    }

    /// Whether the card is asked to cut trains of segments. QEMU's 82574L (7.2) makes IP fragments of them instead.
    pub(crate) const fn cuts_trains(self) -> bool {
        matches!(self, Self::I82540Em)
    }

    /// TXDCTL. 82540EM: descriptors are written back at once (13.4.43). 82574L: after one descriptor, counted in descriptors; bit 22
    /// is always 1 (datasheet 4.6, 10.2.6).
    pub(crate) const fn transmit_descriptors(self) -> u32 {
        match self {
            Self::I82540Em => 0,
            Self::I82574L => 1 << 24 | 1 << 22 | 1 << 16,
        }
    }

    /// TCTL.MULR: several requests for data at a time. The 82540EM does not have it.
    pub(crate) const fn transmit_requests(self) -> u32 {
        match self {
            Self::I82540Em => 0,
            Self::I82574L => 1 << 28,
        }
    }

    /// TIPG: gaps between frames for copper, IPGT, IPGR1 8 and IPGR2 6 (13.4.34; datasheet 10.2.6).
    pub(crate) const fn transmit_gaps(self) -> u32 {
        let gap = match self {
            Self::I82540Em => 10,
            Self::I82574L => 8,
        };
        6 << 20 | 8 << 10 | gap
    }
}
