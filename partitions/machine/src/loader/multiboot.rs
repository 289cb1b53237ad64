//! Multiboot version 1 (Free Software Foundation, "Multiboot Specification version 0.6.96"): ELF or flat kernels, 32-bit entry.

use super::elf::{Segment, parse, segments};
use super::error::LoadError;
use super::placement::{COMMAND_LINE, CONVENTIONAL_END, EXTENDED_START, Part, Placement, STACK_TOP, START_INFO};
use super::state::{BootState, write_gdt};
use super::{BootImage, memory_map, write_command_line};
use crate::memory::GuestMemory;
use bulkhead_abi::register;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The header lies within this many bytes of the file.
const SEARCH: usize = 8192;
const HEADER_MAGIC: u32 = 0x1bad_b002;
/// What EAX holds at the entry.
const LOADER_MAGIC: u64 = 0x2bad_b002;
/// Header flags that must be understood: page-aligned modules, memory information, video mode (a wish, ignored).
const KNOWN_REQUIREMENTS: u32 = 0b111;
const REQUIREMENTS: u32 = 0xffff;
/// The header holds load addresses.
const HAS_ADDRESSES: u32 = 1 << 16;
/// Offset of the module list from [`START_INFO`].
const MODULES: u64 = 0x100;
/// Offset of the memory map from [`START_INFO`].
const MEMORY_MAP: u64 = 0x200;

/// The header.
#[derive(Clone, Copy, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    magic: U32,
    flags: U32,
    checksum: U32,
}

/// The address fields that follow a [`Header`] with [`HAS_ADDRESSES`].
#[derive(Clone, Copy, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Addresses {
    header: U32,
    load: U32,
    load_end: U32,
    bss_end: U32,
    entry: U32,
}

/// The part of the multiboot information structure that is filled in.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct Information {
    flags: U32,
    memory_lower: U32,
    memory_upper: U32,
    boot_device: U32,
    command_line: U32,
    module_count: U32,
    modules: U32,
    symbols: [U32; 4],
    memory_map_length: U32,
    memory_map: U32,
}

#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct Module {
    start: U32,
    end: U32,
    text: U32,
    reserved: U32,
}

#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct MapEntry {
    /// Bytes of the entry after this field.
    size: U32,
    address: U64,
    length: U64,
    kind: U32,
}

/// The header and its offset in the file.
fn find(kernel: &[u8]) -> Option<(usize, Header)> {
    let window = kernel.get(..SEARCH).unwrap_or(kernel);
    (0..window.len()).step_by(4).find_map(|offset| {
        let (header, _) = Header::read_from_prefix(window.get(offset..)?).ok()?;
        let sum = header.magic.get().wrapping_add(header.flags.get()).wrapping_add(header.checksum.get());
        (header.magic.get() == HEADER_MAGIC && sum == 0).then_some((offset, header))
    })
}

pub(super) fn is_multiboot(kernel: &[u8]) -> bool {
    find(kernel).is_some()
}

/// Loads by the address fields; returns the entry point.
fn load_flat(
    memory: &impl GuestMemory,
    placement: &mut Placement,
    kernel: &[u8],
    offset: usize,
) -> Result<u32, LoadError> {
    let bad = LoadError::BadHeader("the multiboot header's addresses contradict each other");
    let rest = kernel.get(offset + size_of::<Header>()..).ok_or(bad)?;
    let (addresses, _) = Addresses::read_from_prefix(rest).map_err(|_| bad)?;
    let load = addresses.load.get();
    let before_header = addresses.header.get().checked_sub(load).ok_or(bad)?;
    let start = offset.checked_sub(before_header as usize).ok_or(bad)?;
    let image = kernel.get(start..).ok_or(bad)?;
    let file = match addresses.load_end.get() {
        0 => image,
        end => {
            let length = end.checked_sub(load).ok_or(bad)? as usize;
            let needed = (start + length) as u64;
            let truncated = LoadError::Truncated { part: Part::Kernel, needed, length: kernel.len() as u64 };
            image.get(..length).ok_or(truncated)?
        }
    };
    let zeroes = match addresses.bss_end.get() {
        0 => 0,
        end => u64::from(end).checked_sub(u64::from(load) + file.len() as u64).ok_or(bad)?,
    };
    let segment = Segment { address: u64::from(load), file, zeroes };
    segment.claim(placement)?;
    segment.write(memory)?;
    Ok(addresses.entry.get())
}

/// Loads by the ELF program headers; returns the entry point.
fn load_elf(memory: &impl GuestMemory, placement: &mut Placement, kernel: &[u8]) -> Result<u32, LoadError> {
    let file = parse(kernel)?;
    let mut entry = file.ehdr.e_entry;
    for segment in segments(kernel, &file)? {
        segment?.claim(placement)?;
    }
    let headers = file.segments().into_iter().flat_map(|table| table.iter());
    for header in headers.filter(|header| header.p_type == elf::abi::PT_LOAD) {
        // The entry point may be given as a virtual address; the processor starts without paging.
        let within = file.ehdr.e_entry.wrapping_sub(header.p_vaddr);
        if within < header.p_memsz {
            entry = header.p_paddr.wrapping_add(within);
        }
    }
    for segment in segments(kernel, &file)? {
        segment?.write(memory)?;
    }
    u32::try_from(entry).map_err(|_| LoadError::BadElf("its entry point is beyond 4 GiB"))
}

pub(super) fn load(memory: &impl GuestMemory, image: &BootImage<'_>) -> Result<BootState, LoadError> {
    let (offset, header) = find(image.kernel).ok_or(LoadError::UnknownFormat)?;
    let flags = header.flags.get();
    if flags & REQUIREMENTS & !KNOWN_REQUIREMENTS != 0 {
        return Err(LoadError::MultibootFlags(flags & REQUIREMENTS & !KNOWN_REQUIREMENTS));
    }
    let layout = memory.layout();
    let mut placement = Placement::new(layout)?;
    let entry = if flags & HAS_ADDRESSES != 0 {
        load_flat(memory, &mut placement, image.kernel, offset)?
    } else {
        load_elf(memory, &mut placement, image.kernel)?
    };
    write_command_line(memory, image.command_line, u64::MAX)?;
    let mut modules = 0u32;
    if let Some(bytes) = image.initrd {
        let start = placement.claim_top(bytes.len() as u64, u64::MAX)?;
        memory.write(start, bytes)?;
        let module = Module {
            start: U32::new(start.0 as u32),
            end: U32::new(start.0 as u32 + bytes.len() as u32),
            text: U32::new(COMMAND_LINE.0 as u32),
            reserved: U32::ZERO,
        };
        memory.write(START_INFO.offset(MODULES), module.as_bytes())?;
        modules = 1;
    }
    let mut map_length = 0u32;
    for range in memory_map(layout) {
        let entry = MapEntry {
            size: U32::new(size_of::<MapEntry>() as u32 - 4),
            address: U64::new(range.start),
            length: U64::new(range.length),
            kind: U32::new(range.kind as u32),
        };
        memory.write(START_INFO.offset(MEMORY_MAP + u64::from(map_length)), entry.as_bytes())?;
        map_length += size_of::<MapEntry>() as u32;
    }
    let information = Information {
        // Memory sizes, command line, modules, memory map.
        flags: U32::new(1 << 0 | 1 << 2 | 1 << 3 | 1 << 6),
        memory_lower: U32::new((CONVENTIONAL_END.0 >> 10) as u32),
        memory_upper: U32::new((layout.low().saturating_sub(EXTENDED_START.0) >> 10) as u32),
        boot_device: U32::ZERO,
        command_line: U32::new(COMMAND_LINE.0 as u32),
        module_count: U32::new(modules),
        modules: U32::new(START_INFO.offset(MODULES).0 as u32),
        symbols: [U32::ZERO; 4],
        memory_map_length: U32::new(map_length),
        memory_map: U32::new(START_INFO.offset(MEMORY_MAP).0 as u32),
    };
    memory.write(START_INFO, information.as_bytes())?;
    write_gdt(memory, false)?;
    let mut state = BootState::protected_mode(entry, STACK_TOP.0 as u32);
    state.registers[register::RAX] = LOADER_MAGIC;
    state.registers[register::RBX] = START_INFO.0;
    Ok(state)
}

#[cfg(test)]
mod test {
    use super::*;
    use crate::loader;
    use crate::memory::test::VecMemory;
    use alloc::vec;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    /// A flat kernel whose header is at byte 16; loads 0x200 bytes at 1 MiB, zeroes 0x100 more, enters at 1 MiB + 0x40.
    fn image() -> Vec<u8> {
        let mut kernel = vec![0x90u8; 0x300];
        let flags = HAS_ADDRESSES | 3;
        let fields = [
            HEADER_MAGIC,
            flags,
            0u32.wrapping_sub(HEADER_MAGIC).wrapping_sub(flags),
            0x10_0010,
            0x10_0000,
            0x10_0200,
            0x10_0300,
            0x10_0040,
        ];
        for (index, field) in fields.into_iter().enumerate() {
            kernel[16 + 4 * index..][..4].copy_from_slice(&field.to_le_bytes());
        }
        kernel
    }

    fn boot(kernel: &[u8]) -> BootImage<'_> {
        BootImage { kernel, initrd: Some(b"module"), command_line: b"console=com0", acpi_root: None }
    }

    #[test]
    fn loads_by_addresses() {
        let memory = VecMemory::new(4 << 20);
        memory.fill(EXTENDED_START, 0x1000, 0xff).unwrap();
        let state = loader::load(&memory, &boot(&image())).unwrap();
        assert_eq!((state.rip, state.registers[register::RAX]), (0x10_0040, LOADER_MAGIC));
        assert_eq!(memory.bytes(0x10_0000, 0x200), image()[..0x200]);
        assert_eq!(memory.bytes(0x10_0200, 0x100), [0; 0x100]);
        assert_eq!(memory.bytes(0x10_0300, 1), [0xff]);
        let info = state.registers[register::RBX];
        assert_eq!((memory.u32(info + 4), memory.u32(info + 8)), (639, 3072));
        let module = u64::from(memory.u32(info + 24));
        assert_eq!(memory.bytes(u64::from(memory.u32(module)), 6), b"module");
        assert_eq!(memory.u32(info + 44), 4 * 24);
        assert_eq!(memory.u32(u64::from(memory.u32(info + 48))), 20);
    }

    proptest! {
        #[test]
        fn no_header_panics(edits in prop::collection::vec((16usize..48, any::<u8>()), 0..6), flags: u32) {
            let mut kernel = image();
            kernel[20..24].copy_from_slice(&flags.to_le_bytes());
            for (offset, value) in edits {
                kernel[offset] = value;
            }
            let sum = [16, 20].map(|at| u32::from_le_bytes(kernel[at..at + 4].try_into().unwrap()));
            kernel[24..28].copy_from_slice(&0u32.wrapping_sub(sum[0]).wrapping_sub(sum[1]).to_le_bytes());
            let memory = VecMemory::new(2 << 20);
            let _ = loader::load(&memory, &boot(&kernel));
        }
    }
}
