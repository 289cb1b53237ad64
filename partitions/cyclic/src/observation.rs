//! What was observed, as a hash.

use blake2::digest::consts::U32;
use blake2::{Blake2b, Digest};
use core::fmt;

/// BLAKE2b-256 of numbers, each as eight bytes, lowest first.
pub struct Observation {
    hash: Blake2b<U32>,
}

impl Observation {
    /// Nothing observed yet.
    pub fn new() -> Self {
        Self { hash: Blake2b::new() }
    }

    /// Adds a number.
    pub fn add(&mut self, number: u64) {
        self.hash.update(number.to_le_bytes());
    }

    /// The hash.
    pub fn finish(self) -> Hash {
        Hash(self.hash.finalize().into())
    }
}

/// Prints in hexadecimal.
pub struct Hash([u8; 32]);

impl fmt::Display for Hash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}
