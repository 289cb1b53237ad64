//! The writer of a trace ring, which others read meanwhile.

use crate::sync::{AtomicU64, Ordering, fence};
use bulkhead_abi::TraceRecord;

/// Words of a record.
pub const WORDS: usize = size_of::<TraceRecord>() / size_of::<u64>();

/// The number that the record `next` gets in a ring of `mask` + 1 places: place 0 is the head's.
pub const fn number(next: u64, mask: u64) -> u64 {
    next + (next & mask == 0) as u64
}

/// Writes a record into its place, and then to the head that it is there.
pub fn write(head: &AtomicU64, place: &[AtomicU64; WORDS], number: u64, record: &[u64; WORDS]) {
    // Whoever reads a word of this record reads a head, afterwards, that says that the place is in use again.
    fence(Ordering::Release);
    for (to, from) in place.iter().zip(record) {
        to.store(*from, Ordering::Relaxed);
    }
    head.store(number + 1, Ordering::Release);
}
