//! A small cache of decoded instructions.

use super::decode::{DecodeError, decode};
use super::fetch::{Fetched, LONGEST};
use super::instruction::{Decoded, Mode};
use alloc::boxed::Box;
use alloc::vec;

/// An instruction as it was when it was decoded.
#[derive(Clone, Copy)]
struct Entry {
    bytes: u128,
    /// Ones for the bytes that belong to the instruction; zero marks an empty entry.
    significant: u128,
    mode: Mode,
    decoded: Decoded,
}

/// Recently decoded instructions. A hit compares all bytes of the instruction, so the cache never needs to be flushed.
pub struct DecodeCache {
    entries: Box<[Option<Entry>]>,
}

impl DecodeCache {
    const SIZE: usize = 64;

    /// An empty cache.
    pub fn new() -> Self {
        Self { entries: vec![None; Self::SIZE].into_boxed_slice() }
    }

    /// The decoded instruction at `rip`.
    #[inline]
    pub(super) fn decode(&mut self, rip: u64, fetched: &Fetched, mode: Mode) -> Result<Decoded, DecodeError> {
        let bytes = pack(&fetched.bytes);
        // Instructions are at least two bytes long, so their neighbours' low bits differ.
        let slot = (rip ^ rip >> 6) as usize % Self::SIZE;
        if let Some(Some(entry)) = self.entries.get(slot)
            && (entry.bytes ^ bytes) & entry.significant == 0
            && entry.mode == mode
            && entry.decoded.length <= fetched.length
        {
            return Ok(entry.decoded);
        }
        self.miss(slot, bytes, fetched, mode)
    }

    #[cold]
    fn miss(&mut self, slot: usize, bytes: u128, fetched: &Fetched, mode: Mode) -> Result<Decoded, DecodeError> {
        let available = fetched.bytes.get(..usize::from(fetched.length)).unwrap_or(&fetched.bytes);
        let decoded = decode(available, mode)?;
        let significant = u128::MAX >> (128 - 8 * u32::from(decoded.length).clamp(1, LONGEST as u32));
        if let Some(entry) = self.entries.get_mut(slot) {
            *entry = Some(Entry { bytes, significant, mode, decoded });
        }
        Ok(decoded)
    }
}

impl Default for DecodeCache {
    fn default() -> Self {
        Self::new()
    }
}

fn pack(bytes: &[u8; LONGEST]) -> u128 {
    let mut padded = [0; 16];
    padded[..LONGEST].copy_from_slice(bytes);
    u128::from_le_bytes(padded)
}
