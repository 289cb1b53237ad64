//! Bytes read as numbers; 0 beyond their end.

/// An input that is being read.
#[derive(Clone, Debug)]
pub struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    /// From the first byte on.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether nothing is left.
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        match self.rest.split_first() {
            Some((first, rest)) => {
                self.rest = rest;
                *first
            }
            None => 0,
        }
    }

    /// The next so many bytes, at most 8, as a number.
    pub fn number(&mut self, bytes: u32) -> u64 {
        (0..bytes.min(8)).fold(0, |value, _| value << 8 | u64::from(self.byte()))
    }

    /// A number below an end that is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.number(4) % end
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }
}
