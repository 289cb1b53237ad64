//! What a device emulator has taken from a virtqueue and not given back: in memory that outlives the emulator.
//!
//! # Layout, in words
//! | word | holds |
//! | --- | --- |
//! | 0 | the chain that is being given back: head, bits 0-15; the driver's used index afterwards, 16-31; 1 in bit 32 while it is |
//! | 1-8 | a bit for each head that is in flight |
//!
//! # Order
//! The emulator may end between any two stores. A chain counts as taken from the moment that its bit is set: before that, nothing
//! was done for it, and the next life takes it again. To give a chain back the emulator notes it in word 0, writes the used ring
//! and its index, clears the bit, and clears word 0. If the next life finds word 0 set, the used index tells whether the driver has
//! got the chain: then its bit is cleared, else the chain is still in flight.

use crate::AtomicU64;
use core::sync::atomic::Ordering::{AcqRel, Acquire, Release};

/// Heads that can be noted: queues that are to be resumed have at most so many descriptors.
pub const IN_FLIGHT_HEADS: u16 = 512;
/// Words for a queue.
pub const IN_FLIGHT_WORDS: usize = 12;

const GIVING_BACK: usize = 0;
const BITS: usize = 1;
const BITS_WORDS: usize = IN_FLIGHT_HEADS as usize / 64;
const IS_GIVING_BACK: u64 = 1 << 32;

/// The chains of one queue that are in flight.
#[derive(Clone, Copy)]
pub struct InFlight<'a>(&'a [AtomicU64; IN_FLIGHT_WORDS]);

impl<'a> InFlight<'a> {
    pub(crate) fn new(words: &'a [AtomicU64; IN_FLIGHT_WORDS]) -> Self {
        Self(words)
    }

    fn word(&self, head: u16) -> Option<(&AtomicU64, u64)> {
        if head >= IN_FLIGHT_HEADS {
            return None;
        }
        self.0.get(BITS + usize::from(head / 64)).map(|word| (word, 1 << (head % 64)))
    }

    /// Nothing is in flight.
    pub fn clear(&self) {
        for word in self.0 {
            word.store(0, Release);
        }
    }

    /// The chain was taken; false if it was in flight already, or cannot be noted: the driver broke the queue's rules.
    #[must_use]
    pub fn take(&self, head: u16) -> bool {
        self.word(head).is_some_and(|(word, bit)| word.fetch_or(bit, AcqRel) & bit == 0)
    }

    /// Gives the chain back by `publish`, which lets the driver see it; its used index is `used` afterwards.
    pub fn give_back<R>(&self, head: u16, used: u16, publish: impl FnOnce() -> R) -> R {
        let [giving_back, ..] = self.0;
        giving_back.store(u64::from(head) | u64::from(used) << 16 | IS_GIVING_BACK, Release);
        let result = publish();
        if let Some((word, bit)) = self.word(head) {
            word.fetch_and(!bit, AcqRel);
        }
        giving_back.store(0, Release);
        result
    }

    /// What the last life left in flight, given the driver's used index as it is now.
    pub fn recover(&self, used: u16) -> impl Iterator<Item = u16> + use<> {
        let giving_back = self.0[GIVING_BACK].load(Acquire);
        if giving_back & IS_GIVING_BACK != 0 {
            if (giving_back >> 16) as u16 == used
                && let Some((word, bit)) = self.word(giving_back as u16)
            {
                word.fetch_and(!bit, AcqRel);
            }
            self.0[GIVING_BACK].store(0, Release);
        }
        let mut bits = [0; BITS_WORDS];
        for (bits, word) in bits.iter_mut().zip(self.0.iter().skip(BITS)) {
            *bits = word.load(Acquire);
        }
        (0..IN_FLIGHT_HEADS)
            .filter(move |head| bits.get(usize::from(head / 64)).is_some_and(|bits| bits >> (head % 64) & 1 != 0))
    }
}
