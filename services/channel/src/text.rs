//! A text channel: a byte ring each way.

use crate::{AtomicU64, ByteReceiver, ByteSender, RING_MIN_WORDS, TooSmall, Transfer};

/// Which end of a channel a partition holds, as its environment says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// Sends in the first half of the memory.
    First,
    /// Sends in the second half.
    Second,
}

/// One end of a text channel. The first half of the memory carries bytes from the first side to the second, the second half
/// those of the other direction.
pub struct TextChannel<'a> {
    sender: ByteSender<'a>,
    receiver: ByteReceiver<'a>,
}

/// Fewest words of a text channel.
pub const TEXT_MIN_WORDS: usize = 2 * RING_MIN_WORDS;

impl<'a> TextChannel<'a> {
    /// Takes one end of the channel in `words`.
    pub fn attach(words: &'a [AtomicU64], side: Side) -> Result<Self, TooSmall> {
        if words.len() < TEXT_MIN_WORDS {
            return Err(TooSmall { needed: TEXT_MIN_WORDS, given: words.len() });
        }
        let (first, second) = words.split_at(words.len() / 2);
        let (out, back) = match side {
            Side::First => (first, second),
            Side::Second => (second, first),
        };
        Ok(Self { sender: ByteSender::attach(out)?, receiver: ByteReceiver::attach(back)? })
    }

    /// See [`ByteSender::send`].
    pub fn send(&mut self, bytes: &[u8]) -> Transfer {
        self.sender.send(bytes)
    }

    /// See [`ByteReceiver::receive`].
    pub fn receive(&mut self, buffer: &mut [u8]) -> Transfer {
        self.receiver.receive(buffer)
    }

    /// See [`ByteSender::space`].
    pub fn space(&mut self) -> usize {
        self.sender.space()
    }

    /// See [`ByteSender::capacity`].
    pub fn capacity(&self) -> usize {
        self.sender.capacity()
    }

    /// See [`ByteReceiver::available`].
    pub fn available(&mut self) -> usize {
        self.receiver.available()
    }

    /// The two directions, to be used apart.
    pub fn split(self) -> (ByteSender<'a>, ByteReceiver<'a>) {
        (self.sender, self.receiver)
    }
}
