//! The transmit ring (3.3, 3.4).

use crate::descriptor::{self, DESCRIPTOR_BYTES};
use crate::memory::{RingMemory, TRANSMIT_BUFFERS, TRANSMIT_ENTRIES};
use crate::registers::{Card, Ring};
use bulkhead_driver::{MAX_FRAME, MIN_FRAME, NicStatistics, Offload, Registers, TransmitError};

/// Fewest bytes of a frame on the wire, without the check sequence. Shorter ones are padded here: what the cards pad by
/// themselves (TCTL.PSP) has a least length of its own.
const MIN_ON_WIRE: usize = 60;

/// A frame on its way.
#[derive(Clone, Copy)]
struct Sending {
    /// Its descriptors.
    descriptors: usize,
    /// Bytes.
    bytes: usize,
}

/// A ring of descriptors. Frames take the buffers one after the other: a context, which goes before a frame, has none.
pub struct Transmitter<'a> {
    memory: RingMemory<'a>,
    /// The first descriptor that is not in use.
    tail: usize,
    /// The first descriptor that the card has.
    head: usize,
    /// Frames by buffer; in use are `count` from `oldest` on.
    frames: [Sending; TRANSMIT_BUFFERS],
    oldest: usize,
    count: usize,
    /// A frame was refused: the card interrupts when it has sent one, which it does not otherwise.
    refused: bool,
}

impl<'a> Transmitter<'a> {
    pub fn new(memory: RingMemory<'a>) -> Self {
        let frames = [Sending { descriptors: 0, bytes: 0 }; TRANSMIT_BUFFERS];
        Self { memory, tail: 0, head: 0, frames, oldest: 0, count: 0, refused: false }
    }

    /// Gives the card the ring, before it sends.
    pub fn install<R: Registers>(&self, card: &Card<R>) {
        card.set_ring(Ring::Transmit, self.memory.ring.physical(), self.memory.ring_bytes());
    }

    /// Copies a frame and lets the card send it.
    pub fn transmit<R: Registers>(
        &mut self,
        card: &Card<R>,
        statistics: &mut NicStatistics,
        frame: &[u8],
        offload: Offload,
    ) -> Result<(), TransmitError> {
        if !(MIN_FRAME..=MAX_FRAME).contains(&frame.len()) {
            return Err(TransmitError::Size);
        }
        if offload.segment.is_some() {
            return Err(TransmitError::Unsupported);
        }
        let context = match offload.checksum {
            Some(checksum) => Some(descriptor::context(checksum, frame.len()).ok_or(TransmitError::Unsupported)?),
            None => None,
        };
        let descriptors = 1 + usize::from(context.is_some());
        self.reclaim(statistics);
        // The tail never meets the head from behind: that would be an empty ring (3.4).
        let used = (self.tail + TRANSMIT_ENTRIES - self.head) % TRANSMIT_ENTRIES;
        if self.count >= TRANSMIT_BUFFERS || used + descriptors >= TRANSMIT_ENTRIES {
            if !core::mem::replace(&mut self.refused, true) {
                card.set_sent_interrupts(true);
            }
            return Err(TransmitError::Full);
        }
        let index = (self.oldest + self.count) % TRANSMIT_BUFFERS;
        let (Some(buffer), Some(sending)) = (self.memory.buffer(index), self.frames.get_mut(index)) else {
            return Err(TransmitError::Full);
        };
        *sending = Sending { descriptors, bytes: frame.len() };
        buffer.write(0, frame);
        for offset in (frame.len().next_multiple_of(8)..MIN_ON_WIRE).step_by(8) {
            buffer.write_u64(offset, 0);
        }
        let length = frame.len().max(MIN_ON_WIRE) as u16;
        match context {
            Some(context) => {
                self.push(context);
                self.push([buffer.physical(), descriptor::with_checksum(length)]);
            }
            None => self.push([buffer.physical(), descriptor::plain(length)]),
        }
        self.count += 1;
        card.set_tail(Ring::Transmit, self.tail);
        Ok(())
    }

    /// To be called at every interrupt: there may be room again for what was refused.
    pub fn on_interrupt<R: Registers>(&mut self, card: &Card<R>, statistics: &mut NicStatistics) {
        let before = self.count;
        self.reclaim(statistics);
        if self.count < before && core::mem::take(&mut self.refused) {
            card.set_sent_interrupts(false);
        }
    }

    /// Takes back what the card has sent: a frame is, when its last descriptor says so. Those behind it wait.
    fn reclaim(&mut self, statistics: &mut NicStatistics) {
        while self.count > 0 {
            let Some(frame) = self.frames.get(self.oldest).copied() else { break };
            let end = self.head + frame.descriptors;
            let last = (end + TRANSMIT_ENTRIES - 1) % TRANSMIT_ENTRIES;
            let Some(sent) = descriptor::sent(self.memory.ring.read_u64(last * DESCRIPTOR_BYTES + 8)) else {
                break;
            };
            if sent {
                statistics.sent = statistics.sent.saturating_add(1);
                statistics.sent_bytes = statistics.sent_bytes.saturating_add(frame.bytes as u64);
            }
            self.head = end % TRANSMIT_ENTRIES;
            self.oldest = (self.oldest + 1) % TRANSMIT_BUFFERS;
            self.count -= 1;
        }
    }

    /// Writes the descriptor at the tail, which the card does not have.
    fn push(&mut self, [first, second]: [u64; 2]) {
        let at = self.tail * DESCRIPTOR_BYTES;
        self.memory.ring.write_u64(at, first);
        self.memory.ring.write_u64(at + 8, second);
        self.tail = (self.tail + 1) % TRANSMIT_ENTRIES;
    }
}
