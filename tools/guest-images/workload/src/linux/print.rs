//! Lines on standard output.

use core::fmt::{self, Write};

use super::PipeEnd;

struct StandardOutput;

impl Write for StandardOutput {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        PipeEnd::STANDARD_OUTPUT.write(text.as_bytes()).map_err(|_| fmt::Error)
    }
}

/// What `println!` expands to.
pub fn print(arguments: fmt::Arguments<'_>) {
    // Whoever reads the lines misses those that cannot be written.
    let _ = StandardOutput.write_fmt(format_args!("{arguments}\n"));
}

/// Prints a line.
#[macro_export]
macro_rules! println {
    ($($argument:tt)*) => { $crate::linux::print(::core::format_args!($($argument)*)) };
}
