//! PCI configuration space in memory, where the ACPI table MCFG says (PCI Firmware Specification 3.0, 4.1.2).

use crate::acpi;
use crate::construct::Construction;
use crate::devices::device_range;
use crate::failure::Cause;
use bulkhead_pci::mcfg::{self, LOOKED_AT, Place};
use bulkhead_runtime::abi::{Rights, init_slot};
use bulkhead_runtime::object::Memory;
use bulkhead_runtime::syscall::Slot;

/// A capability to the configuration space of the first segment, its bytes, and its first bus; `None` if the machine has none that
/// can be handed out. From then on no device gets it.
pub fn memory(construction: &mut Construction<'_>) -> Result<Option<(Memory, u64, u8)>, Cause> {
    let mut table = [0; LOOKED_AT];
    if !acpi::read(construction.boot, &mut construction.allocator, construction.boot.mcfg, &mut table)? {
        return Ok(None);
    }
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
