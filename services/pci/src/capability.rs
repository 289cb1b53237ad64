//! The list of capabilities, and the two kinds of message interrupts in it (PCI Local Bus Specification 3.0, 6.7 and 6.8).

use crate::bar::Bar;
use crate::function::{self, Address, ConfigurationSpace};
use bulkhead_plan::MsixTable;
use bulkhead_plan::layout::BARS;

const POINTER: u8 = 0x34;
const STATUS_LIST: u16 = 1 << 4;
/// Capabilities lie behind the header.
const LOWEST: u8 = 0x40;
/// As many as fit, each of 4 bytes at least: a longer list is a loop.
const MOST: usize = (0x100 - LOWEST as usize) / 4;

const ID_MSI: u8 = 0x05;
const ID_MSIX: u8 = 0x11;

const MSI_ENABLE: u32 = 1 << 16;
/// The number of messages that the function is allowed, as a power of two: 0 for one.
const MSI_ALLOWED: u32 = 7 << 20;
const MSI_64: u32 = 1 << 23;
const MSI_MASKING: u32 = 1 << 24;

const MSIX_ENABLE: u32 = 1 << 31;
const MSIX_MASK_ALL: u32 = 1 << 30;

/// Bytes of an entry of an MSI-X table.
const ENTRY: u64 = 16;

/// How a function signals by messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Messages {
    /// One message, in configuration space.
    Msi {
        /// Register of the capability.
        register: u8,
    },
    /// A table of messages in one of the BARs.
    Msix {
        /// Register of the capability.
        register: u8,
        /// The table.
        table: MsixTable,
    },
}

/// What a device writes where to interrupt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message {
    /// Physical address, below 4 GiB.
    pub address: u32,
    /// Data.
    pub data: u16,
}

/// Register that the list of capabilities begins at, if there is one.
pub fn first(space: &impl ConfigurationSpace, function: Address) -> Option<u8> {
    let has_list = function::status(space, function) & STATUS_LIST != 0;
    has_list.then(|| space.read(function, POINTER) as u8 & !3)
}

/// Register of the first capability with this number; nothing after a list that is not one.
pub fn find(space: &impl ConfigurationSpace, function: Address, wanted: u8) -> Option<u8> {
    let mut register = first(space, function)?;
    for _ in 0..MOST {
        if register < LOWEST {
            return None;
        }
        let header = space.read(function, register);
        if header as u8 == wanted {
            return Some(register);
        }
        register = (header >> 8) as u8 & !3;
    }
    None
}

/// How a function with these BARs signals by messages: by its table if it has one that lies in a BAR, else by one message.
pub fn messages(space: &impl ConfigurationSpace, function: Address, bars: &[Option<Bar>; BARS]) -> Option<Messages> {
    if let Some(register) = find(space, function, ID_MSIX).filter(|register| *register <= 0xf4) {
        let entries = (space.read(function, register) >> 16 & 0x7ff) as u16 + 1;
        let place = space.read(function, register + 4);
        let table = MsixTable { bar: place as u8 & 7, offset: place & !7, entries };
        let end = u64::from(table.offset) + u64::from(entries) * ENTRY;
        if let Some(Some(Bar::Memory { size, .. })) = bars.get(usize::from(table.bar))
            && end <= *size
        {
            return Some(Messages::Msix { register, table });
        }
    }
    // The longest form has 24 bytes.
    find(space, function, ID_MSI).filter(|register| *register <= 0xe8).map(|register| Messages::Msi { register })
}

/// Turns both kinds off, whatever firmware left.
pub fn disable(space: &impl ConfigurationSpace, function: Address) {
    for (id, enable) in [(ID_MSI, MSI_ENABLE), (ID_MSIX, MSIX_ENABLE)] {
        if let Some(register) = find(space, function, id) {
            let control = space.read(function, register);
            space.write(function, register, control & !enable);
        }
    }
}

impl Messages {
    /// Messages that there can be.
    pub const fn count(&self) -> u16 {
        match self {
            Self::Msi { .. } => 1,
            Self::Msix { table, .. } => table.entries,
        }
    }

    /// Lets the function signal. `first` is written for a function with one message; a table's entries are its driver's to write.
    pub fn enable(&self, space: &impl ConfigurationSpace, function: Address, first: Message) {
        match *self {
            Self::Msi { register } => {
                let control = space.read(function, register) & !(MSI_ALLOWED | MSI_ENABLE);
                space.write(function, register + 4, first.address);
                let wide = control & MSI_64 != 0;
                let data = if wide { register + 12 } else { register + 8 };
                if wide {
                    space.write(function, register + 8, 0);
                }
                let beside = space.read(function, data) & 0xffff_0000;
                space.write(function, data, beside | u32::from(first.data));
                if control & MSI_MASKING != 0 {
                    space.write(function, data + 4, 0);
                }
                space.write(function, register, control | MSI_ENABLE);
            }
            Self::Msix { register, .. } => {
                let control = space.read(function, register) & !MSIX_MASK_ALL;
                space.write(function, register, control | MSIX_ENABLE);
            }
        }
    }
}
