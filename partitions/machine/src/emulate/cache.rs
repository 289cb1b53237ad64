//! A small cache of decoded instructions.

use super::decode::{DecodeError, decode};
use super::fetch::{Fetched, LONGEST};
use super::instruction::{Decoded, Mode};
use alloc::boxed::Box;
use alloc::vec;

/// What a cache keeps of an instruction.
pub trait Cached: Copy {
    /// Entries of a cache.
    const ENTRIES: usize;

    /// Decodes the instruction that `bytes` start with.
    fn decode(bytes: &[u8], mode: Mode) -> Result<Self, DecodeError>;

    /// Bytes of the instruction.
    fn length(&self) -> u8;
}

impl Cached for Decoded {
    const ENTRIES: usize = 64;

    fn decode(bytes: &[u8], mode: Mode) -> Result<Self, DecodeError> {
        decode(bytes, mode)
    }

    #[inline]
    fn length(&self) -> u8 {
        self.length
    }
}

/// An instruction as it was when it was decoded.
#[derive(Clone, Copy)]
struct Entry<T> {
    bytes: u128,
    /// Ones for the bytes that belong to the instruction; zero marks an empty entry.
    significant: u128,
    mode: Mode,
    decoded: T,
}

/// Recently decoded instructions. A hit compares all bytes of the instruction, so the cache never needs to be flushed.
pub struct Cache<T> {
    entries: Box<[Option<Entry<T>>]>,
}

/// The cache for the emulation of single instructions that the hardware stopped at.
pub type DecodeCache = Cache<Decoded>;

impl<T: Cached> Cache<T> {
    /// An empty cache.
    pub fn new() -> Self {
        Self { entries: vec![None; T::ENTRIES].into_boxed_slice() }
    }

    /// The decoded instruction at `rip`.
    #[inline]
    pub(crate) fn decode(&mut self, rip: u64, fetched: &Fetched, mode: Mode) -> Result<T, DecodeError> {
        let bytes = pack(&fetched.bytes);
        let slot = (rip ^ rip >> 6) as usize % T::ENTRIES;
        if let Some(Some(entry)) = self.entries.get(slot)
            && (entry.bytes ^ bytes) & entry.significant == 0
            && entry.mode == mode
            && entry.decoded.length() <= fetched.length
        {
            return Ok(entry.decoded);
        }
        self.miss(slot, bytes, fetched, mode)
    }

    #[cold]
    fn miss(&mut self, slot: usize, bytes: u128, fetched: &Fetched, mode: Mode) -> Result<T, DecodeError> {
        let available = fetched.bytes.get(..usize::from(fetched.length)).unwrap_or(&fetched.bytes);
        let decoded = T::decode(available, mode)?;
        let significant = u128::MAX >> (128 - 8 * u32::from(decoded.length()).clamp(1, LONGEST as u32));
        if let Some(entry) = self.entries.get_mut(slot) {
            *entry = Some(Entry { bytes, significant, mode, decoded });
        }
        Ok(decoded)
    }
}

impl<T: Cached> Default for Cache<T> {
    fn default() -> Self {
        Self::new()
    }
}

fn pack(bytes: &[u8; LONGEST]) -> u128 {
    let mut padded = [0; 16];
    padded[..LONGEST].copy_from_slice(bytes);
    u128::from_le_bytes(padded)
}
