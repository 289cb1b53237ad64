//! The transmit ring (3.3, 3.4).

use crate::descriptor::{self, DESCRIPTOR_BYTES, Kind};
use crate::memory::{BUFFER_BYTES, RingMemory, TRANSMIT_BUFFERS, TRANSMIT_ENTRIES};
use crate::registers::{Card, Ring};
use crate::train::{MAX_TRAIN, Train};
use bulkhead_driver::{MAX_FRAME, MIN_FRAME, NicStatistics, Offload, Registers, TransmitError};

/// Fewest bytes of a frame on the wire, without the check sequence. Shorter ones are padded here: what the cards pad by
/// themselves (TCTL.PSP) has a least length of its own.
const MIN_ON_WIRE: usize = 60;
/// Bytes of a frame's end that may have a descriptor of its own.
const END_BYTES: usize = 4;

/// A frame on its way.
#[derive(Clone, Copy)]
struct Sending {
    /// Its descriptors.
    descriptors: usize,
    /// Its buffers, at least one.
    buffers: usize,
    /// Bytes.
    bytes: usize,
}

/// What is done to a frame while it is sent.
struct Plan {
    kind: Kind,
    context: Option<[u64; 2]>,
    train: Option<Train>,
}

impl Plan {
    /// As the offload says, if the card can.
    fn of(frame: &[u8], offload: Offload) -> Result<Self, TransmitError> {
        let longest = if offload.segment.is_some() { MAX_TRAIN } else { MAX_FRAME };
        if !(MIN_FRAME..=longest).contains(&frame.len()) {
            return Err(TransmitError::Size);
        }
        let plan = match (offload.segment, offload.checksum) {
            (Some(size), checksum) => checksum
                .and_then(|checksum| Train::of(frame, checksum, size))
                .map(|train| Self { kind: Kind::Train, context: Some(train.context()), train: Some(train) }),
            (None, Some(checksum)) => descriptor::context(checksum, frame.len()).map(|context| Self {
                kind: Kind::Checksum,
                context: Some(context),
                train: None,
            }),
            (None, None) => Some(Self { kind: Kind::Plain, context: None, train: None }),
        };
        plan.ok_or(TransmitError::Unsupported)
    }
}

/// A ring of descriptors. Frames take the buffers one after the other: a context, which goes before a frame, has
/// none.
pub struct Transmitter<'a> {
    memory: RingMemory<'a>,
    /// The first descriptor that is not in use.
    tail: usize,
    /// The first descriptor that the card has.
    head: usize,
    /// Frames by their first buffer; in use are `count` buffers from `oldest` on.
    frames: [Sending; TRANSMIT_BUFFERS],
    oldest: usize,
    count: usize,
    /// A frame was refused: the card interrupts when it has sent one, which it does not otherwise.
    refused: bool,
    /// The last frame was a train.
    after_train: bool,
}

impl<'a> Transmitter<'a> {
    pub fn new(memory: RingMemory<'a>) -> Self {
        let frames = [Sending { descriptors: 0, buffers: 1, bytes: 0 }; TRANSMIT_BUFFERS];
        Self { memory, tail: 0, head: 0, frames, oldest: 0, count: 0, refused: false, after_train: false }
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
        let Plan { kind, context, train } = Plan::of(frame, offload)?;
        let buffers = frame.len().div_ceil(BUFFER_BYTES);
        // The driver of Linux knows of cards that report a train, and the frame behind one, before they have read the last bytes: so
        // these have a descriptor of their own.
        let in_last = (frame.len() - 1) % BUFFER_BYTES + 1;
        let has_end = (train.is_some() || self.after_train) && in_last > 2 * END_BYTES;
        let descriptors = buffers + usize::from(context.is_some()) + usize::from(has_end);
        self.reclaim(statistics);
        // The tail never meets the head from behind: that would be an empty ring (3.4).
        let used = (self.tail + TRANSMIT_ENTRIES - self.head) % TRANSMIT_ENTRIES;
        if self.count + buffers > TRANSMIT_BUFFERS || used + descriptors >= TRANSMIT_ENTRIES {
            if !core::mem::replace(&mut self.refused, true) {
                card.set_sent_interrupts(true);
            }
            return Err(TransmitError::Full);
        }
        let first = (self.oldest + self.count) % TRANSMIT_BUFFERS;
        let Some(sending) = self.frames.get_mut(first) else {
            return Err(TransmitError::Full);
        };
        *sending = Sending { descriptors, buffers, bytes: frame.len() };
        if let Some(context) = context {
            self.push(context);
        }
        for (number, bytes) in frame.chunks(BUFFER_BYTES).enumerate() {
            let Some(buffer) = self.memory.buffer((first + number) % TRANSMIT_BUFFERS) else { continue };
            buffer.write(0, bytes);
            for offset in (bytes.len().next_multiple_of(8)..MIN_ON_WIRE).step_by(8).filter(|_| train.is_none()) {
                buffer.write_u64(offset, 0);
            }
            if let Some(train) = train.filter(|_| number == 0) {
                train.prepare(&buffer);
            }
            let is_last = number + 1 == buffers;
            let length = if train.is_none() { bytes.len().max(MIN_ON_WIRE) } else { bytes.len() };
            let end = if is_last && has_end { END_BYTES } else { 0 };
            let rest = (length - end) as u16;
            self.push([buffer.physical(), descriptor::piece(kind, rest, is_last && !has_end)]);
            if end != 0 {
                let physical = buffer.physical() + u64::from(rest);
                self.push([physical, descriptor::piece(kind, end as u16, true)]);
            }
        }
        self.count += buffers;
        self.after_train = train.is_some();
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
            self.oldest = (self.oldest + frame.buffers) % TRANSMIT_BUFFERS;
            self.count = self.count.saturating_sub(frame.buffers);
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
