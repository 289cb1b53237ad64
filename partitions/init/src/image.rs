//! Program files: static ELF executables, with their segments.

use crate::failure::Cause;
use alloc::vec::Vec;
use bulkhead_runtime::abi::{PAGE_SIZE, Rights};
use bulkhead_runtime::plan::layout;
use bulkhead_runtime::shared::SharedMemory;
use elf::ElfBytes;
use elf::abi::{EM_X86_64, ET_EXEC, PF_R, PF_W, PF_X, PT_LOAD};
use elf::endian::LittleEndian;

/// Bytes of the longest call instruction.
const LONGEST_CALL: usize = 7;

/// A part of a program that is mapped with one set of rights.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    /// Virtual address, page-aligned.
    pub address: u64,
    /// Bytes in memory, in whole pages.
    pub length: u64,
    /// Rights of its mapping.
    pub rights: Rights,
    /// Its contents in the file; zeros follow.
    contents: &'static [u8],
}

/// A program file that has been checked.
#[derive(Debug)]
pub struct Image {
    segments: Vec<Segment>,
    /// Where it starts.
    pub entry: u64,
}

impl Image {
    /// Checks that the file is a static executable that can be mapped page by page, writable or executable.
    pub fn parse(bytes: &'static [u8]) -> Result<Self, Cause> {
        let file = ElfBytes::<LittleEndian>::minimal_parse(bytes)
            .map_err(|_| Cause::Program("its program is not a little-endian ELF file"))?;
        if file.ehdr.e_type != ET_EXEC || file.ehdr.e_machine != EM_X86_64 {
            return Err(Cause::Program("its program is not a static x86-64 executable"));
        }
        let headers = file.segments().ok_or(Cause::Program("its program has no program headers"))?;
        let mut segments = Vec::new();
        let mut end = layout::PROGRAM;
        for header in headers.iter().filter(|header| header.p_type == PT_LOAD && header.p_memsz != 0) {
            let contents = file
                .segment_data(&header)
                .map_err(|_| Cause::Program("a segment of its program lies outside the file"))?;
            let last = header.p_vaddr.checked_add(header.p_memsz);
            let misplaced = Cause::Program("a segment of its program is out of place");
            let Some(last) = last.and_then(|last| last.checked_next_multiple_of(PAGE_SIZE)) else {
                return Err(misplaced);
            };
            let in_order = header.p_vaddr >= end && last <= layout::ENVIRONMENT;
            if !in_order || !header.p_vaddr.is_multiple_of(PAGE_SIZE) || header.p_filesz > header.p_memsz {
                return Err(misplaced);
            }
            segments.push(Segment {
                address: header.p_vaddr,
                length: last - header.p_vaddr,
                rights: rights(header.p_flags)?,
                contents,
            });
            end = last;
        }
        let entry = file.ehdr.e_entry;
        let executable = |segment: &Segment| {
            segment.rights.contains(Rights::EXECUTE)
                && (segment.address..segment.address + segment.length).contains(&entry)
        };
        if !segments.iter().any(executable) {
            return Err(Cause::Program("the entry of its program is not in an executable segment"));
        }
        Ok(Self { segments, entry })
    }

    /// Segments in order of their addresses.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Bytes of memory that all segments need.
    pub fn length(&self) -> u64 {
        self.segments.iter().map(|segment| segment.length).sum()
    }

    /// Copies the segments, one behind the other, to zeroed memory of [`Image::length`] bytes.
    pub fn load(&self, memory: SharedMemory<'_>) -> Result<(), Cause> {
        let mut offset = 0;
        for segment in &self.segments {
            memory
                .write(offset, segment.contents)
                .map_err(|_| Cause::Program("its program does not fit in its memory"))?;
            offset += segment.length as usize;
        }
        Ok(())
    }

    /// Whether an address lies in the program's code, behind a call instruction.
    pub fn follows_call(&self, address: u64) -> bool {
        let before =
            self.segments.iter().filter(|segment| segment.rights.contains(Rights::EXECUTE)).find_map(|segment| {
                let end = usize::try_from(address.checked_sub(segment.address)?).ok()?;
                segment.contents.get(end.checked_sub(LONGEST_CALL)?..end)
            });
        let is_indirect = |pair: &[u8]| matches!(pair, [0xff, operand] if operand & 0x38 == 0x10);
        before.is_some_and(|before| {
            matches!(before, [_, _, 0xe8, ..] | [0xff, ..]) || before.windows(2).skip(2).any(is_indirect)
        })
    }
}

fn rights(flags: u32) -> Result<Rights, Cause> {
    if flags & PF_W != 0 && flags & PF_X != 0 {
        return Err(Cause::Program("a segment of its program is both writable and executable"));
    }
    let mut rights = Rights::empty();
    for (flag, right) in [(PF_R, Rights::READ), (PF_W, Rights::WRITE), (PF_X, Rights::EXECUTE)] {
        rights.set(right, flags & flag != 0);
    }
    Ok(rights | Rights::READ)
}
