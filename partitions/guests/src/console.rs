//! Text on COM1, a polled 16550.

use crate::machine::Ports;
use core::fmt::{self, Write};

const COM1: u16 = 0x3f8;
const LINE_STATUS: u16 = COM1 + 5;
const CAN_SEND: u8 = 1 << 5;

struct Com1;

impl Write for Com1 {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            while Ports::read_u8(LINE_STATUS) & CAN_SEND == 0 {
                core::hint::spin_loop();
            }
            Ports::write_u8(COM1, byte);
        }
        Ok(())
    }
}

/// What `println!` expands to.
pub fn print(arguments: fmt::Arguments<'_>) {
    // The port takes everything; formatting itself cannot fail.
    let _ = Com1.write_fmt(format_args!("{arguments}\n"));
}

/// Prints a line.
#[macro_export]
macro_rules! println {
    ($($argument:tt)*) => { $crate::console::print(::core::format_args!($($argument)*)) };
}
