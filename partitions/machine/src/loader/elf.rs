//! ELF kernels: the PVH entry (Xen's "x86/HVM direct boot ABI"), or a Linux kernel by the entry of its 64-bit or 32-bit boot
//! protocol.

use super::bzimage::ZeroPage;
use super::error::LoadError;
use super::placement::{COMMAND_LINE, EXTENDED_START, Part, Placement, STACK_TOP, START_INFO, ZERO_PAGE};
use super::state::{BootState, write_gdt, write_page_tables};
use super::{BootImage, memory_map, write_command_line};
use crate::memory::{GuestMemory, GuestPhysical};
use bulkhead_abi::register;
use core::ops::Range;
use elf::abi::{EM_386, EM_X86_64, PT_LOAD, PT_NOTE};
use elf::endian::LittleEndian;
use elf::file::Class;
use elf::note::Note;
use elf::segment::ProgramHeader;
use elf::{ElfBytes, ParseError};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{Immutable, IntoBytes};

/// `XEN_ELFNOTE_PHYS32_ENTRY`: the note's descriptor is the 32-bit physical entry point.
const PHYS32_ENTRY: u64 = 18;
/// Value of `hvm_start_info.magic`.
const START_MAGIC: u32 = 0x336e_c578;
/// Offset of the module list from [`START_INFO`].
const MODULES: u64 = 0x100;
/// Offset of the memory map from [`START_INFO`].
const MEMORY_MAP: u64 = 0x200;

/// `struct hvm_start_info`, version 1.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct StartInfo {
    magic: U32,
    version: U32,
    flags: U32,
    modules: U32,
    module_list: U64,
    command_line: U64,
    acpi_root: U64,
    memory_map: U64,
    memory_map_entries: U32,
    reserved: U32,
}

/// `struct hvm_modlist_entry`.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct Module {
    address: U64,
    size: U64,
    command_line: U64,
    reserved: U64,
}

/// `struct hvm_memmap_table_entry`.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct MapEntry {
    address: U64,
    size: U64,
    kind: U32,
    reserved: U32,
}

/// A loadable segment whose file range has been checked.
pub(super) struct Segment<'a> {
    pub address: u64,
    pub file: &'a [u8],
    /// Zeroes after `file`.
    pub zeroes: u64,
}

impl<'a> Segment<'a> {
    fn new(kernel: &'a [u8], header: &ProgramHeader) -> Result<Self, LoadError> {
        let length = kernel.len() as u64;
        let end =
            header.p_offset.checked_add(header.p_filesz).ok_or(LoadError::BadElf("a segment's file range wraps"))?;
        let file = kernel.get(header.p_offset as usize..end as usize).ok_or(LoadError::Truncated {
            part: Part::Kernel,
            needed: end,
            length,
        })?;
        let zeroes = header.p_memsz.checked_sub(header.p_filesz);
        let zeroes = zeroes.ok_or(LoadError::BadElf("a segment is longer in the file than in memory"))?;
        Ok(Self { address: header.p_paddr, file, zeroes })
    }

    fn range(&self) -> Result<Range<u64>, LoadError> {
        let bad = LoadError::BadAddress { part: Part::Kernel, address: self.address };
        let end = self.address.checked_add(self.file.len() as u64).and_then(|end| end.checked_add(self.zeroes));
        Ok(self.address..end.ok_or(bad)?)
    }

    /// Takes the segment's memory.
    pub fn claim(&self, placement: &mut Placement) -> Result<(), LoadError> {
        if self.address < EXTENDED_START.0 {
            return Err(LoadError::BadAddress { part: Part::Kernel, address: self.address });
        }
        placement.claim(self.range()?, Part::Kernel)
    }

    /// Copies the segment.
    pub fn write(&self, memory: &impl GuestMemory) -> Result<(), LoadError> {
        let address = GuestPhysical(self.address);
        memory.write(address, self.file)?;
        memory.fill(address.offset(self.file.len() as u64), self.zeroes, 0)?;
        Ok(())
    }
}

fn malformed(_: ParseError) -> LoadError {
    LoadError::BadElf("its headers cannot be read")
}

/// The parsed file, if it is for an x86 processor.
pub(super) fn parse(kernel: &[u8]) -> Result<ElfBytes<'_, LittleEndian>, LoadError> {
    let file = ElfBytes::<LittleEndian>::minimal_parse(kernel).map_err(malformed)?;
    match (file.ehdr.class, file.ehdr.e_machine) {
        (Class::ELF32, EM_386) | (Class::ELF64, EM_X86_64) => Ok(file),
        _ => Err(LoadError::BadElf("it is for another processor")),
    }
}

/// The loadable segments of `file`, which was parsed from `kernel`.
pub(super) fn segments<'a>(
    kernel: &'a [u8],
    file: &ElfBytes<'a, LittleEndian>,
) -> Result<impl Iterator<Item = Result<Segment<'a>, LoadError>>, LoadError> {
    let headers = file.segments().ok_or(LoadError::BadElf("it has no program headers"))?;
    let loadable = headers.iter().filter(|header| header.p_type == PT_LOAD && header.p_memsz != 0);
    Ok(loadable.map(move |header| Segment::new(kernel, &header)))
}

/// The PVH entry point, if a note tells one.
fn pvh_entry(file: &ElfBytes<'_, LittleEndian>) -> Result<Option<u32>, LoadError> {
    let headers = file.segments().ok_or(LoadError::BadElf("it has no program headers"))?;
    for header in headers.iter().filter(|header| header.p_type == PT_NOTE) {
        for note in file.segment_data_as_notes(&header).map_err(malformed)? {
            let Note::Unknown(note) = note else { continue };
            if note.n_type == PHYS32_ENTRY && note.name.strip_suffix(b"\0").unwrap_or(note.name) == b"Xen" {
                let entry = note.desc.first_chunk().ok_or(LoadError::BadElf("its PVH note is too short"))?;
                return Ok(Some(u32::from_le_bytes(*entry)));
            }
        }
    }
    Ok(None)
}

fn write_start_info(memory: &impl GuestMemory, image: &BootImage<'_>, initrd: Option<u64>) -> Result<(), LoadError> {
    let mut entries = 0u32;
    for range in memory_map(memory.layout()) {
        let entry = MapEntry {
            address: U64::new(range.start),
            size: U64::new(range.length),
            kind: U32::new(range.kind as u32),
            reserved: U32::ZERO,
        };
        let offset = MEMORY_MAP + u64::from(entries) * size_of::<MapEntry>() as u64;
        memory.write(START_INFO.offset(offset), entry.as_bytes())?;
        entries += 1;
    }
    if let Some(address) = initrd {
        let module = Module {
            address: U64::new(address),
            size: U64::new(image.initrd.map_or(0, <[u8]>::len) as u64),
            command_line: U64::ZERO,
            reserved: U64::ZERO,
        };
        memory.write(START_INFO.offset(MODULES), module.as_bytes())?;
    }
    let info = StartInfo {
        magic: U32::new(START_MAGIC),
        version: U32::new(1),
        flags: U32::ZERO,
        modules: U32::new(initrd.is_some().into()),
        module_list: U64::new(if initrd.is_some() { START_INFO.offset(MODULES).0 } else { 0 }),
        command_line: U64::new(COMMAND_LINE.0),
        acpi_root: U64::new(image.acpi_root.map_or(0, |root| root.0)),
        memory_map: U64::new(START_INFO.offset(MEMORY_MAP).0),
        memory_map_entries: U32::new(entries),
        reserved: U32::ZERO,
    };
    memory.write(START_INFO, info.as_bytes())?;
    Ok(())
}

pub(super) fn load(memory: &impl GuestMemory, image: &BootImage<'_>) -> Result<BootState, LoadError> {
    let file = parse(image.kernel)?;
    let mut placement = Placement::new(memory.layout())?;
    for segment in segments(image.kernel, &file)? {
        segment?.claim(&mut placement)?;
    }
    let initrd = match image.initrd {
        Some(initrd) => Some((initrd, placement.claim_top(initrd.len() as u64, 1 << 31)?)),
        None => None,
    };
    let initrd_address = initrd.map(|(_, address)| address.0);
    write_command_line(memory, image.command_line, u64::MAX)?;
    for segment in segments(image.kernel, &file)? {
        segment?.write(memory)?;
    }
    if let Some((bytes, address)) = initrd {
        memory.write(address, bytes)?;
    }
    if let Some(entry) = pvh_entry(&file)? {
        write_start_info(memory, image, initrd_address)?;
        write_gdt(memory, false)?;
        let mut state = BootState::protected_mode(entry, STACK_TOP.0 as u32);
        state.registers[register::RBX] = START_INFO.0;
        return Ok(state);
    }
    ZeroPage::without_header().write(memory, image, memory.layout(), initrd_address)?;
    let is_long = file.ehdr.class == Class::ELF64;
    write_gdt(memory, is_long)?;
    let mut state = if is_long {
        write_page_tables(memory)?;
        BootState::long_mode(file.ehdr.e_entry, STACK_TOP.0)
    } else {
        BootState::protected_mode(file.ehdr.e_entry as u32, STACK_TOP.0 as u32)
    };
    state.registers[register::RSI] = ZERO_PAGE.0;
    Ok(state)
}

#[cfg(test)]
#[path = "elf_test.rs"]
mod test;
