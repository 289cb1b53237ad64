//! How the driver's memory is divided.

use crate::queue::{ENTRIES, QueueMemory};
use bulkhead_driver::{DmaMemory, MAX_DEPTH};

/// Bytes of a page, of which the controller has its idea by CC.MPS.
pub const PAGE: u64 = 4096;
/// Most pairs of I/O queues.
pub const MAX_QUEUES: u16 = 4;
/// Entries of a command's list of pages: a command is 64 pages, with the first one cut 65.
pub const LIST_ENTRIES: usize = 64;
const LIST_BYTES: usize = 8 * LIST_ENTRIES;
/// Bytes of a range to deallocate (NVMe 1.4, 6.7).
pub const RANGE_BYTES: usize = 16;

/// Bytes of [`DmaMemory`] that the driver needs, if they begin at a multiple of 4096.
pub const MEMORY_BYTES: usize = PAGE as usize * 2 * (1 + MAX_QUEUES as usize)
    + PAGE as usize
    + MAX_DEPTH as usize * LIST_BYTES
    + MAX_DEPTH as usize * RANGE_BYTES;

/// The parts of the driver's memory.
pub struct Memory<'a> {
    /// The admin queue, then the I/O queues.
    pub queues: [QueueMemory<'a>; 1 + MAX_QUEUES as usize],
    /// A page for what the controller says of itself.
    pub identify: DmaMemory<'a>,
    lists: DmaMemory<'a>,
    ranges: DmaMemory<'a>,
}

impl<'a> Memory<'a> {
    /// Cuts the parts off; `None` if there is too little.
    pub fn new(memory: &mut DmaMemory<'a>) -> Option<Self> {
        let page = PAGE as usize;
        let mut queue = || {
            let submission = memory.take(page, PAGE)?;
            let completion = memory.take(page, PAGE)?;
            Some(QueueMemory { submission, completion })
        };
        let queues = [queue()?, queue()?, queue()?, queue()?, queue()?];
        Some(Self {
            queues,
            identify: memory.take(page, PAGE)?,
            lists: memory.take(LIST_BYTES * usize::from(MAX_DEPTH), PAGE)?,
            ranges: memory.take(RANGE_BYTES * usize::from(MAX_DEPTH), PAGE)?,
        })
    }

    /// The list of pages of a command. It does not cross a page.
    pub fn list(&self, tag: u16) -> Option<DmaMemory<'a>> {
        self.lists.part(usize::from(tag) * LIST_BYTES, LIST_BYTES)
    }

    /// The range of a command.
    pub fn range(&self, tag: u16) -> Option<DmaMemory<'a>> {
        self.ranges.part(usize::from(tag) * RANGE_BYTES, RANGE_BYTES)
    }
}

const _: () = assert!(ENTRIES as usize * 64 <= PAGE as usize);
