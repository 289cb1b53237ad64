//! PCI configuration space in memory, where the ACPI table MCFG says (PCI Firmware Specification 3.0, 4.1.2).

use crate::allocator::Allocator;
use crate::construct::{Construction, OWN};
use crate::devices::device_range;
use crate::failure::Cause;
use bulkhead_pci::mcfg::{self, LOOKED_AT, Place};
use bulkhead_runtime::abi::{BootInfo, PAGE_SIZE, Rights, init_slot};
use bulkhead_runtime::mapping::Mapping;
use bulkhead_runtime::object::Memory;
use bulkhead_runtime::syscall::Slot;

/// Where init maps the table for a moment.
const TEMPORARY: u64 = 0x1100_0000_0000;

/// A capability to the configuration space of the first segment, its bytes, and its first bus; `None` if the machine has none that
/// can be handed out. From then on no device gets it.
pub fn memory(construction: &mut Construction<'_>) -> Result<Option<(Memory, u64, u8)>, Cause> {
    let Some(table) = table(construction.boot, &mut construction.allocator)? else {
        return Ok(None);
    };
    let Some(Place { start, length, first_bus }) = mcfg::first_segment(&table) else {
        return Ok(None);
    };
    let end = start.saturating_add(length);
    let Some((number, base)) = device_range(construction.boot, start, end) else {
        return Ok(None);
    };
    construction.configuration = Some((start, end));
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
