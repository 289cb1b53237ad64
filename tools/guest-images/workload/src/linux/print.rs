//! Lines on standard output.

use core::fmt::{self, Write};

use super::PipeEnd;

/// A line in the making: written at once, since other processes write, too.
struct Line {
    bytes: [u8; Line::MOST],
    length: usize,
}

impl Line {
    /// Most bytes; what is longer is cut off.
    const MOST: usize = 256;
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for (to, from) in self.bytes.iter_mut().skip(self.length).zip(text.bytes()) {
            *to = from;
            self.length += 1;
        }
        Ok(())
    }
}

/// What `println!` expands to.
pub fn print(arguments: fmt::Arguments<'_>) {
    let mut line = Line { bytes: [0; Line::MOST], length: 0 };
    // Writing to memory does not fail, and whoever reads the lines misses those that cannot be written.
    let _ = line.write_fmt(format_args!("{arguments}\n"));
    let _ = PipeEnd::STANDARD_OUTPUT.write(line.bytes.get(..line.length).unwrap_or_default());
}

/// Prints a line.
#[macro_export]
macro_rules! println {
    ($($argument:tt)*) => { $crate::linux::print(::core::format_args!($($argument)*)) };
}
