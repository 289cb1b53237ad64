//! AHCI: the driver of one drive, over register and memory traits.
//!
//! Owns: the controller from reset to running ([`AhciDrive::start`]), one of its ports, the command list and tables, and each command
//! from submission to its end, also through errors and resets of the port. Must never: wait without a bound, believe what the
//! controller says of a command that it was not given, or tell the end of a command while the controller may still reach its memory.
//!
//! Sources: Serial ATA Advanced Host Controller Interface 1.3.1 ("AHCI" below), ATA/ATAPI Command Set - 3 (ACS-3), Serial ATA 3.0.
#![no_std]
#![forbid(unsafe_code)]

mod command;
mod drive;
mod memory;
mod port;
mod recovery;
mod start;

pub use drive::*;
pub use memory::MEMORY_BYTES;
pub use start::StartError;

/// The BAR of the controller's registers (AHCI 1.3.1, 2.1.11).
pub const REGISTERS_BAR: u8 = 5;
