//! NVMe: the driver of a namespace, over register and memory traits.
//!
//! Owns: the controller from reset to running ([`NvmeDrive::start`]), the admin queue, the pairs of I/O queues, the lists of physical
//! regions (PRP), and each command from submission to completion. Must never: wait without a bound, use a number of the device's as
//! an index, or tell the end of a command while the controller may still reach its memory.
//!
//! Source: NVM Express Base Specification 1.4, whose sections are named where they are used.
#![no_std]
#![forbid(unsafe_code)]

mod admin;
mod drive;
mod identify;
mod memory;
mod prp;
mod queue;
mod registers;

pub use drive::*;
pub use identify::Unusable;
pub use memory::MEMORY_BYTES;

/// The BAR of the controller's registers (NVMe 1.4, 2.1.10).
pub const REGISTERS_BAR: u8 = 0;
