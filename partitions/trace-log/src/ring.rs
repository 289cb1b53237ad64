//! Reading a ring while the kernel writes to it.
//!
//! Record `n` lies at place `n` modulo the number of places; place 0 holds the number of the next record instead, which the kernel
//! writes after a record is complete. While it writes record `n`, what was at that place is damaged: a record that was read is whole if
//! the number at place 0, read afterwards, is not so high that its place may be in use again.

use bulkhead_abi::TraceRecord;
use core::sync::atomic::Ordering;
#[cfg(not(loom))]
use core::sync::atomic::fence;
#[cfg(loom)]
use loom::sync::atomic::fence;

/// Words of a record.
pub const WORDS: usize = size_of::<TraceRecord>() / size_of::<u64>();

/// The memory of a ring.
pub trait Memory {
    /// Its words.
    fn words(&self) -> usize;
    /// A word, as an atomic load with this order; 0 outside the ring.
    fn load(&self, index: usize, order: Ordering) -> u64;
}

/// What there is to read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Item {
    /// The next record.
    Record(TraceRecord),
    /// So many records were overwritten before they were read.
    Lost(u64),
}

/// How far a ring has been read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reader {
    next: u64,
}

impl Default for Reader {
    fn default() -> Self {
        Self { next: 1 }
    }
}

impl Reader {
    /// The next record of a ring, or how many are missing before the next one; none if all have been read.
    pub fn read(&mut self, ring: &impl Memory) -> Option<Item> {
        let places = (ring.words() / WORDS) as u64;
        if places < 2 {
            return None;
        }
        // No record has place 0.
        if self.next.is_multiple_of(places) {
            self.next = self.next.checked_add(1)?;
        }
        let head = ring.load(0, Ordering::Acquire);
        if self.next >= head {
            return None;
        }
        if let Some(lost) = self.skip(head, places) {
            return Some(lost);
        }
        let first = usize::try_from(self.next % places).ok()?.checked_mul(WORDS)?;
        let words: [u64; WORDS] = core::array::from_fn(|word| ring.load(first.saturating_add(word), Ordering::Relaxed));
        // The number is read after the record.
        fence(Ordering::Acquire);
        let head = ring.load(0, Ordering::Relaxed);
        if let Some(lost) = self.skip(head, places) {
            return Some(lost);
        }
        self.next = self.next.checked_add(1)?;
        Some(Item::Record(zerocopy::transmute!(words)))
    }

    /// Passes over what is overwritten, or may be, when `head` is the number of the record that is written next.
    fn skip(&mut self, head: u64, places: u64) -> Option<Item> {
        // The kernel does not number a record with a multiple of the places: it writes the next one.
        let written = if head.is_multiple_of(places) { head.checked_add(1)? } else { head };
        let oldest = written.checked_sub(places)?.checked_add(1)?;
        if self.next >= oldest {
            return None;
        }
        // Multiples of the places in between are no records.
        let between = oldest.div_ceil(places).saturating_sub(self.next.div_ceil(places));
        let lost = (oldest - self.next).saturating_sub(between);
        self.next = oldest;
        Some(Item::Lost(lost))
    }
}
