//! `msr NUMBER...`: what accesses to model-specific registers do.

use crate::exceptions::{read_msr, write_msr};
use crate::println;
use core::fmt;

/// What a read or a write came to.
struct Outcome(Option<u64>);

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(value) => write!(f, "{value:#x}"),
            None => write!(f, "#GP"),
        }
    }
}

/// Reads a register, writes it with its lowest bit changed (1 if it cannot be read), and reads it again.
pub fn show(number: &str) {
    let Ok(index) = u32::from_str_radix(number, 16) else { panic!("{number} is no number in hexadecimal") };
    let before = read_msr(index);
    let value = before.unwrap_or_default() ^ 1;
    let written = write_msr(index, value).map(|()| value);
    println!("msr {index:#x}: read {}, wrote {}, read {}", Outcome(before), Outcome(written), Outcome(read_msr(index)));
}
