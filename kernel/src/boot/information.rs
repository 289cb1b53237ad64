//! What the boot loader says: memory, modules, symbols, where ACPI is (multiboot2 specification, 3.6).

use crate::memory::boot_pages::{Range, Ranges};
use crate::memory::layout::DIRECT_MAP;
use bulkhead_abi::{MAX_BOOT_MODULES, PAGE_SIZE};
use heapless::Vec;
use multiboot2::{BootInformation, BootInformationHeader, ElfSectionType, MemoryAreaType, StringError};

/// A module.
#[derive(Clone, Copy)]
pub struct Module {
    /// Where it is.
    pub range: Range,
    /// Its command line, cut to the ABI's length.
    pub name: [u8; 48],
}

/// What the boot loader says, copied out of its memory.
pub struct Information {
    /// RAM that can be used.
    pub areas: Ranges,
    /// RAM in which the firmware keeps ACPI tables: mapped, not used.
    pub firmware: Ranges,
    /// What is in the RAM already: modules, symbols, the information itself.
    pub used: Ranges,
    /// The modules, in order.
    pub modules: Vec<Module, MAX_BOOT_MODULES>,
    /// Symbol and string table: address in the direct map, and bytes.
    pub symbols: Option<[(u64, u64); 2]>,
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
    let mut information = Information {
        areas: Ranges::new(),
        firmware: Ranges::new(),
        used: Ranges::new(),
        modules: Vec::new(),
        symbols: None,
        acpi: None,
    };
    let own = boot.end_address() as u64 - boot.start_address() as u64;
    keep(&mut information.used, physical, physical + own);
    let map = boot.memory_map_tag().ok_or("the boot loader gives no memory map")?;
    for area in map.memory_areas() {
        let list = match MemoryAreaType::from(area.typ()) {
            MemoryAreaType::Available => &mut information.areas,
            MemoryAreaType::AcpiAvailable | MemoryAreaType::ReservedHibernate => &mut information.firmware,
            _ => continue,
        };
        keep(list, area.start_address(), area.end_address());
    }
    for module in boot.module_tags() {
        let (start, end) = (u64::from(module.start_address()), u64::from(module.end_address()));
        if !start.is_multiple_of(PAGE_SIZE) || end < start {
            return Err("the boot loader put a module off a page boundary");
        }
        keep(&mut information.used, start, end.next_multiple_of(PAGE_SIZE));
        let name = name_of(module.cmdline());
        information.modules.push(Module { range: Range { start, end }, name }).map_err(|_| "too many boot modules")?;
    }
    read_symbols(&boot, &mut information);
    information.acpi = match (boot.rsdp_v2_tag(), boot.rsdp_v1_tag()) {
        (Some(tag), _) if tag.checksum_is_valid() => Some((tag.revision(), tag.xsdt_address() as u64)),
        (_, Some(tag)) if tag.checksum_is_valid() => Some((0, tag.rsdt_address() as u64)),
        _ => None,
    };
    Ok(information)
}

fn keep(list: &mut Ranges, start: u64, end: u64) {
    // A list that is full loses memory, which is safe for areas; `used` has room for every module and section there can be.
    let _ = list.push(Range { start, end });
}

fn name_of(line: Result<&str, StringError>) -> [u8; 48] {
    let mut name = [0; 48];
    for (to, from) in name.iter_mut().take(47).zip(line.unwrap_or("").bytes()) {
        *to = from;
    }
    name
}

fn read_symbols(boot: &BootInformation<'_>, information: &mut Information) {
    let Some(tag) = boot.elf_sections_tag() else {
        return;
    };
    let mut symbols = None;
    let mut strings = (0, 0);
    for section in tag.sections() {
        let (start, bytes) = (section.start_address(), section.size());
        if start == 0 || bytes == 0 || start >= 1 << 32 {
            continue;
        }
        let table = (DIRECT_MAP + start, bytes);
        match section.section_type() {
            ElfSectionType::LinkerSymbolTable => symbols = Some(table),
            // The section names are a string table too, but a short one.
            ElfSectionType::StringTable if bytes > strings.1 => strings = table,
            ElfSectionType::StringTable => {}
            _ => continue,
        }
        keep(&mut information.used, start, start + bytes);
    }
    information.symbols = symbols.map(|symbols| [symbols, strings]);
}
