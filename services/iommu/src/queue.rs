//! The queue by which a unit is told to forget what it has cached (section 6.5.2).

use bulkhead_driver::DmaMemory;

/// Bytes of the queue, with the word behind it that the unit writes.
pub const QUEUE_BYTES: usize = crate::PAGE_BYTES;
const DESCRIPTOR: usize = 16;
/// Descriptors that may be written: the unit writes to the last one's place.
const STATUS: usize = QUEUE_BYTES - DESCRIPTOR;

/// Types of descriptors, with the granularity that means all.
const ALL_CONTEXTS: u64 = 1 | 1 << 4;
const ALL_TRANSLATIONS: u64 = 2 | 1 << 4 | 3 << 6;
const ALL_INTERRUPTS: u64 = 4;
/// Wait for those before, and write the status.
const WAIT: u64 = 5 | 1 << 5 | 1 << 6;
const DONE: u64 = 1;

/// Fills the queue, from its beginning, with what makes a unit forget everything; returns the offset behind it.
pub fn fill(queue: &DmaMemory<'_>, interrupts: bool) -> u64 {
    let status = queue.physical() + STATUS as u64;
    let forget = [(ALL_CONTEXTS, 0), (ALL_TRANSLATIONS, 0)].into_iter();
    let interrupts = interrupts.then_some((ALL_INTERRUPTS, 0));
    let all = forget.chain(interrupts).chain([(WAIT | DONE << 32, status)]);
    queue.write_u64(STATUS, 0);
    let mut tail = 0;
    for (low, high) in all {
        queue.write_u64(tail, low);
        queue.write_u64(tail + 8, high);
        tail += DESCRIPTOR;
    }
    tail as u64
}

/// Whether the unit has done it.
pub fn is_done(queue: &DmaMemory<'_>) -> bool {
    queue.read_u64(STATUS) & 0xffff_ffff == DONE
}
