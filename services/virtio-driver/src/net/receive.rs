//! Frames from the card (virtio 1.2, 5.1.6.3, 5.1.6.4).

use super::header::{FRAME_AT, HEADER_AT, HEADER_BYTES};
use super::memory::{BUFFER_BYTES, RECEIVE_BUFFERS};
use crate::virtqueue::{Broken, Virtqueue, WRITE};
use bulkhead_driver::{DmaMemory, MAX_FRAME, MIN_FRAME};

/// Bytes of a buffer that the device gets: what is longer than a frame it drops by itself.
const ROOM: u32 = HEADER_BYTES + MAX_FRAME as u32;

/// A buffer that came back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arrival<'f> {
    Frame(&'f [u8]),
    /// There is no frame in it.
    Bad,
}

/// The queue of buffers to receive, all of which are the device's.
pub struct Receiver<'a> {
    queue: Virtqueue<'a>,
    buffers: DmaMemory<'a>,
    frame: [u8; MAX_FRAME],
    /// Buffers given back of which the device was not told yet.
    untold: u16,
}

impl<'a> Receiver<'a> {
    /// Gives the device all buffers, or as many as the queue holds.
    pub fn new(queue: Virtqueue<'a>, buffers: DmaMemory<'a>) -> Self {
        let mut receiver = Self { queue, buffers, frame: [0; MAX_FRAME], untold: 0 };
        for number in 0..RECEIVE_BUFFERS {
            receiver.give(number);
        }
        receiver
    }

    pub fn queue(&self) -> &Virtqueue<'a> {
        &self.queue
    }

    fn give(&mut self, number: u16) {
        if let Some(buffer) = self.buffers.part(usize::from(number) * BUFFER_BYTES, BUFFER_BYTES) {
            let address = buffer.physical() + HEADER_AT as u64;
            if self.queue.push(address, ROOM, WRITE, ROOM, number) {
                self.untold = self.untold.saturating_add(1);
            }
        }
    }

    /// Buffers that were given back since this was asked last.
    pub fn take_untold(&mut self) -> u16 {
        core::mem::take(&mut self.untold)
    }

    /// How many there are now.
    pub fn untold(&self) -> u16 {
        self.untold
    }

    /// The next frame, if there is one. Its buffer is the device's again: the frame is a copy, which does not change any more.
    pub fn next(&mut self) -> Result<Option<Arrival<'_>>, Broken> {
        let Some(used) = self.queue.pop()? else { return Ok(None) };
        let at = usize::from(used.token) * BUFFER_BYTES + FRAME_AT;
        let bytes = used.length.checked_sub(HEADER_BYTES).map_or(0, |bytes| bytes as usize);
        let sound = bytes >= MIN_FRAME && self.frame.get_mut(..bytes).is_some_and(|frame| self.buffers.read(at, frame));
        self.give(used.token);
        let frame = self.frame.get(..bytes).filter(|_| sound);
        Ok(Some(frame.map_or(Arrival::Bad, Arrival::Frame)))
    }
}
