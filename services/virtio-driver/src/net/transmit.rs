//! Frames to the card (virtio 1.2, 5.1.6.2).

use super::header::{FRAME_AT, HEADER_AT, HEADER_BYTES, Header};
use super::memory::{BUFFER_BYTES, LARGE_BUFFERS, LARGE_BYTES, SMALL_BUFFERS};
use crate::virtqueue::{Broken, Virtqueue};
use bulkhead_driver::DmaMemory;

/// Buffers as bits: the small ones come first.
const SMALL: u128 = (1 << SMALL_BUFFERS) - 1;
const LARGE: u128 = ((1 << LARGE_BUFFERS) - 1) << SMALL_BUFFERS;

/// The queue of frames to send, and the buffers that they lie in.
pub struct Sender<'a> {
    queue: Virtqueue<'a>,
    small: DmaMemory<'a>,
    large: DmaMemory<'a>,
    free: u128,
}

impl<'a> Sender<'a> {
    /// Nothing is under way, and nobody waits for it: no interrupts.
    pub fn new(queue: Virtqueue<'a>, small: DmaMemory<'a>, large: DmaMemory<'a>) -> Self {
        queue.set_interrupts(false);
        Self { queue, small, large, free: SMALL | LARGE }
    }

    pub fn queue(&self) -> &Virtqueue<'a> {
        &self.queue
    }

    /// Takes back the buffers of frames that were sent. Returns whether there were any.
    pub fn reclaim(&mut self) -> Result<bool, Broken> {
        let mut any = false;
        for _ in 0..self.queue.size() {
            let Some(used) = self.queue.pop()? else { break };
            self.free |= 1u128.checked_shl(used.token.into()).unwrap_or(0);
            any = true;
        }
        Ok(any)
    }

    /// A free buffer for so many bytes, with its number.
    fn buffer(&self, bytes: usize) -> Option<(u16, DmaMemory<'a>)> {
        let (all, size, mask, first) = if FRAME_AT + bytes <= BUFFER_BYTES {
            (&self.small, BUFFER_BYTES, SMALL, 0)
        } else {
            (&self.large, LARGE_BYTES, LARGE, SMALL_BUFFERS)
        };
        let free = self.free & mask;
        let number = u16::try_from(free.trailing_zeros()).ok().filter(|_| free != 0)?;
        let buffer = all.part(usize::from(number.checked_sub(first)?) * size, size)?;
        Some((number, buffer))
    }

    /// Copies a frame and gives it to the device; false if there is no room.
    pub fn put(&mut self, frame: &[u8], header: &Header) -> bool {
        let Some((number, buffer)) = self.buffer(frame.len()) else { return false };
        header.write(&buffer);
        if !buffer.write(FRAME_AT, frame) {
            return false;
        }
        // A frame that the header was made for has fewer bytes than 2^32.
        let length = HEADER_BYTES + frame.len() as u32;
        let given = self.queue.push(buffer.physical() + HEADER_AT as u64, length, 0, 0, number);
        if given {
            self.free &= !1u128.checked_shl(number.into()).unwrap_or(0);
        }
        given
    }
}
