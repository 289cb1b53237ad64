//! PCI configuration space in memory, where the ACPI table MCFG says (PCI Firmware Specification 3.0, 4.1.2).

use crate::allocator::Allocator;
use crate::construct::{Construction, OWN};
use crate::devices::device_range;
use crate::failure::Cause;
use bulkhead_runtime::abi::{BootInfo, PAGE_SIZE, Rights, init_slot};
use bulkhead_runtime::mapping::Mapping;
use bulkhead_runtime::object::Memory;
use bulkhead_runtime::plan::layout::CONFIGURATION_BYTES;
use bulkhead_runtime::syscall::Slot;

/// Where init maps the table for a moment.
const TEMPORARY: u64 = 0x1100_0000_0000;
/// Bytes of the table that are looked at: header, and the entry of the first segment.
const LOOKED_AT: usize = 60;
/// Bytes of configuration space for each bus.
const BUS_BYTES: u64 = 1 << 20;
/// What it has to be aligned to, so that large pages alone map it.
const ALIGNMENT: u64 = 2 << 20;

/// A capability to the configuration space of the first segment, its bytes, and its first bus; `None` if the machine has none that
/// can be handed out. From then on no device gets it.
pub fn memory(construction: &mut Construction<'_>) -> Result<Option<(Memory, u64, u8)>, Cause> {
    let Some(table) = table(construction.boot, &mut construction.allocator)? else {
        return Ok(None);
    };
    let Some((start, length, first_bus)) = describe(&table) else {
        return Ok(None);
    };
    let Some((number, base)) = device_range(construction.boot, start, start.saturating_add(length)) else {
        return Ok(None);
    };
    construction.configuration = Some((start, start.saturating_add(length)));
    let root = Memory(Slot(init_slot::FIRST_DEVICE_MEMORY + number));
    let part = construction.allocator.child(root, Rights::READ | Rights::WRITE, start - base, length)?;
    Ok(Some((part, length, first_bus)))
}

/// The first bytes of the table. One in memory that the boot loader calls usable is not seen.
fn table(boot: &BootInfo, allocator: &mut Allocator) -> Result<Option<[u8; LOOKED_AT]>, Cause> {
    let start = boot.mcfg & !(PAGE_SIZE - 1);
    let Some(end) = boot.mcfg.checked_add(LOOKED_AT as u64).and_then(|end| end.checked_next_multiple_of(PAGE_SIZE))
    else {
        return Ok(None);
    };
    let Some((number, base)) = device_range(boot, start, end).filter(|_| boot.mcfg != 0) else {
        return Ok(None);
    };
    let root = Memory(Slot(init_slot::FIRST_DEVICE_MEMORY + number));
    let pages = allocator.child(root, Rights::READ, start - base, end - start)?;
    let mapping = Mapping::new(OWN, pages, TEMPORARY, Rights::READ, 0).map_err(Cause::Kernel)?;
    let mut bytes = [0; LOOKED_AT];
    let offset = (boot.mcfg - start) as usize;
    Ok(mapping.view().read(offset, &mut bytes).ok().map(|()| bytes))
}

/// Address, bytes and first bus of the configuration space that the table's first entry describes, if that is segment 0.
fn describe(table: &[u8; LOOKED_AT]) -> Option<(u64, u64, u8)> {
    let (signature, rest) = table.split_first_chunk::<4>()?;
    let (length, _) = rest.split_first_chunk::<4>()?;
    let (_, entry) = table.split_at_checked(44)?;
    let (base, rest) = entry.split_first_chunk::<8>()?;
    let [segment_low, segment_high, first_bus, last_bus, ..] = *rest else {
        return None;
    };
    let is_sound = signature == b"MCFG" && u32::from_le_bytes(*length) as usize >= LOOKED_AT;
    let buses = u64::from(last_bus.checked_sub(first_bus)?) + 1;
    let start = u64::from_le_bytes(*base).checked_add(u64::from(first_bus) * BUS_BYTES)?;
    let length = (buses * BUS_BYTES).min(CONFIGURATION_BYTES);
    let fits = start.is_multiple_of(ALIGNMENT) && length.is_multiple_of(ALIGNMENT) && start != 0;
    (is_sound && fits && segment_low == 0 && segment_high == 0).then_some((start, length, first_bus))
}
