//! A guest's memory.

use bulkhead_channel::{AtomicU64, QueueConfiguration};
use bulkhead_doubles::FlatMemory;
use bulkhead_virtio::GuestMemory;

/// Bytes of a guest's memory.
pub const BYTES: u64 = 0x2_0000;
/// Descriptors of a queue.
pub const QUEUE: u16 = 16;

/// A guest's memory, which devices find at `base`.
pub fn memory(base: u64) -> FlatMemory {
    FlatMemory::new(BYTES as usize, base)
}

/// The queue of this number, in memory below 64 KiB.
pub fn queue(number: u64) -> QueueConfiguration {
    let at = 0x1000 * number;
    QueueConfiguration { size: QUEUE, descriptors: at, driver: at + 0x400, device: at + 0x800 }
}

/// Makes a chain of a queue available: what a correct driver does, with any contents.
pub fn offer(memory: &FlatMemory, at: &QueueConfiguration, head: u16) {
    let index = memory.load_u16(at.driver + 2).unwrap_or(0);
    let _ = memory.store_u16(at.driver + 4 + 2 * u64::from(index % at.size), head);
    let _ = memory.store_u16(at.driver + 2, index.wrapping_add(1));
}

/// The memory of a channel.
pub fn channel() -> Vec<AtomicU64> {
    (0..512).map(|_| AtomicU64::new(0)).collect()
}
