//! What the console service does, without the hardware and the channels that it does it with.
//!
//! Owns: the UART's registers ([`Uart`]), whose line the terminal shows, and who hears what is typed ([`Multiplexer`]). Must never:
//! drop what a partition printed, let one partition keep the others from printing, or pass control characters of a
//! partition that was not chosen on to the terminal.
#![no_std]
#![forbid(unsafe_code)]

mod line;
mod multiplexer;
mod uart;

pub use multiplexer::{Client, INPUT_BYTES, MAX_CLIENTS, Multiplexer, TooManyClients};
pub use uart::{Registers, Uart};
