//! Where things are in the guest's address spaces: what device models, ACPI tables and loaders agree on.

use crate::memory::LOW_LIMIT;
use core::ops::Range;

/// Guest-physical memory that base address registers of PCI functions are given.
pub const PCI_MEMORY: Range<u64> = LOW_LIMIT..0xfec0_0000;
/// The configuration space of PCI bus 0 in memory: the enhanced configuration access mechanism (PCI Express 5.0,
/// 7.2.2). Between the interrupt controllers and firmware, where no firmware places base address registers.
pub const PCI_CONFIGURATION: Range<u64> = 0xfef0_0000..0xff00_0000;
/// Ports that base address registers of PCI functions are given.
pub const PCI_PORTS: Range<u32> = 0x1000..0x1_0000;
/// Where the ACPI tables may lie, found by their root pointer at its start. Inside the area that firmware uses on a PC.
pub const ACPI_TABLES: Range<u64> = 0xe_0000..0x10_0000;
