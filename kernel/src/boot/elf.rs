//! Just enough of ELF to start init: static 64-bit programs, page-aligned segments (ELF-64 object file format, 2 and 6).

use bulkhead_abi::{PAGE_SIZE, Rights, USER_END};

const LOAD: u32 = 1;
const EXECUTABLE: u32 = 1;
const WRITABLE: u32 = 2;

/// A segment to load.
pub struct Segment<'a> {
    /// Virtual address, page-aligned.
    pub address: u64,
    /// Bytes in memory, in whole pages.
    pub length: u64,
    /// What the file holds of it; the rest is zero.
    pub contents: &'a [u8],
    /// How to map it.
    pub rights: Rights,
}

/// A program.
pub struct Program<'a> {
    image: &'a [u8],
    /// First instruction.
    pub entry: u64,
    headers: u64,
    count: u16,
}

fn bytes<const N: usize>(image: &[u8], offset: u64) -> Option<[u8; N]> {
    let start = usize::try_from(offset).ok()?;
    image.get(start..start.checked_add(N)?)?.try_into().ok()
}

fn word(image: &[u8], offset: u64) -> Option<u64> {
    bytes(image, offset).map(u64::from_le_bytes)
}

impl<'a> Program<'a> {
    /// Checks the header.
    pub fn parse(image: &'a [u8]) -> Option<Self> {
        let identification: [u8; 20] = bytes(image, 0)?;
        let is_static_x86_64 =
            identification.starts_with(b"\x7fELF\x02\x01\x01") && identification[16] == 2 && identification[18] == 62;
        if !is_static_x86_64 || u16::from_le_bytes(bytes(image, 54)?) != 56 {
            return None;
        }
        Some(Self {
            image,
            entry: word(image, 24)?,
            headers: word(image, 32)?,
            count: u16::from_le_bytes(bytes(image, 56)?),
        })
    }

    /// The segments to load; an item is nothing if it is malformed or asks for memory that is writable and executable.
    pub fn segments(&self) -> impl Iterator<Item = Option<Segment<'a>>> + '_ {
        (0..u64::from(self.count))
            .map(|index| self.headers.wrapping_add(index * 56))
            .filter(|at| bytes(self.image, *at).map(u32::from_le_bytes) == Some(LOAD))
            .map(|at| self.segment(at))
    }

    fn segment(&self, at: u64) -> Option<Segment<'a>> {
        let flags = u32::from_le_bytes(bytes(self.image, at + 4)?);
        let (offset, address) = (word(self.image, at + 8)?, word(self.image, at + 16)?);
        let (in_file, in_memory) = (word(self.image, at + 32)?, word(self.image, at + 40)?);
        let length = in_memory.checked_next_multiple_of(PAGE_SIZE)?;
        if !address.is_multiple_of(PAGE_SIZE) || in_file > in_memory || address.checked_add(length)? > USER_END {
            return None;
        }
        let start = usize::try_from(offset).ok()?;
        let contents = self.image.get(start..start.checked_add(usize::try_from(in_file).ok()?)?)?;
        let rights = match flags & (EXECUTABLE | WRITABLE) {
            0 => Rights::READ,
            EXECUTABLE => Rights::READ | Rights::EXECUTE,
            WRITABLE => Rights::READ | Rights::WRITE,
            _ => return None,
        };
        Some(Segment { address, length, contents, rights })
    }
}
