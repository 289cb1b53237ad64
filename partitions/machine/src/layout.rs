//! Where things are in the guest's address spaces: what device models, ACPI tables and loaders agree on.

use core::ops::Range;

/// First address that RAM below 4 GiB never reaches: memory beyond it continues at 4 GiB.
pub const LOW_MEMORY_END: u64 = 0xc000_0000;
/// Guest-physical memory that base address registers of PCI functions are given.
pub const PCI_MEMORY: Range<u64> = LOW_MEMORY_END..0xfec0_0000;
/// Ports that base address registers of PCI functions are given.
pub const PCI_PORTS: Range<u32> = 0x1000..0x1_0000;
/// Where the ACPI tables may lie, found by their root pointer at its start. Inside the area that firmware uses on a PC.
pub const ACPI_TABLES: Range<u64> = 0xe_0000..0x10_0000;
