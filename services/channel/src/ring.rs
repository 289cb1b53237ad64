//! A byte ring with one sender and one receiver, in shared memory.
//!
//! Layout in words: 0 = bytes ever sent, 1 = the sender's note to its next life, 8 = bytes ever received (on another cache line), from 16
//! the data. Byte `n` of the stream lies at `n % capacity` of the data, little-endian in its word. Counts are free-running and wrap at
//! 2^64.
//!
//! A side signals its peer only if the peer can be asleep: the sender when the ring had been drained, the receiver when the
//! ring had been full. Both publish their count, then put a full fence, then read the peer's count: one of the two always
//! sees the other's, so no wake-up is lost.

use crate::{AtomicU64, TooSmall, fence};
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};

/// Word of the count of bytes sent.
const SENT: usize = 0;
/// Word of the sender's note.
const NOTE: usize = 1;
/// Word of the count of bytes received.
const RECEIVED: usize = 8;
/// First word of the data.
const DATA: usize = 16;
/// Fewest words of a ring.
pub const RING_MIN_WORDS: usize = DATA + 1;
/// Bytes in a word.
const WORD: usize = 8;

/// The ring's memory, cut into counts and data.
struct ByteRing<'a> {
    sent: &'a AtomicU64,
    note: &'a AtomicU64,
    received: &'a AtomicU64,
    data: &'a [AtomicU64],
}

impl<'a> ByteRing<'a> {
    fn new(words: &'a [AtomicU64]) -> Result<Self, TooSmall> {
        let too_small = TooSmall { needed: RING_MIN_WORDS, given: words.len() };
        let (Some(sent), Some(note), Some(received), Some(data)) =
            (words.get(SENT), words.get(NOTE), words.get(RECEIVED), words.get(DATA..))
        else {
            return Err(too_small);
        };
        if data.is_empty() { Err(too_small) } else { Ok(Self { sent, note, received, data }) }
    }

    fn capacity(&self) -> usize {
        self.data.len() * WORD
    }

    /// Bytes in the ring, if the two counts can belong to one ring.
    fn used(&self, sent: u64, received: u64) -> Option<usize> {
        usize::try_from(sent.wrapping_sub(received)).ok().filter(|used| *used <= self.capacity())
    }

    /// Word and byte-in-word of byte `count` of the stream.
    fn place(&self, count: u64) -> (Option<&'a AtomicU64>, usize) {
        // The capacity is not 0, and the remainder is below it, hence fits.
        let position = (count % self.capacity() as u64) as usize;
        (self.data.get(position / WORD), position % WORD)
    }

    /// Stores bytes from `count` on. Only the sender writes data, so a word's other bytes can be stored back as they are.
    fn store(&self, mut count: u64, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (word, offset) = self.place(count);
            let length = bytes.len().min(WORD - offset);
            let (now, later) = bytes.split_at(length);
            if let Some(word) = word {
                let mut value = word.load(Relaxed).to_le_bytes();
                for (to, from) in value.iter_mut().skip(offset).zip(now) {
                    *to = *from;
                }
                word.store(u64::from_le_bytes(value), Relaxed);
            }
            bytes = later;
            count = count.wrapping_add(length as u64);
        }
    }

    /// Loads bytes from `count` on.
    fn load(&self, mut count: u64, mut bytes: &mut [u8]) {
        while !bytes.is_empty() {
            let (word, offset) = self.place(count);
            let length = bytes.len().min(WORD - offset);
            let (now, later) = bytes.split_at_mut(length);
            let value = word.map_or(0, |word| word.load(Relaxed)).to_le_bytes();
            for (to, from) in now.iter_mut().zip(value.iter().skip(offset)) {
                *to = *from;
            }
            bytes = later;
            count = count.wrapping_add(length as u64);
        }
    }
}

/// What a send or a receive did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[must_use]
pub struct Transfer {
    /// Bytes moved.
    pub bytes: usize,
    /// The peer may be asleep waiting for this: signal it.
    pub signal: bool,
}

/// The sending side of a byte ring.
pub struct ByteSender<'a> {
    ring: ByteRing<'a>,
    /// Bytes ever sent; the shared count is a copy for the receiver.
    sent: u64,
}

impl<'a> ByteSender<'a> {
    /// Takes the sending side of the ring in `words`, continuing where a former sender stopped. Zeroed memory is an empty ring.
    pub fn attach(words: &'a [AtomicU64]) -> Result<Self, TooSmall> {
        let ring = ByteRing::new(words)?;
        let sent = ring.sent.load(Relaxed);
        Ok(Self { ring, sent })
    }

    /// Bytes that fit now.
    pub fn space(&mut self) -> usize {
        let received = self.ring.received.load(Acquire);
        match self.ring.used(self.sent, received) {
            Some(used) => self.ring.capacity() - used,
            None => {
                // The receiver's count is nonsense: start over from it, with an empty ring.
                self.sent = received;
                self.ring.capacity()
            }
        }
    }

    /// Bytes that fit into an empty ring.
    pub fn capacity(&self) -> usize {
        self.ring.capacity()
    }

    /// Bytes ever sent.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// What this sender, or an earlier one, noted; 0 at first. The receiver can have written anything to it.
    pub fn note(&self) -> u64 {
        self.ring.note.load(Relaxed)
    }

    /// Notes something for a sender that takes over. Whoever finds it finds what was done to the ring before, too.
    pub fn set_note(&self, note: u64) {
        self.ring.note.store(note, Release);
    }

    /// Sends as many of `bytes` as fit. If not all fitted the ring is full, and the receiver will signal once it has read.
    pub fn send(&mut self, bytes: &[u8]) -> Transfer {
        let mut done = Transfer::default();
        while let Some(rest) = bytes.get(done.bytes..)
            && !rest.is_empty()
        {
            let length = rest.len().min(self.space());
            if length == 0 {
                break;
            }
            let start = self.sent;
            self.ring.store(start, rest.get(..length).unwrap_or_default());
            self.sent = start.wrapping_add(length as u64);
            self.ring.sent.store(self.sent, Release);
            fence(SeqCst);
            // Whoever has received all that was there before may be asleep.
            done.signal |= self.ring.received.load(Acquire) == start;
            done.bytes += length;
        }
        done
    }
}

/// The receiving side of a byte ring.
pub struct ByteReceiver<'a> {
    ring: ByteRing<'a>,
    /// Bytes ever received; the shared count is a copy for the sender.
    received: u64,
}

impl<'a> ByteReceiver<'a> {
    /// Takes the receiving side of the ring in `words`, continuing where a former receiver stopped.
    pub fn attach(words: &'a [AtomicU64]) -> Result<Self, TooSmall> {
        let ring = ByteRing::new(words)?;
        let received = ring.received.load(Relaxed);
        Ok(Self { ring, received })
    }

    /// Bytes that can be received now.
    pub fn available(&mut self) -> usize {
        let sent = self.ring.sent.load(Acquire);
        match self.ring.used(sent, self.received) {
            Some(used) => used,
            None => {
                // The sender's count is nonsense: start over from it, with an empty ring.
                self.received = sent;
                self.ring.received.store(sent, Release);
                0
            }
        }
    }

    /// Bytes ever received.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Copies as many bytes as there are and fit into `buffer`, and leaves them in the ring. Returns how many.
    pub fn peek(&mut self, buffer: &mut [u8]) -> usize {
        let length = buffer.len().min(self.available());
        self.ring.load(self.received, buffer.get_mut(..length).unwrap_or_default());
        length
    }

    /// Receives as many bytes as there are and fit into `buffer`. If it was not filled the ring is empty, and the sender will
    /// signal once it has sent.
    pub fn receive(&mut self, buffer: &mut [u8]) -> Transfer {
        let mut done = Transfer::default();
        while let Some(rest) = buffer.get_mut(done.bytes..)
            && !rest.is_empty()
        {
            let length = rest.len().min(self.available());
            if length == 0 {
                // A count that a peer has overwritten would let it wait for ever.
                if self.ring.received.load(Relaxed) != self.received {
                    self.ring.received.store(self.received, Release);
                }
                break;
            }
            let start = self.received;
            self.ring.load(start, rest.get_mut(..length).unwrap_or_default());
            self.received = start.wrapping_add(length as u64);
            self.ring.received.store(self.received, Release);
            fence(SeqCst);
            // A sender that had filled the ring may be asleep.
            let sent = self.ring.sent.load(Acquire);
            done.signal |= self.ring.used(sent, start) == Some(self.ring.capacity());
            done.bytes += length;
        }
        done
    }
}
