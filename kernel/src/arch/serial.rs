//! The UART, for boot lines and for a panic. After boot it belongs to a partition.

use core::fmt::{self, Write};
use spin::Mutex;
use x86::io::{inb, outb};

const COM1: u16 = 0x3f8;
const LINE_STATUS: u16 = COM1 + 5;
const TRANSMITTER_EMPTY: u8 = 0x20;
/// Polls of the line status before a byte is given up: a machine without a UART must still boot.
const PATIENCE: u32 = 100_000;

struct Serial;

static SERIAL: Mutex<Serial> = Mutex::new(Serial);

impl Serial {
    fn byte(&mut self, byte: u8) {
        for _ in 0..PATIENCE {
            // SAFETY: reading a UART's line status changes nothing that Rust knows of.
            if unsafe { inb(LINE_STATUS) } & TRANSMITTER_EMPTY != 0 {
                break;
            }
        }
        // SAFETY: writing the UART's data register sends a byte.
        unsafe { outb(COM1, byte) }
    }
}

impl Write for Serial {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                self.byte(b'\r');
            }
            self.byte(byte);
        }
        Ok(())
    }
}

/// Writes formatted text, a line at a time among processors.
pub fn print(arguments: fmt::Arguments<'_>) {
    let mut serial = SERIAL.lock();
    // A UART cannot fail.
    let _ = serial.write_fmt(arguments);
}

/// Takes the UART from a holder that will never return, for the panic screen.
pub fn seize() {
    // SAFETY: called by the one processor that panics, when all others have been stopped or are about to be.
    unsafe { SERIAL.force_unlock() }
}

/// One boot line.
#[macro_export]
macro_rules! boot_line {
    ($($argument:tt)*) => { $crate::arch::serial::print(format_args!("bulkhead: {}\n", format_args!($($argument)*))) };
}
