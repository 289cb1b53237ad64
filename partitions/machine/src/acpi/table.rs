//! The header that all system description tables share (ACPI 6.5, 5.2.6).

use alloc::vec::Vec;

/// OEM identifier.
pub(super) const OEM: &[u8; 6] = b"BULKHD";
/// OEM table identifier.
const OEM_TABLE: &[u8; 8] = b"MACHINE ";
/// Creator identifier.
const CREATOR: &[u8; 4] = b"BLKH";
/// Places of the length and the checksum in the header.
const LENGTH: usize = 4;
const CHECKSUM: usize = 9;

/// The byte that makes the sum of all zero.
pub(super) fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)).wrapping_neg()
}

/// A table under construction.
pub(super) struct Table {
    bytes: Vec<u8>,
}

impl Table {
    /// A table with this signature and revision, and no content yet.
    pub(super) fn new(signature: &[u8; 4], revision: u8) -> Self {
        let mut table = Self { bytes: Vec::new() };
        table.bytes(signature).dword(0).byte(revision).byte(0);
        table.bytes(OEM).bytes(OEM_TABLE).dword(1).bytes(CREATOR).dword(1);
        table
    }

    /// Appends bytes.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// Appends a byte.
    pub(super) fn byte(&mut self, value: u8) -> &mut Self {
        self.bytes(&[value])
    }

    /// Appends two bytes.
    pub(super) fn word(&mut self, value: u16) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    /// Appends four bytes.
    pub(super) fn dword(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    /// Appends eight bytes.
    pub(super) fn qword(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    /// The table with length and checksum.
    pub(super) fn finish(mut self) -> Vec<u8> {
        let length = (self.bytes.len() as u32).to_le_bytes();
        for (place, byte) in self.bytes.iter_mut().skip(LENGTH).zip(length) {
            *place = byte;
        }
        let sum = checksum(&self.bytes);
        if let Some(place) = self.bytes.get_mut(CHECKSUM) {
            *place = sum;
        }
        self.bytes
    }
}
