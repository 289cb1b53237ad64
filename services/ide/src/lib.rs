//! IDE with bus-master DMA: the driver, over a register trait.
//!
//! Owns: finding the controller in PCI configuration space ([`pci`]), the table of physical
//! region descriptors ([`PrdTable`]), and the commands of one drive from submission to interrupt ([`IdeDrive`]). Must never: touch
//! memory (it hands physical addresses to the controller, and the caller answers for them), wait without a bound, or believe
//! that a controller answers as it should.
//!
//! Sources: ATA/ATAPI-7 volumes 1 and 2 (commands, registers), Programming Interface for Bus Master IDE Controller 1.0 (DMA
//! registers and descriptors), PCI Local Bus 2.3 and PCI IDE Controller 1.0 (configuration space).
#![no_std]
#![forbid(unsafe_code)]

mod drive;
pub mod pci;
mod ports;
mod prd;

pub use drive::*;
pub use ports::*;
pub use prd::*;
