//! Memory that a driver shares with its device: rings, tables, buffers.

use core::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

/// A piece of memory as a device's DMA sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PhysicalSegment {
    /// Host-physical address.
    pub address: u64,
    /// Bytes.
    pub length: u64,
}

const WORD: usize = 8;

/// A range of a driver's own memory that the device reaches, physically contiguous. The device may change it at any time.
///
/// Parts smaller than a word of 64 bits are written by reading and writing the word: a word that the device writes must not be
/// written by the driver at the same time. Offsets are in bytes; what lies outside reads as 0, and writes to it are lost.
#[derive(Clone, Copy, Debug)]
pub struct DmaMemory<'a> {
    words: &'a [AtomicU64],
    physical: u64,
}

impl<'a> DmaMemory<'a> {
    /// The memory in `words`, whose first byte has the host-physical address `physical`, a multiple of 8.
    pub const fn new(words: &'a [AtomicU64], physical: u64) -> Self {
        Self { words, physical }
    }

    /// Host-physical address of the first byte.
    pub const fn physical(&self) -> u64 {
        self.physical
    }

    /// The memory as words.
    pub const fn words(&self) -> &'a [AtomicU64] {
        self.words
    }

    /// Bytes.
    pub const fn len(&self) -> usize {
        self.words.len() * WORD
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// All of it, for a device's descriptor.
    pub const fn segment(&self) -> PhysicalSegment {
        PhysicalSegment { address: self.physical, length: self.len() as u64 }
    }

    /// Cuts `bytes` off the front whose physical address is a multiple of `alignment`, a power of two; what was skipped is lost.
    /// `None`, and nothing cut, if there is too little.
    pub fn take(&mut self, bytes: usize, alignment: u64) -> Option<Self> {
        let start = self.physical.checked_next_multiple_of(alignment.max(WORD as u64))?;
        let skipped = usize::try_from(start - self.physical).ok()? / WORD;
        let count = bytes.div_ceil(WORD);
        let rest = self.words.get(skipped..)?;
        let (part, rest) = rest.split_at_checked(count)?;
        let taken = Self { words: part, physical: start };
        *self = Self { words: rest, physical: start.checked_add((count * WORD) as u64)? };
        Some(taken)
    }

    /// `bytes` from `offset` on, a multiple of 8.
    pub fn part(&self, offset: usize, bytes: usize) -> Option<Self> {
        let first = offset / WORD;
        let words = self.words.get(first..first.checked_add(bytes.div_ceil(WORD))?)?;
        Some(Self { words, physical: self.physical.checked_add((first * WORD) as u64)? })
    }

    /// Makes all of it zero.
    pub fn clear(&self) {
        for word in self.words {
            word.store(0, Relaxed);
        }
    }

    fn word(&self, offset: usize) -> Option<&'a AtomicU64> {
        self.words.get(offset / WORD)
    }

    /// Reads 64 bits at a multiple of 8; later reads are not done before it.
    pub fn read_u64(&self, offset: usize) -> u64 {
        self.word(offset).map_or(0, |word| word.load(Acquire))
    }

    /// Writes 64 bits at a multiple of 8; earlier writes are not done after it.
    pub fn write_u64(&self, offset: usize, value: u64) {
        if let Some(word) = self.word(offset) {
            word.store(value, Release);
        }
    }

    /// Reads 32 bits at a multiple of 4.
    pub fn read_u32(&self, offset: usize) -> u32 {
        (self.read_u64(offset) >> (8 * (offset & 4))) as u32
    }

    /// Writes 32 bits at a multiple of 4.
    pub fn write_u32(&self, offset: usize, value: u32) {
        let shift = 8 * (offset & 4);
        let others = self.read_u64(offset) & !(u64::from(u32::MAX) << shift);
        self.write_u64(offset, others | u64::from(value) << shift);
    }

    /// Reads 16 bits at a multiple of 2.
    pub fn read_u16(&self, offset: usize) -> u16 {
        (self.read_u64(offset) >> (8 * (offset & 6))) as u16
    }

    /// Writes 16 bits at a multiple of 2.
    pub fn write_u16(&self, offset: usize, value: u16) {
        let shift = 8 * (offset & 6);
        let others = self.read_u64(offset) & !(u64::from(u16::MAX) << shift);
        self.write_u64(offset, others | u64::from(value) << shift);
    }

    /// Copies bytes from `offset`, a multiple of 8, on; false, and nothing copied, if they do not lie in the memory.
    pub fn read(&self, offset: usize, bytes: &mut [u8]) -> bool {
        let Some(part) = self.part(offset, bytes.len()) else {
            return false;
        };
        // Whole words are copied as such: byte by byte a frame costs thousands of instructions.
        let (words, rest) = bytes.as_chunks_mut::<WORD>();
        let (of_words, last) = part.words.split_at(words.len());
        for (to, word) in words.iter_mut().zip(of_words) {
            *to = word.load(Relaxed).to_le_bytes();
        }
        if let Some(word) = last.first() {
            for (to, from) in rest.iter_mut().zip(word.load(Relaxed).to_le_bytes()) {
                *to = from;
            }
        }
        true
    }

    /// Copies bytes to `offset`, a multiple of 8, on; false, and nothing copied, if they do not lie in the memory. The last word's
    /// other bytes become 0.
    pub fn write(&self, offset: usize, bytes: &[u8]) -> bool {
        let Some(part) = self.part(offset, bytes.len()) else {
            return false;
        };
        let (words, rest) = bytes.as_chunks::<WORD>();
        let (of_words, last) = part.words.split_at(words.len());
        for (from, word) in words.iter().zip(of_words) {
            word.store(u64::from_le_bytes(*from), Relaxed);
        }
        if let Some(word) = last.first() {
            let mut value = [0; WORD];
            for (to, from) in value.iter_mut().zip(rest) {
                *to = *from;
            }
            word.store(u64::from_le_bytes(value), Relaxed);
        }
        true
    }
}
