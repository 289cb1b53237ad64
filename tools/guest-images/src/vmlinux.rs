//! A kernel's ELF file, with only what a loader looks at: segments and notes.

use object::{
    LittleEndian,
    elf::{FileHeader64, PT_LOAD, PT_NOTE, ProgramHeader64},
    read::elf::{FileHeader as _, ProgramHeader as _},
};

/// Sizes of the two headers of 64-bit files.
const FILE_HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
/// Segments begin at multiples of it in the file.
const ALIGNMENT: usize = 16;

type Header = FileHeader64<LittleEndian>;
type Segment = ProgramHeader64<LittleEndian>;

/// The smaller file: no sections, no zeroes at the ends of segments (loaders fill them in).
pub(crate) fn extract(kernel: &[u8]) -> Result<Vec<u8>, String> {
    let (header, segments) = parse(kernel).map_err(|error| format!("its ELF file: {error}"))?;
    let kept: Vec<_> =
        segments.iter().filter(|segment| matches!(segment.p_type(LittleEndian), PT_LOAD | PT_NOTE)).collect();
    let mut contents = vec![0; FILE_HEADER + PROGRAM_HEADER * kept.len()];
    let mut headers = file_header(header, kept.len());
    for segment in kept {
        let bytes =
            segment.data(LittleEndian, kernel).map_err(|()| "a segment of its ELF file lies outside".to_owned())?;
        let bytes = match segment.p_type(LittleEndian) {
            PT_LOAD => without_trailing_zeroes(bytes),
            _ => bytes,
        };
        contents.resize(contents.len().next_multiple_of(ALIGNMENT), 0);
        headers.extend(program_header(segment, contents.len(), bytes.len()));
        contents.extend(bytes);
    }
    match contents.get_mut(..headers.len()) {
        Some(place) => place.copy_from_slice(&headers),
        None => return Err("its ELF file has no segments".to_owned()),
    }
    Ok(contents)
}

fn parse(kernel: &[u8]) -> Result<(&Header, &[Segment]), object::Error> {
    let header = Header::parse(kernel)?;
    let segments = header.program_headers(LittleEndian, kernel)?;
    Ok((header, segments))
}

fn without_trailing_zeroes(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|&byte| byte != 0);
    bytes.get(..end.map_or(0, |last| last + 1)).unwrap_or(bytes)
}

fn file_header(original: &Header, segments: usize) -> Vec<u8> {
    let mut bytes = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    for half in [original.e_type(LittleEndian), original.e_machine(LittleEndian), 1, 0] {
        bytes.extend(half.to_le_bytes());
    }
    for word in [original.e_entry(LittleEndian), FILE_HEADER as u64, 0] {
        bytes.extend(word.to_le_bytes());
    }
    // There are as many as the original's 16-bit count at most.
    let sizes = [FILE_HEADER, PROGRAM_HEADER, segments, 0, 0, 0];
    bytes.extend(0u32.to_le_bytes());
    bytes.extend(sizes.iter().flat_map(|&size| (size as u16).to_le_bytes()));
    bytes
}

fn program_header(original: &Segment, offset: usize, length: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(original.p_type(LittleEndian).to_le_bytes());
    bytes.extend(original.p_flags(LittleEndian).to_le_bytes());
    for word in [
        offset as u64,
        original.p_vaddr(LittleEndian),
        original.p_paddr(LittleEndian),
        length as u64,
        original.p_memsz(LittleEndian),
        4,
    ] {
        bytes.extend(word.to_le_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_stay_and_zeroes_go() {
        let mut program = crate::first_program::elf();
        let meant = program.len();
        program.extend([0; 5000]);
        let length = (program.len() as u64).to_le_bytes();
        program[64 + 32..64 + 40].copy_from_slice(&length);
        program[64 + 40..64 + 48].copy_from_slice(&length);
        let small = extract(&program).unwrap();
        assert!(small.len() < meant + 200);
        let (header, segments) = parse(&small).unwrap();
        assert_eq!(header.e_entry(LittleEndian), 0x40_0078);
        let [segment] = segments else { panic!("{} segments", segments.len()) };
        assert_eq!(segment.p_memsz(LittleEndian), program.len() as u64);
        let data = segment.data(LittleEndian, small.as_slice()).unwrap();
        assert_eq!(data, without_trailing_zeroes(&program));
        // Once more changes nothing.
        assert_eq!(extract(&small).unwrap(), small);
    }

    #[test]
    fn broken_files_are_errors() {
        let program = crate::first_program::elf();
        for length in 0..program.len() {
            assert!(extract(&program[..length]).is_err(), "{length}");
        }
    }
}
