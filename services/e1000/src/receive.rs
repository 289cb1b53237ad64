//! The receive ring (3.2).

use crate::descriptor::{DESCRIPTOR_BYTES, Filled, filled};
use crate::memory::{RECEIVE_ENTRIES, RingMemory};
use crate::registers::{Card, Ring};
use bulkhead_driver::{MAX_FRAME, MIN_FRAME, NicStatistics, Received, Registers};

/// Descriptors are given back so many at a time: each time is a write to the card.
const BATCH: usize = 16;

/// A ring of descriptors, each with its buffer. The card has all but one, which keeps a full ring apart from an empty one.
pub struct Receiver<'a> {
    memory: RingMemory<'a>,
    /// The descriptor that the card fills next.
    next: usize,
    /// Descriptors that are ready for the card, which does not know yet.
    held: usize,
    /// What comes is the rest of a frame that was too long for its first buffer.
    skipping: bool,
    /// The frame that is handed out: a copy, which the card does not change.
    frame: [u8; MAX_FRAME],
}

impl<'a> Receiver<'a> {
    pub fn new(memory: RingMemory<'a>) -> Self {
        let mut receiver = Self { memory, next: 0, held: 0, skipping: false, frame: [0; MAX_FRAME] };
        for _ in 0..RECEIVE_ENTRIES {
            receiver.recycle();
        }
        receiver
    }

    /// Gives the card the ring, before it receives.
    pub fn install<R: Registers>(&mut self, card: &Card<R>) {
        card.set_ring(Ring::Receive, self.memory.ring.physical(), self.memory.ring_bytes());
        self.release(card);
    }

    /// Hands over the next good frame; false if there is none. Bad ones, at most as many as the ring holds, are counted.
    pub fn receive<R: Registers>(
        &mut self,
        card: &Card<R>,
        statistics: &mut NicStatistics,
        take: &mut dyn FnMut(&[u8], Received),
    ) -> bool {
        for _ in 0..RECEIVE_ENTRIES {
            let Some(found) = filled(self.memory.ring.read_u64(self.next * DESCRIPTOR_BYTES + 8)) else {
                break;
            };
            let length = self.fetch(found);
            let rest = self.skipping;
            self.skipping = !found.end;
            self.recycle();
            if self.held >= BATCH {
                self.release(card);
            }
            match length.filter(|_| !rest).and_then(|length| self.frame.get(..length)) {
                Some(frame) => {
                    statistics.received = statistics.received.saturating_add(1);
                    statistics.received_bytes = statistics.received_bytes.saturating_add(frame.len() as u64);
                    take(frame, Received::default());
                    return true;
                }
                // The rest of a frame was counted with its beginning.
                None if rest => {}
                None => statistics.errors = statistics.errors.saturating_add(1),
            }
        }
        if self.held > 0 {
            self.release(card);
        }
        false
    }

    /// Copies the frame of the next descriptor; `None` if it is not a whole good one.
    fn fetch(&mut self, found: Filled) -> Option<usize> {
        if !found.end || found.error || found.length < MIN_FRAME {
            return None;
        }
        let frame = self.frame.get_mut(..found.length)?;
        self.memory.buffer(self.next)?.read(0, frame).then_some(found.length)
    }

    /// Makes the next descriptor, which is the driver's now, ready for the card. The address is written anew: the card may have
    /// changed it.
    fn recycle(&mut self) {
        if let Some(buffer) = self.memory.buffer(self.next) {
            let at = self.next * DESCRIPTOR_BYTES;
            self.memory.ring.write_u64(at, buffer.physical());
            self.memory.ring.write_u64(at + 8, 0);
        }
        self.next = (self.next + 1) % RECEIVE_ENTRIES;
        self.held += 1;
    }

    /// Gives the card all descriptors but the one before the next.
    fn release<R: Registers>(&mut self, card: &Card<R>) {
        card.set_tail(Ring::Receive, (self.next + RECEIVE_ENTRIES - 1) % RECEIVE_ENTRIES);
        self.held = 0;
    }
}
