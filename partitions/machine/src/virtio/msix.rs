//! MSI-X (PCI Local Bus Specification 3.0, 6.8.2): a table of messages with mask bits, and pending bits.

use crate::bus::Width;
use crate::devices::message::MsiMessage;

/// Table entries of a function.
pub const MSIX_VECTORS: usize = 16;
/// Bytes of the table.
pub const TABLE_SIZE: u64 = 16 * MSIX_VECTORS as u64;
/// Bytes of the pending-bit array.
pub const PENDING_SIZE: u64 = 8;
/// "No vector" in virtio's vector registers.
pub const NO_VECTOR: u16 = 0xffff;

/// Message-control bit: MSI-X is on, INTx is not used.
const ENABLE: u16 = 1 << 15;
/// Message-control bit: every vector is masked.
const FUNCTION_MASK: u16 = 1 << 14;

#[derive(Clone, Copy, Debug)]
struct Entry {
    address: u64,
    data: u32,
    masked: bool,
}

/// The MSI-X capability and its structures.
#[derive(Clone, Debug)]
pub struct MsiX {
    control: u16,
    entries: [Entry; MSIX_VECTORS],
    pending: u16,
}

impl MsiX {
    /// The state after reset: off, every vector masked.
    pub const fn new() -> Self {
        Self { control: 0, entries: [Entry { address: 0, data: 0, masked: true }; MSIX_VECTORS], pending: 0 }
    }

    /// The message-control register.
    pub const fn control(&self) -> u16 {
        self.control | (MSIX_VECTORS as u16 - 1)
    }

    /// Writes the message-control register.
    pub fn set_control(&mut self, value: u16) {
        self.control = value & (ENABLE | FUNCTION_MASK);
        if !self.enabled() {
            self.pending = 0;
        }
    }

    /// Messages are used instead of the INTx pin.
    pub const fn enabled(&self) -> bool {
        self.control & ENABLE != 0
    }

    /// Reads the table.
    pub fn read_table(&self, offset: u64, width: Width) -> u64 {
        let double = |offset| u64::from(self.double_word(offset));
        match width {
            Width::Dword if offset.is_multiple_of(4) => double(offset),
            Width::Qword if offset.is_multiple_of(8) => double(offset) | double(offset + 4) << 32,
            _ => 0,
        }
    }

    fn double_word(&self, offset: u64) -> u32 {
        let Some(entry) = self.entries.get((offset / 16) as usize) else {
            return 0;
        };
        match offset % 16 {
            0 => entry.address as u32,
            4 => (entry.address >> 32) as u32,
            8 => entry.data,
            _ => entry.masked.into(),
        }
    }

    /// Writes the table; the specification allows aligned double and quad words.
    pub fn write_table(&mut self, offset: u64, width: Width, value: u64) {
        match width {
            Width::Dword if offset.is_multiple_of(4) => self.set_double_word(offset, value as u32),
            Width::Qword if offset.is_multiple_of(8) => {
                self.set_double_word(offset, value as u32);
                self.set_double_word(offset + 4, (value >> 32) as u32);
            }
            _ => (),
        }
    }

    fn set_double_word(&mut self, offset: u64, value: u32) {
        let Some(entry) = self.entries.get_mut((offset / 16) as usize) else {
            return;
        };
        match offset % 16 {
            0 => entry.address = entry.address & !0xffff_ffff | u64::from(value & !3),
            4 => entry.address = entry.address & 0xffff_ffff | u64::from(value) << 32,
            8 => entry.data = value,
            _ => entry.masked = value & 1 != 0,
        }
    }

    /// Reads the pending-bit array.
    pub fn read_pending(&self, offset: u64, width: Width) -> u64 {
        match width {
            Width::Dword | Width::Qword if offset == 0 => self.pending.into(),
            _ => 0,
        }
    }

    /// Requests the message of `vector`; [`Self::take`] sends it once it is not masked.
    pub fn request(&mut self, vector: u16) {
        if self.enabled() && usize::from(vector) < MSIX_VECTORS {
            self.pending |= 1 << vector;
        }
    }

    /// The message of `vector`, if it would be sent at once and nothing is held back.
    pub fn unmasked(&self, vector: u16) -> Option<MsiMessage> {
        let entry = self.entries.get(usize::from(vector))?;
        let open =
            self.control & (ENABLE | FUNCTION_MASK) == ENABLE && !entry.masked && self.pending & 1 << vector == 0;
        open.then_some(MsiMessage { address: entry.address, data: entry.data })
    }

    /// The next message to send.
    pub fn take(&mut self) -> Option<MsiMessage> {
        if self.pending == 0 || self.control & FUNCTION_MASK != 0 {
            return None;
        }
        for (index, entry) in self.entries.iter().enumerate() {
            if self.pending & 1 << index != 0 && !entry.masked {
                self.pending &= !(1 << index);
                return Some(MsiMessage { address: entry.address, data: entry.data });
            }
        }
        None
    }
}

/// The vector that a driver asks for in a vector register, or [`NO_VECTOR`] if there is none such.
pub const fn valid_vector(vector: u16) -> u16 {
    if (vector as usize) < MSIX_VECTORS { vector } else { NO_VECTOR }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn masks_hold_messages_back() {
        let mut msix = MsiX::new();
        msix.request(1);
        assert_eq!(msix.read_pending(0, Width::Dword), 0, "off");
        msix.set_control(0xffff);
        assert_eq!(msix.control(), ENABLE | FUNCTION_MASK | 15);
        msix.write_table(16, Width::Qword, 0xfee0_1003);
        msix.write_table(24, Width::Dword, 0x41);
        msix.write_table(24, Width::Word, 0x42);
        assert_eq!(msix.read_table(16, Width::Qword), 0xfee0_1000);
        assert_eq!(msix.read_table(24, Width::Qword), 0x1_0000_0041);
        msix.request(1);
        msix.request(99);
        assert_eq!((msix.read_pending(0, Width::Qword), msix.take()), (2, None));
        msix.set_control(ENABLE);
        assert_eq!(msix.take(), None, "still masked by its own bit");
        msix.write_table(28, Width::Dword, 0);
        assert_eq!(msix.take(), Some(MsiMessage { address: 0xfee0_1000, data: 0x41 }));
        assert_eq!((msix.take(), msix.read_pending(0, Width::Dword)), (None, 0));
        assert_eq!(msix.read_table(!15, Width::Dword), 0);
    }
}
