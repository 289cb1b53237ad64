//! DMA remapping and interrupt remapping by VT-d, over register and memory traits.
//!
//! Owns: the description of the units in ACPI ([`dmar`]), the tables of what memory each device reaches ([`Tables`]), the table of
//! interrupts ([`InterruptTable`]), and a unit from reset to translating ([`Unit`]), with its fault reports ([`Fault`]). Must never:
//! let a device reach memory that it was not told, or wait without a bound.
//!
//! All units get the same tables: which unit a device lies behind makes no difference. Tables are complete before a unit is turned on,
//! and do not change afterwards; so nothing has to be invalidated while devices run.
//!
//! Source: Intel Virtualization Technology for Directed I/O, Architecture Specification, revision 3.3, whose sections are named where
//! they are used. Legacy mode and second-level translation (3.4.2, 3.7) are what every unit has.
#![no_std]
#![forbid(unsafe_code)]

pub mod dmar;
mod fault;
mod interrupts;
mod queue;
mod tables;
mod unit;

pub use fault::*;
pub use interrupts::*;
pub use queue::QUEUE_BYTES;
pub use tables::*;
pub use unit::*;

/// Bytes of a page, of every table, and of what is mapped of a unit's registers.
pub const PAGE_BYTES: usize = 4096;
/// Most units of a machine.
pub const MAX_UNITS: usize = 8;
