//! What a life of the service notes for the next one, in a word of the channel that it alone writes.
//!
//! Bits 0-7: the answer to the last line whose end was seen; 8-35: the count of bytes received at which that line ends; 36-63: the count of
//! bytes sent at which its answer begins. One word, so that a life that ends at any place leaves a note that is whole. 0: no line was seen.

use super::MAX_LINE;
use super::answers::Answer;

/// Bits of a count.
const COUNT_BITS: u32 = 28;
const MASK: u64 = (1 << COUNT_BITS) - 1;
const ANSWER_BITS: u32 = 8;

/// A note.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Note {
    pub(super) answer: Option<Answer>,
    start: u64,
    end: u64,
}

impl Note {
    /// A note of the answer that begins at byte `start` to the line that ends before byte `end`.
    pub(super) const fn new(answer: Answer, start: u64, end: u64) -> Self {
        Self { answer: Some(answer), start: start & MASK, end: end & MASK }
    }

    pub(super) const fn read(bits: u64) -> Self {
        let answer = Answer::from_number(bits & ((1 << ANSWER_BITS) - 1));
        Self { answer, start: bits >> (ANSWER_BITS + COUNT_BITS), end: bits >> ANSWER_BITS & MASK }
    }

    pub(super) const fn bits(self) -> u64 {
        let answer = match self.answer {
            Some(answer) => answer as u64,
            None => 0,
        };
        answer | self.end << ANSWER_BITS | self.start << (ANSWER_BITS + COUNT_BITS)
    }

    /// The count of bytes sent at which the answer begins, now that `sent` have been sent.
    pub(super) const fn start(self, sent: u64) -> u64 {
        sent.wrapping_sub(sent.wrapping_sub(self.start) & MASK)
    }

    /// Bytes of the noted line that are still to be taken if `received` have been; `None` if bytes behind it have been taken, too.
    pub(super) fn taken(self, received: u64) -> Option<usize> {
        let left = usize::try_from(self.end.wrapping_sub(received) & MASK).ok()?;
        (left <= MAX_LINE).then_some(left)
    }
}
