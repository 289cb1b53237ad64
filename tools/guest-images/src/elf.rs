//! Headers of ELF files (System V Application Binary Interface, chapter 4), for processors of 32 and of 64 bits.

/// What the two kinds of files differ in: the size of addresses, and the order of a program header's fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// 32 bits: i386.
    Elf32,
    /// 64 bits: x86-64.
    Elf64,
}

/// A program header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment {
    pub kind: u32,
    pub flags: u32,
    pub offset: u64,
    pub virtual_address: u64,
    pub physical_address: u64,
    pub file_size: u64,
    pub memory_size: u64,
    pub alignment: u64,
}

impl Class {
    /// Sizes of the file's header and of a program header.
    const fn sizes(self) -> (usize, usize) {
        match self {
            Self::Elf32 => (52, 32),
            Self::Elf64 => (64, 56),
        }
    }

    /// Size of all headers of a file with so many segments.
    pub const fn headers_size(self, segments: usize) -> usize {
        let (file, program) = self.sizes();
        file + segments * program
    }

    /// The headers of an executable, little-endian, with the program headers next to the file's own and no sections.
    pub fn headers(self, entry: u64, segments: &[Segment]) -> Vec<u8> {
        // EM_386, EM_X86_64.
        let (class, machine) = match self {
            Self::Elf32 => (1, 3),
            Self::Elf64 => (2, 62),
        };
        let (file_size, program_size) = self.sizes();
        let mut writer = Writer { class: self, bytes: vec![0x7f, b'E', b'L', b'F', class, 1, 1] };
        writer.bytes.resize(16, 0);
        // ET_EXEC, version 1.
        writer.halves(&[2, machine, 1, 0]);
        writer.addresses(&[entry, file_size as u64, 0]);
        // No flags. There are fewer segments than 16 bits count: each has its header in a file.
        writer.halves(&[0, 0, file_size as u16, program_size as u16, segments.len() as u16, 0, 0, 0]);
        for segment in segments {
            let Segment { kind, flags, offset, virtual_address, physical_address, .. } = *segment;
            writer.word(kind);
            if self == Self::Elf64 {
                writer.word(flags);
            }
            writer.addresses(&[offset, virtual_address, physical_address, segment.file_size, segment.memory_size]);
            if self == Self::Elf32 {
                writer.word(flags);
            }
            writer.addresses(&[segment.alignment]);
        }
        writer.bytes
    }
}

struct Writer {
    class: Class,
    bytes: Vec<u8>,
}

impl Writer {
    fn halves(&mut self, values: &[u16]) {
        self.bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }

    fn word(&mut self, value: u32) {
        self.bytes.extend(value.to_le_bytes());
    }

    /// Values as large as addresses: those of a 32-bit file come from one, or are ours and small.
    fn addresses(&mut self, values: &[u64]) {
        for &value in values {
            match self.class {
                Class::Elf32 => self.word(value as u32),
                Class::Elf64 => self.bytes.extend(value.to_le_bytes()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object::{
        LittleEndian,
        elf::{EM_386, EM_X86_64, ET_EXEC, FileHeader32, FileHeader64},
        read::elf::{FileHeader, ProgramHeader as _},
    };

    fn is_read_back<H: FileHeader<Endian = LittleEndian>>(class: Class, machine: u16) {
        let segment = |number: u64| Segment {
            kind: 1,
            flags: 5,
            offset: 1000 + number,
            virtual_address: 2000 + number,
            physical_address: 3000 + number,
            file_size: 4000 + number,
            memory_size: 5000 + number,
            alignment: 16,
        };
        let bytes = class.headers(0x1234, &[segment(0), segment(1)]);
        assert_eq!(bytes.len(), class.headers_size(2));
        let header = H::parse(bytes.as_slice()).unwrap();
        assert_eq!((header.e_type(LittleEndian), header.e_machine(LittleEndian)), (ET_EXEC, machine));
        assert_eq!(header.e_entry(LittleEndian).into(), 0x1234);
        let [_, second] = header.program_headers(LittleEndian, bytes.as_slice()).unwrap() else {
            panic!("not two segments");
        };
        let (flags, alignment) = (second.p_flags(LittleEndian), second.p_align(LittleEndian).into());
        assert_eq!((second.p_type(LittleEndian), flags, alignment), (1, 5, 16));
        assert_eq!((second.p_offset(LittleEndian).into(), second.p_vaddr(LittleEndian).into()), (1001, 2001));
        assert_eq!(second.p_paddr(LittleEndian).into(), 3001);
        assert_eq!((second.p_filesz(LittleEndian).into(), second.p_memsz(LittleEndian).into()), (4001, 5001));
    }

    #[test]
    fn headers_are_read_back() {
        is_read_back::<FileHeader32<LittleEndian>>(Class::Elf32, EM_386);
        is_read_back::<FileHeader64<LittleEndian>>(Class::Elf64, EM_X86_64);
    }
}
