//! What the boot loader says: memory, modules, where ACPI is (multiboot2 specification, 3.6).

use crate::memory::boot_pages::{Range, Ranges};
use crate::memory::layout::DIRECT_MAP;
use bulkhead_abi::{BootRange, MAX_BOOT_MODULES, PAGE_SIZE};
use heapless::Vec;
use multiboot2::{BootInformation, BootInformationHeader, MemoryAreaType};

/// What the boot loader says, copied out of its memory.
pub struct Information {
    /// RAM that can be used.
    pub areas: Ranges,
    /// What is in the RAM already: modules, the information itself.
    pub used: Ranges,
    /// The modules, in order; each with its command line, cut to the length that there is for it.
    pub modules: Vec<BootRange, MAX_BOOT_MODULES>,
    /// Physical address of the ACPI tables' root: RSDT (revision 0) or XSDT.
    pub acpi: Option<(u8, u64)>,
}

/// Reads the information.
///
/// # Safety
/// `physical` must be the address that a multiboot2 loader passed, untouched since.
pub unsafe fn read(physical: u64) -> Result<Information, &'static str> {
    let pointer = (DIRECT_MAP + physical) as *const BootInformationHeader;
    // SAFETY: as the caller promises; the direct map covers the first 4 GiB already.
    let boot = unsafe { BootInformation::load(pointer) }.map_err(|_| "the multiboot2 information is malformed")?;
    let (mut areas, mut used, mut modules) = (Ranges::new(), Ranges::new(), Vec::new());
    keep(&mut used, physical, physical + (boot.end_address() - boot.start_address()) as u64);
    let map = boot.memory_map_tag().ok_or("the boot loader gives no memory map")?;
    for area in map.memory_areas().iter().filter(|area| area.typ() == MemoryAreaType::Available) {
        keep(&mut areas, area.start_address(), area.end_address());
    }
    for module in boot.module_tags() {
        let (base, end) = (u64::from(module.start_address()), u64::from(module.end_address()));
        if !base.is_multiple_of(PAGE_SIZE) || end < base {
            return Err("the boot loader put a module off a page boundary");
        }
        keep(&mut used, base, end.next_multiple_of(PAGE_SIZE));
        let mut name = [0; 48];
        for (to, from) in name.iter_mut().take(47).zip(module.cmdline().unwrap_or("").bytes()) {
            *to = from;
        }
        modules.push(BootRange { base, length: end - base, name }).map_err(|_| "too many boot modules")?;
    }
    let acpi = match (boot.rsdp_v2_tag(), boot.rsdp_v1_tag()) {
        (Some(tag), _) if tag.checksum_is_valid() => Some((tag.revision(), tag.xsdt_address() as u64)),
        (_, Some(tag)) if tag.checksum_is_valid() => Some((0, tag.rsdt_address() as u64)),
        _ => None,
    };
    Ok(Information { areas, used, modules, acpi })
}

fn keep(list: &mut Ranges, start: u64, end: u64) {
    // A list that is full loses memory, which is safe for areas; `used` has room for every module there can be.
    let _ = list.push(Range { start, end });
}
