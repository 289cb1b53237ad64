//! A disk's control channel: its guest asks, a line each, for what the drive says of itself.
//!
//! Each line gets one answer, in order, also if the service ends and is started anew meanwhile. So the service notes, before it takes the
//! end of a line, what it will answer to it, and where in its stream the answer begins: its next life goes on from there. Of a line that
//! had come in part the beginning is lost then, and its answer says so.

mod answers;
mod note;

pub use answers::Answers;

use answers::Answer;
use bulkhead_channel::{ByteReceiver, ByteSender, TextChannel};
use heapless::Vec;
use note::Note;

/// Longest line, without its end.
const MAX_LINE: usize = 64;

/// What [`Control::serve`] did, and what the caller is to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[must_use]
pub struct Served {
    /// The other end has to be signalled.
    pub signal: bool,
    /// There is more to do: serve again, after others have had their turn.
    pub more: bool,
}

/// The line that is coming in.
enum Line {
    /// Its bytes so far.
    Open(Vec<u8, MAX_LINE>),
    /// Whatever comes, this is the answer at its end.
    Spoilt(Answer),
}

impl Line {
    const EMPTY: Self = Self::Open(Vec::new());

    fn push(&mut self, part: &[u8]) {
        if let Self::Open(line) = self
            && line.extend_from_slice(part).is_err()
        {
            *self = Self::Spoilt(Answer::TooLong);
        }
    }

    fn answer(&self) -> Answer {
        match self {
            Self::Open(line) => Answer::to(line),
            Self::Spoilt(answer) => *answer,
        }
    }
}

/// The service's end of a disk's control channel.
pub struct Control<'a> {
    sender: ByteSender<'a>,
    receiver: ByteReceiver<'a>,
    answers: Answers,
    line: Line,
    /// The answer that is being given, and the count of bytes sent at which it begins.
    giving: Option<(Answer, u64)>,
    /// The other end has to be signalled.
    signal: bool,
}

impl<'a> Control<'a> {
    /// Takes the service's end, and goes on where an earlier life of the service ended.
    pub fn attach(channel: TextChannel<'a>, answers: Answers) -> Self {
        let (sender, receiver) = channel.split();
        // The earlier life may have ended before it signalled.
        let mut control = Self { sender, receiver, answers, line: Line::EMPTY, giving: None, signal: true };
        let note = Note::read(control.sender.note());
        let giving = note.answer.map(|answer| (answer, note.start(control.sender.sent())));
        match note.taken(control.receiver.received()) {
            // The end of the line was noted, and not taken.
            Some(left) => {
                control.take(left);
                control.giving = giving;
            }
            // The beginning of a line was taken, and is lost.
            None => control.line = Line::Spoilt(Answer::Restarted),
        }
        control
    }

    /// Reads no more than a line, and gives no more than an answer. To be called when the other end has signalled, and when the last call
    /// asked for it.
    pub fn serve(&mut self) -> Served {
        if self.giving.is_none() {
            self.read();
        }
        self.give();
        // A full ring is no reason to try again: its reader signals.
        let more = self.giving.is_none() && self.receiver.available() != 0;
        Served { signal: core::mem::take(&mut self.signal), more }
    }

    fn read(&mut self) {
        let mut piece = [0; MAX_LINE];
        let length = self.receiver.peek(&mut piece);
        let piece = piece.get(..length).unwrap_or_default();
        let end = piece.iter().position(|byte| *byte == b'\n');
        self.line.push(piece.get(..end.unwrap_or(length)).unwrap_or_default());
        let Some(end) = end else {
            return self.take(length);
        };
        let length = end + 1;
        let (answer, start) = (self.line.answer(), self.sender.sent());
        self.line = Line::EMPTY;
        self.sender.set_note(Note::new(answer, start, self.receiver.received().wrapping_add(length as u64)).bits());
        self.giving = Some((answer, start));
        self.take(length);
    }

    /// Takes bytes that were looked at, at most [`MAX_LINE`].
    fn take(&mut self, length: usize) {
        let mut taken = [0; MAX_LINE];
        self.signal |= self.receiver.receive(taken.get_mut(..length).unwrap_or_default()).signal;
    }

    fn give(&mut self) {
        let Some((answer, start)) = self.giving else { return };
        // Counts that make no sense are the other end's doing; the answer has ended then.
        let given = usize::try_from(self.sender.sent().wrapping_sub(start)).unwrap_or(usize::MAX);
        let rest = self.answers.bytes(answer).get(given..).unwrap_or_default();
        let transfer = self.sender.send(rest);
        self.signal |= transfer.signal;
        if transfer.bytes == rest.len() {
            self.giving = None;
        }
    }
}
