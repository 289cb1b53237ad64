//! The ACPI table MCFG: where configuration space is in memory (PCI Firmware Specification 3.0, 4.1.2).

use bulkhead_plan::layout::CONFIGURATION_BYTES;

/// Bytes of the table that are looked at: its header, and the entry of the first segment.
pub const LOOKED_AT: usize = 60;
/// Offset of the first entry.
const ENTRY: usize = 44;
/// Bytes of configuration space for each bus.
const BUS_BYTES: u64 = 1 << 20;
/// What it has to be aligned to, so that large pages alone map it.
const ALIGNMENT: u64 = 2 << 20;

/// Where configuration space of segment 0 is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Physical address of the first bus.
    pub start: u64,
    /// Bytes, a multiple of 2 MiB and at most [`CONFIGURATION_BYTES`].
    pub length: u64,
    /// First bus.
    pub first_bus: u8,
}

/// What the table's first entry describes; `None` if that is not segment 0, or cannot be mapped by large pages alone.
pub fn first_segment(table: &[u8; LOOKED_AT]) -> Option<Place> {
    let (signature, rest) = table.split_first_chunk::<4>()?;
    let (length, _) = rest.split_first_chunk::<4>()?;
    let (_, entry) = table.split_at_checked(ENTRY)?;
    let (base, rest) = entry.split_first_chunk::<8>()?;
    let [segment_low, segment_high, first_bus, last_bus, ..] = *rest else {
        return None;
    };
    let is_sound = signature == b"MCFG" && u32::from_le_bytes(*length) as usize >= LOOKED_AT;
    let buses = u64::from(last_bus.checked_sub(first_bus)?) + 1;
    let start = u64::from_le_bytes(*base).checked_add(u64::from(first_bus) * BUS_BYTES)?;
    let length = (buses * BUS_BYTES).min(CONFIGURATION_BYTES);
    start.checked_add(length)?;
    let fits = start.is_multiple_of(ALIGNMENT) && length.is_multiple_of(ALIGNMENT) && start != 0;
    (is_sound && fits && segment_low == 0 && segment_high == 0).then_some(Place { start, length, first_bus })
}
