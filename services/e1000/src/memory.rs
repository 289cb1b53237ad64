//! How the driver's memory is divided.

use crate::descriptor::DESCRIPTOR_BYTES;
use bulkhead_driver::{DmaMemory, MAX_FRAME};

/// Bytes of a buffer, as RCTL.BSIZE has it.
pub const BUFFER_BYTES: usize = 2048;
/// Descriptors of the receive ring; each has its buffer. Rings are whole units of 128 bytes (3.2.6).
pub const RECEIVE_ENTRIES: usize = 64;
/// Descriptors of the transmit ring.
pub const TRANSMIT_ENTRIES: usize = 256;
/// Buffers of frames that are sent. A frame has one, with one to three descriptors; a train of segments up to 33.
pub const TRANSMIT_BUFFERS: usize = 128;

const RECEIVE_RING: usize = RECEIVE_ENTRIES * DESCRIPTOR_BYTES;
const TRANSMIT_RING: usize = TRANSMIT_ENTRIES * DESCRIPTOR_BYTES;

/// Bytes of [`DmaMemory`] that the driver needs, if they begin at a multiple of 2048.
pub const MEMORY_BYTES: usize = (RECEIVE_ENTRIES + TRANSMIT_BUFFERS) * BUFFER_BYTES + RECEIVE_RING + TRANSMIT_RING;

/// A ring with its buffers.
#[derive(Clone, Copy)]
pub struct RingMemory<'a> {
    pub ring: DmaMemory<'a>,
    buffers: DmaMemory<'a>,
}

impl<'a> RingMemory<'a> {
    /// A buffer.
    pub fn buffer(&self, index: usize) -> Option<DmaMemory<'a>> {
        self.buffers.part(index.checked_mul(BUFFER_BYTES)?, BUFFER_BYTES)
    }

    /// Bytes of the ring, for the card.
    pub fn ring_bytes(&self) -> u32 {
        self.ring.len() as u32
    }
}

/// The parts of the driver's memory.
pub struct Memory<'a> {
    pub receive: RingMemory<'a>,
    pub transmit: RingMemory<'a>,
}

impl<'a> Memory<'a> {
    /// Cuts the parts off and makes them zero; `None` if there is too little.
    pub fn new(memory: &mut DmaMemory<'a>) -> Option<Self> {
        let mut part = |bytes| {
            let part = memory.take(bytes, BUFFER_BYTES as u64)?;
            part.clear();
            Some(part)
        };
        let receive = part(RECEIVE_ENTRIES * BUFFER_BYTES)?;
        let transmit = part(TRANSMIT_BUFFERS * BUFFER_BYTES)?;
        let rings = part(RECEIVE_RING + TRANSMIT_RING)?;
        Some(Self {
            receive: RingMemory { ring: rings.part(0, RECEIVE_RING)?, buffers: receive },
            transmit: RingMemory { ring: rings.part(RECEIVE_RING, TRANSMIT_RING)?, buffers: transmit },
        })
    }
}

const _: () = assert!(MAX_FRAME <= BUFFER_BYTES);
const _: () = assert!(RECEIVE_RING.is_multiple_of(128) && TRANSMIT_RING.is_multiple_of(128));
