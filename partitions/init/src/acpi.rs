//! Reading ACPI tables, where the kernel says they are.

use crate::allocator::Allocator;
use crate::construct::OWN;
use crate::devices::device_range;
use crate::failure::Cause;
use bulkhead_runtime::abi::{BootInfo, PAGE_SIZE, Rights, init_slot};
use bulkhead_runtime::mapping::Mapping;
use bulkhead_runtime::object::Memory;
use bulkhead_runtime::syscall::Slot;

/// Where init maps a table for a moment.
const TEMPORARY: u64 = 0x1100_0000_0000;

/// Reads bytes of a table at a physical address. False if there is none (address 0), or if it lies in memory that the boot loader calls
/// usable, which is not seen.
pub fn read(boot: &BootInfo, allocator: &mut Allocator, table: u64, bytes: &mut [u8]) -> Result<bool, Cause> {
    let start = table & !(PAGE_SIZE - 1);
    let end = table.checked_add(bytes.len() as u64).and_then(|end| end.checked_next_multiple_of(PAGE_SIZE));
    let Some(end) = end.filter(|_| table != 0) else {
        return Ok(false);
    };
    let Some((number, base)) = device_range(boot, start, end) else {
        return Ok(false);
    };
    let root = Memory(Slot(init_slot::FIRST_DEVICE_MEMORY + number));
    let pages = allocator.child(root, Rights::READ, start - base, end - start)?;
    let mapping = Mapping::new(OWN, pages, TEMPORARY, Rights::READ, 0).map_err(Cause::Kernel)?;
    Ok(mapping.view().read((table - start) as usize, bytes).is_ok())
}
