//! How the driver's memory of a network card is divided.

use super::header::{FRAME_AT, LARGEST_FRAME};
use crate::virtqueue::{QUEUE_BYTES, QueueMemory};
use bulkhead_driver::{DmaMemory, MAX_FRAME};

/// Buffers to receive, and to send: of a frame each, and of what the card cuts into segments.
pub const RECEIVE_BUFFERS: u16 = 64;
pub const SMALL_BUFFERS: u16 = 64;
pub const LARGE_BUFFERS: u16 = 8;
/// Bytes of each.
pub const BUFFER_BYTES: usize = 2048;
pub const LARGE_BYTES: usize = (FRAME_AT + LARGEST_FRAME).next_multiple_of(64);

const _: () = assert!(FRAME_AT + MAX_FRAME <= BUFFER_BYTES);

/// Bytes of [`DmaMemory`] that the driver of a network card takes, if they begin at a multiple of 4096.
pub const NET_MEMORY_BYTES: usize = (2 * QUEUE_BYTES
    + (RECEIVE_BUFFERS + SMALL_BUFFERS) as usize * BUFFER_BYTES
    + LARGE_BUFFERS as usize * LARGE_BYTES)
    .next_multiple_of(4096);

/// The parts of the driver's memory.
pub struct Memory<'a> {
    pub receive_queue: QueueMemory<'a>,
    pub transmit_queue: QueueMemory<'a>,
    pub receive: DmaMemory<'a>,
    pub small: DmaMemory<'a>,
    pub large: DmaMemory<'a>,
}

impl<'a> Memory<'a> {
    /// Cuts the parts off; `None` if there is too little.
    pub fn new(memory: &mut DmaMemory<'a>) -> Option<Self> {
        Some(Self {
            receive_queue: QueueMemory::new(memory)?,
            transmit_queue: QueueMemory::new(memory)?,
            receive: memory.take(usize::from(RECEIVE_BUFFERS) * BUFFER_BYTES, 4096)?,
            small: memory.take(usize::from(SMALL_BUFFERS) * BUFFER_BYTES, 4096)?,
            large: memory.take((usize::from(LARGE_BUFFERS) * LARGE_BYTES).next_multiple_of(4096), 4096)?,
        })
    }
}
