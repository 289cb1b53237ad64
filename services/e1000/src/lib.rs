//! Intel 82540EM and 82574L: the driver of a network card, over register and memory traits.
//!
//! Owns: the card from reset to running ([`E1000::start`]), its rings of descriptors with their buffers, and each frame from the
//! caller's memory to the wire and back. Must never: wait without a bound, use a number of the card's as an index, or hand out bytes
//! that lie outside the buffer of the frame.
//!
//! Sources: PCI/PCI-X Family of Gigabit Ethernet Controllers Software Developer's Manual (8254x; "the manual"), and Intel 82574
//! GbE Controller Family Datasheet ("the datasheet"). Sections are those of the manual if nothing else is said.
#![no_std]
#![forbid(unsafe_code)]

mod address;
mod card;
mod descriptor;
mod memory;
mod model;
mod receive;
mod registers;
mod train;
mod transmit;

pub use card::{E1000, Unusable};
pub use memory::MEMORY_BYTES;
pub use model::Model;

/// The BAR of the card's registers (4.1).
pub const REGISTERS_BAR: u8 = 0;
