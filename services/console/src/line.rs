//! The line that a partition is writing.

use heapless::Vec;

/// Longest line that is kept together; a longer one is broken.
pub(crate) const LINE_BYTES: usize = 256;

/// What a byte means for the line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Effect {
    /// Nothing to show yet.
    None,
    /// Show this byte.
    Show(u8),
    /// Back to the line's beginning, then show this byte.
    ReturnShow(u8),
    /// The line has ended.
    End,
}

/// A line, from its first byte to its end.
#[derive(Debug, Default)]
pub(crate) struct Line {
    /// What it shows so far, as far as it fits.
    pub bytes: Vec<u8, LINE_BYTES>,
    /// A carriage return came, and nothing since.
    returned: bool,
    /// When it began to wait for its end.
    pub since: u64,
}

impl Line {
    /// Takes the next byte that the partition wrote. A carriage return before a line feed is part of the line's end.
    pub fn take(&mut self, byte: u8) -> Effect {
        match byte {
            b'\r' => {
                self.returned = true;
                Effect::None
            }
            b'\n' => {
                self.returned = false;
                Effect::End
            }
            byte if self.returned => {
                self.returned = false;
                self.bytes.clear();
                let _ = self.bytes.push(byte);
                Effect::ReturnShow(byte)
            }
            byte => {
                // What does not fit is shown, but not again if the line has to be repeated.
                let _ = self.bytes.push(byte);
                Effect::Show(byte)
            }
        }
    }

    /// The line is as long as can be kept.
    pub fn is_full(&self) -> bool {
        self.bytes.is_full()
    }

    /// Begins anew.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.returned = false;
    }
}

/// The byte as a partition that was not chosen may show it: no control characters, which could imitate other partitions' lines.
pub(crate) fn harmless(byte: u8) -> u8 {
    match byte {
        b'\t' | b' '..=b'~' | 0x80.. => byte,
        _ => b'?',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_recognised() {
        let mut line = Line::default();
        assert_eq!(line.take(b'a'), Effect::Show(b'a'));
        assert_eq!(line.take(b'\r'), Effect::None);
        assert_eq!(line.take(b'\r'), Effect::None);
        assert_eq!(line.take(b'\n'), Effect::End);
        line.clear();
        assert_eq!(line.take(b'\n'), Effect::End);
        line.clear();
        assert_eq!(line.take(b'5'), Effect::Show(b'5'));
        assert_eq!(line.take(b'\r'), Effect::None);
        assert_eq!(line.take(b'6'), Effect::ReturnShow(b'6'));
        assert_eq!(line.bytes, b"6");
    }
}
