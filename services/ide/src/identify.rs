//! What IDENTIFY DEVICE says (ATA/ATAPI-7 volume 1, 6.17).

/// Words of the answer.
pub const IDENTIFY_WORDS: usize = 256;

/// A drive as it describes itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DriveInformation {
    /// Sectors of 512 bytes.
    pub sectors: u64,
    /// 48-bit addresses are there.
    pub lba48: bool,
    /// FLUSH CACHE is there.
    pub flush: bool,
    /// FLUSH CACHE EXT is there.
    pub flush_ext: bool,
    /// Sectors in a physical sector, as a power of two; at most 7.
    pub physical_exponent: u8,
    /// Model, in ASCII, padded with spaces.
    pub model: [u8; 40],
}

/// Why a drive cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unusable {
    /// It is no ATA drive.
    NotAta,
    /// It has no logical block addresses.
    NoLba,
    /// It has no DMA.
    NoDma,
    /// Its sectors are not of 512 bytes.
    SectorSize,
    /// It has no sectors.
    Empty,
}

/// Sectors that 28-bit addresses reach.
const LBA28_SECTORS: u64 = 1 << 28;

impl DriveInformation {
    /// Reads the answer.
    pub fn parse(words: &[u16; IDENTIFY_WORDS]) -> Result<Self, Unusable> {
        let bit = |word: usize, bit: u32| words[word] >> bit & 1 != 0;
        let number = |first: usize, count: usize| {
            words.iter().skip(first).take(count).rev().fold(0, |sum, word| sum << 16 | u64::from(*word))
        };
        // Words 83, 84 and 106 hold information if bit 14 is set and bit 15 clear.
        let valid = |word: usize| words[word] >> 14 == 1;
        if bit(0, 15) {
            return Err(Unusable::NotAta);
        }
        if !bit(49, 9) {
            return Err(Unusable::NoLba);
        }
        if !bit(49, 8) {
            return Err(Unusable::NoDma);
        }
        if valid(106) && bit(106, 12) && number(117, 2) != 256 {
            return Err(Unusable::SectorSize);
        }
        let lba48 = valid(83) && bit(83, 10);
        let sectors = if lba48 { number(100, 4).min(1 << 48) } else { number(60, 2).min(LBA28_SECTORS) };
        if sectors == 0 {
            return Err(Unusable::Empty);
        }
        let physical_exponent = if valid(106) && bit(106, 13) { (words[106] & 0xf).min(7) as u8 } else { 0 };
        let mut model = [b' '; 40];
        for (pair, word) in model.chunks_mut(2).zip(words.iter().skip(27)) {
            for (to, from) in pair.iter_mut().zip(word.to_be_bytes()) {
                *to = if from.is_ascii_graphic() { from } else { b' ' };
            }
        }
        let (flush, flush_ext) = (valid(83) && bit(83, 12), lba48 && valid(83) && bit(83, 13));
        Ok(Self { sectors, lba48, flush, flush_ext, physical_exponent, model })
    }

    /// Most sectors that one command can transfer.
    pub fn command_sectors(&self) -> u32 {
        if self.lba48 { 65536 } else { 256 }
    }

    /// The model as text, without the padding.
    pub fn model(&self) -> &str {
        core::str::from_utf8(&self.model).unwrap_or_default().trim()
    }
}
