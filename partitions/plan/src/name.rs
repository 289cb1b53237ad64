//! Fixed-size names.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A name of at most [`Name::MAX`] bytes, padded with NULs.
#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Name([u8; 32]);

impl Name {
    /// Longest name, in bytes.
    pub const MAX: usize = 31;
    /// The empty name.
    pub const EMPTY: Self = Self([0; 32]);

    /// This text as a name; `None` if it is too long or holds a control character.
    pub fn new(text: &str) -> Option<Self> {
        if text.len() > Self::MAX || text.bytes().any(|byte| byte < b' ' || byte == 0x7f) {
            return None;
        }
        let mut bytes = [0; 32];
        for (to, from) in bytes.iter_mut().zip(text.bytes()) {
            *to = from;
        }
        Some(Self(bytes))
    }

    /// The name as text; empty if the bytes are not a name (a parsed plan or environment holds none such).
    pub fn as_str(&self) -> &str {
        self.text().unwrap_or("")
    }

    /// Whether the bytes are a name: UTF-8 without control characters, padded with NULs, with at least one NUL.
    pub(crate) fn is_valid(&self) -> bool {
        self.text().is_some_and(|text| text.bytes().all(|byte| byte >= b' ' && byte != 0x7f))
    }

    fn text(&self) -> Option<&str> {
        let end = self.0.iter().position(|&byte| byte == 0)?;
        let (text, padding) = self.0.split_at_checked(end)?;
        if padding.iter().any(|&byte| byte != 0) {
            return None;
        }
        core::str::from_utf8(text).ok()
    }
}

impl core::fmt::Debug for Name {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Debug::fmt(self.as_str(), formatter)
    }
}

impl core::fmt::Display for Name {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Display::fmt(self.as_str(), formatter)
    }
}
