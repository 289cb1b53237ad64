//! Linux bzImage (Linux documentation, "The Linux/x86 Boot Protocol"): 64-bit entry where the kernel has one, else 32-bit.

use super::error::LoadError;
use super::placement::{COMMAND_LINE, EXTENDED_START, Part, Placement, STACK_TOP, ZERO_PAGE};
use super::state::{BootState, write_gdt, write_page_tables};
use super::{BootImage, memory_map, write_command_line};
use crate::memory::{GuestMemory, MemoryLayout};
use bulkhead_abi::register;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Offset of the setup header in the file and in `boot_params`.
const HEADER_OFFSET: usize = 0x1f1;
/// First byte of `boot_params` after the space for the header.
const HEADER_SPACE_END: usize = 0x290;
/// The 64-bit entry, from the start of the protected-mode kernel.
const ENTRY_64: u64 = 0x200;
/// `type_of_loader` of a boot loader without an assigned number.
const LOADER_UNDEFINED: u8 = 0xff;
/// `loadflags`: the protected-mode code loads at 1 MiB or above.
const LOADED_HIGH: u8 = 1 << 0;
/// `xloadflags`: there is a 64-bit entry.
const KERNEL_64: u16 = 1 << 0;

/// The setup header up to boot protocol 2.12, little-endian, from offset 0x1f1.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct SetupHeader {
    setup_sectors: u8,
    root_flags: U16,
    system_size: U32,
    ram_size: U16,
    video_mode: U16,
    root_device: U16,
    boot_flag: U16,
    jump: [u8; 2],
    magic: [u8; 4],
    version: U16,
    realmode_switch: U32,
    start_system_segment: U16,
    kernel_version: U16,
    type_of_loader: u8,
    load_flags: u8,
    setup_move_size: U16,
    code32_start: U32,
    ramdisk_image: U32,
    ramdisk_size: U32,
    bootsector_kludge: U32,
    heap_end: U16,
    extended_loader_version: u8,
    extended_loader_type: u8,
    command_line: U32,
    initrd_address_max: U32,
    kernel_alignment: U32,
    relocatable: u8,
    minimum_alignment: u8,
    extended_load_flags: U16,
    command_line_size: U32,
    hardware_subarch: U32,
    hardware_subarch_data: U64,
    payload_offset: U32,
    payload_length: U32,
    setup_data: U64,
    preferred_address: U64,
    init_size: U32,
}

/// An entry of the E820 table in `boot_params`.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct E820Entry {
    address: U64,
    size: U64,
    kind: U32,
}

/// `boot_params` as far as a boot loader fills it, at its fixed offsets.
pub(super) struct ZeroPage([u8; 4096]);

impl ZeroPage {
    const ACPI_ROOT: usize = 0x70;
    const E820_ENTRIES: usize = 0x1e8;
    const E820_TABLE: usize = 0x2d0;

    /// A page with `header` (raw bytes, so that fields newer than this loader survive) in its place.
    fn new(raw_header: &[u8]) -> Self {
        let mut page = Self([0; 4096]);
        page.put(HEADER_OFFSET, raw_header);
        page
    }

    /// A page for a kernel that brings no header of its own (ELF vmlinux).
    pub fn without_header() -> Self {
        let mut header = SetupHeader::new_zeroed();
        header.boot_flag = U16::new(0xaa55);
        header.magic = *b"HdrS";
        header.version = U16::new(0x020c);
        header.load_flags = LOADED_HIGH;
        header.kernel_alignment = U32::new(1 << 21);
        Self::new(header.as_bytes())
    }

    fn put(&mut self, offset: usize, bytes: &[u8]) {
        if let Some(target) = self.0.get_mut(offset..).and_then(|rest| rest.get_mut(..bytes.len())) {
            target.copy_from_slice(bytes);
        }
    }

    fn edit_header(&mut self, edit: impl FnOnce(&mut SetupHeader)) {
        if let Some(Ok((header, _))) = self.0.get_mut(HEADER_OFFSET..).map(SetupHeader::mut_from_prefix) {
            edit(header);
        }
    }

    /// Fills in what depends on the machine and on the image, and writes the page.
    pub fn write(
        mut self,
        memory: &impl GuestMemory,
        image: &BootImage<'_>,
        layout: MemoryLayout,
        initrd: Option<u64>,
    ) -> Result<(), LoadError> {
        let initrd_size = image.initrd.map_or(0, <[u8]>::len);
        self.edit_header(|header| {
            header.type_of_loader = LOADER_UNDEFINED;
            header.command_line = U32::new(COMMAND_LINE.0 as u32);
            header.ramdisk_image = U32::new(initrd.unwrap_or(0) as u32);
            header.ramdisk_size = U32::new(initrd_size as u32);
            header.setup_data = U64::ZERO;
        });
        self.put(Self::ACPI_ROOT, &image.acpi_root.map_or(0, |root| root.0).to_le_bytes());
        let mut entries = 0u8;
        for range in memory_map(layout) {
            let entry = E820Entry {
                address: U64::new(range.start),
                size: U64::new(range.length),
                kind: U32::new(range.kind as u32),
            };
            self.put(Self::E820_TABLE + usize::from(entries) * size_of::<E820Entry>(), entry.as_bytes());
            entries += 1;
        }
        self.put(Self::E820_ENTRIES, &[entries]);
        memory.write(ZERO_PAGE, &self.0)?;
        Ok(())
    }
}

pub(super) fn is_bzimage(kernel: &[u8]) -> bool {
    header_of(kernel).is_some_and(|header| header.boot_flag.get() == 0xaa55 && header.magic == *b"HdrS")
}

fn header_of(kernel: &[u8]) -> Option<SetupHeader> {
    Some(SetupHeader::read_from_prefix(kernel.get(HEADER_OFFSET..)?).ok()?.0)
}

/// A setup header that has been checked: where the kernel goes and what it needs.
#[derive(Debug, PartialEq, Eq)]
struct Checked<'a> {
    /// The header's bytes, as long as it says it is.
    raw_header: &'a [u8],
    /// The protected-mode kernel.
    code: &'a [u8],
    /// Where `code` is copied to.
    load: u64,
    /// Everything that the kernel overwrites until it has set up its own memory management.
    used: core::ops::Range<u64>,
    /// First address that the initrd must not touch.
    initrd_limit: u64,
    command_line_limit: u64,
    entry_64: bool,
}

fn check(kernel: &[u8]) -> Result<Checked<'_>, LoadError> {
    let length = kernel.len() as u64;
    let truncated = |part, needed| LoadError::Truncated { part, needed, length };
    let header_end = (HEADER_OFFSET + size_of::<SetupHeader>()) as u64;
    let header = header_of(kernel).ok_or(truncated(Part::SetupHeader, header_end))?;
    let version = header.version.get();
    if version < 0x020a {
        return Err(LoadError::OldBootProtocol(version));
    }
    if header.load_flags & LOADED_HIGH == 0 {
        return Err(LoadError::BadHeader("the kernel wants to be loaded below 1 MiB"));
    }
    // The jump instruction at 0x200 goes over the header: its displacement says where the header ends.
    let end = (0x202 + usize::from(header.jump[1])).clamp(HEADER_OFFSET + size_of::<SetupHeader>(), HEADER_SPACE_END);
    let raw_header = kernel.get(HEADER_OFFSET..end).ok_or(truncated(Part::SetupHeader, end as u64))?;
    let setup_sectors = if header.setup_sectors == 0 { 4 } else { usize::from(header.setup_sectors) };
    let code_offset = (setup_sectors + 1) * 512;
    let code = kernel.get(code_offset..).filter(|code| code.len() as u64 > ENTRY_64);
    let code = code.ok_or(truncated(Part::Kernel, code_offset as u64 + ENTRY_64 + 1))?;
    let code_length = code.len() as u64;

    let preferred = match header.preferred_address.get() {
        0 => EXTENDED_START.0,
        address => address,
    };
    let init_size = u64::from(header.init_size.get()).max(code_length);
    let bad_address = LoadError::BadAddress { part: Part::Kernel, address: preferred };
    if preferred < EXTENDED_START.0 {
        return Err(bad_address);
    }
    let load = if header.relocatable != 0 {
        let alignment = u64::from(header.kernel_alignment.get());
        if !alignment.is_power_of_two() {
            return Err(LoadError::BadHeader("kernel_alignment is not a power of two"));
        }
        preferred.checked_next_multiple_of(alignment).ok_or(bad_address)?
    } else {
        // A kernel that cannot be relocated moves itself from the default address to the preferred one.
        EXTENDED_START.0
    };
    let runtime = load.max(preferred);
    let end = runtime.checked_add(init_size).ok_or(bad_address)?;
    Ok(Checked {
        raw_header,
        code,
        load,
        used: load..end.max(load + code_length),
        initrd_limit: u64::from(header.initrd_address_max.get()) + 1,
        command_line_limit: u64::from(header.command_line_size.get()),
        entry_64: header.extended_load_flags.get() & KERNEL_64 != 0 && version >= 0x020c,
    })
}

pub(super) fn load(memory: &impl GuestMemory, image: &BootImage<'_>) -> Result<BootState, LoadError> {
    let kernel = check(image.kernel)?;
    let layout = memory.layout();
    let mut placement = Placement::new(layout)?;
    placement.claim(kernel.used.clone(), Part::Kernel)?;
    let initrd = match image.initrd {
        Some(initrd) => Some((initrd, placement.claim_top(initrd.len() as u64, kernel.initrd_limit)?)),
        None => None,
    };
    write_command_line(memory, image.command_line, kernel.command_line_limit)?;
    let zero_page = ZeroPage::new(kernel.raw_header);
    zero_page.write(memory, image, layout, initrd.map(|(_, address)| address.0))?;
    memory.write(crate::memory::GuestPhysical(kernel.load), kernel.code)?;
    if let Some((bytes, address)) = initrd {
        memory.write(address, bytes)?;
    }
    write_gdt(memory, kernel.entry_64)?;
    let mut state = if kernel.entry_64 {
        write_page_tables(memory)?;
        BootState::long_mode(kernel.load + ENTRY_64, STACK_TOP.0)
    } else {
        BootState::protected_mode(kernel.load as u32, STACK_TOP.0 as u32)
    };
    state.registers[register::RSI] = ZERO_PAGE.0;
    Ok(state)
}

#[cfg(test)]
#[path = "bzimage_test.rs"]
mod test;
