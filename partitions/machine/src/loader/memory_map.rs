//! The memory map that a guest is told: E820 kinds, ranges in ascending order.

use super::placement::{CONVENTIONAL_END, EXTENDED_START};
use crate::layout::PCI_CONFIGURATION;
use crate::memory::{HIGH_START, MemoryLayout};

/// What a range is, with the number that E820, PVH and multiboot use alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum MemoryKind {
    /// Usable RAM.
    Usable = 1,
    /// Not to be used.
    Reserved = 2,
}

/// A range of guest-physical memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryRange {
    /// First address.
    pub start: u64,
    /// Bytes.
    pub length: u64,
    /// What it is.
    pub kind: MemoryKind,
}

/// The map of a guest with this RAM: conventional memory, firmware area, extended memory, the PCI configuration space,
/// and what is above 4 GiB.
pub fn memory_map(layout: MemoryLayout) -> impl Iterator<Item = MemoryRange> {
    use MemoryKind::{Reserved, Usable};
    let low = layout.low();
    [
        (0, CONVENTIONAL_END.0.min(low), Usable),
        (CONVENTIONAL_END.0, EXTENDED_START.0, Reserved),
        (EXTENDED_START.0, low, Usable),
        (PCI_CONFIGURATION.start, PCI_CONFIGURATION.end, Reserved),
        (HIGH_START, HIGH_START + layout.high(), Usable),
    ]
    .into_iter()
    .filter(|(start, end, _)| start < end)
    .map(|(start, end, kind)| MemoryRange { start, length: end - start, kind })
}
