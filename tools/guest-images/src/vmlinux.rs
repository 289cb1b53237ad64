//! A kernel's ELF file, with only what a loader looks at: segments and notes.

use object::{
    LittleEndian,
    elf::{ELFCLASS32, FileHeader32, FileHeader64, PT_LOAD, PT_NOTE},
    read::elf::{FileHeader, ProgramHeader as _},
};

use crate::elf::{Class, Segment};

/// Segments begin at multiples of it in the file.
const ALIGNMENT: usize = 16;
/// Where the class stands that tells files of 32 bits from those of 64.
const CLASS: usize = 4;

/// The smaller file: no sections, no zeroes at the ends of segments (loaders fill them in).
pub(crate) fn extract(kernel: &[u8]) -> Result<Vec<u8>, String> {
    if kernel.get(CLASS) == Some(&ELFCLASS32) {
        extract_as::<FileHeader32<LittleEndian>>(kernel, Class::Elf32)
    } else {
        extract_as::<FileHeader64<LittleEndian>>(kernel, Class::Elf64)
    }
}

fn extract_as<H: FileHeader<Endian = LittleEndian>>(kernel: &[u8], class: Class) -> Result<Vec<u8>, String> {
    let (header, segments) = parse::<H>(kernel).map_err(|error| format!("its ELF file: {error}"))?;
    let kept: Vec<_> =
        segments.iter().filter(|segment| matches!(segment.p_type(LittleEndian), PT_LOAD | PT_NOTE)).collect();
    let mut contents = vec![0; class.headers_size(kept.len())];
    let mut headers = Vec::new();
    for segment in kept {
        let bytes =
            segment.data(LittleEndian, kernel).map_err(|()| "a segment of its ELF file lies outside".to_owned())?;
        let bytes = match segment.p_type(LittleEndian) {
            PT_LOAD => without_trailing_zeroes(bytes),
            _ => bytes,
        };
        contents.resize(contents.len().next_multiple_of(ALIGNMENT), 0);
        headers.push(Segment {
            kind: segment.p_type(LittleEndian),
            flags: segment.p_flags(LittleEndian),
            offset: contents.len() as u64,
            virtual_address: segment.p_vaddr(LittleEndian).into(),
            physical_address: segment.p_paddr(LittleEndian).into(),
            file_size: bytes.len() as u64,
            memory_size: segment.p_memsz(LittleEndian).into(),
            // That of notes' fields; loaders look at no other.
            alignment: 4,
        });
        contents.extend(bytes);
    }
    let headers = class.headers(header.e_entry(LittleEndian).into(), &headers);
    match contents.get_mut(..headers.len()) {
        Some(place) => place.copy_from_slice(&headers),
        None => return Err("its ELF file has no segments".to_owned()),
    }
    Ok(contents)
}

fn parse<H: FileHeader<Endian = LittleEndian>>(kernel: &[u8]) -> Result<(&H, &[H::ProgramHeader]), object::Error> {
    let header = H::parse(kernel)?;
    let segments = header.program_headers(LittleEndian, kernel)?;
    Ok((header, segments))
}

fn without_trailing_zeroes(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|&byte| byte != 0);
    bytes.get(..end.map_or(0, |last| last + 1)).unwrap_or(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architecture::Architecture;

    /// A file with one segment, 5000 zeroes after `program` included, becomes small.
    fn loses_zeroes<H: FileHeader<Endian = LittleEndian>>(class: Class, mut program: Vec<u8>) {
        let meant = program.len();
        program.extend([0; 5000]);
        let length = program.len() as u64;
        let segment = Segment {
            kind: PT_LOAD,
            flags: 5,
            offset: 0,
            virtual_address: 0x40_0000,
            physical_address: 0x40_0000,
            file_size: length,
            memory_size: length,
            alignment: 4,
        };
        let headers = class.headers(0x40_0078, &[segment]);
        program[..headers.len()].copy_from_slice(&headers);
        let small = extract(&program).unwrap();
        assert!(small.len() < meant + 200);
        let (header, segments) = parse::<H>(&small).unwrap();
        assert_eq!(header.e_entry(LittleEndian).into(), 0x40_0078);
        let [segment] = segments else { panic!("{} segments", segments.len()) };
        assert_eq!(segment.p_memsz(LittleEndian).into(), length);
        let data = segment.data(LittleEndian, small.as_slice()).unwrap();
        assert_eq!(data, without_trailing_zeroes(&program));
        // Once more changes nothing.
        assert_eq!(extract(&small).unwrap(), small);
    }

    #[test]
    fn segments_stay_and_zeroes_go() {
        loses_zeroes::<FileHeader64<LittleEndian>>(Class::Elf64, crate::first_program::elf(Architecture::Amd64));
        loses_zeroes::<FileHeader32<LittleEndian>>(Class::Elf32, crate::first_program::elf(Architecture::I386));
    }

    #[test]
    fn broken_files_are_errors() {
        for architecture in [Architecture::Amd64, Architecture::I386] {
            let program = crate::first_program::elf(architecture);
            for length in 0..program.len() {
                assert!(extract(&program[..length]).is_err(), "{length}");
            }
        }
    }
}
