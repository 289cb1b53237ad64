//! What IDENTIFY DEVICE says (ATA/ATAPI-7 volume 1, 6.17; ACS-3, 7.12.7).

use bulkhead_driver::{DriveInformation, IDENTIFY_BYTES, RangeLimits, SECTOR};

/// Words of the answer.
pub const IDENTIFY_WORDS: usize = IDENTIFY_BYTES / 2;
/// Sectors that 28-bit addresses reach.
const LBA28_SECTORS: u64 = 1 << 28;
/// Logical sectors that 48-bit addresses reach.
const LBA48_SECTORS: u64 = 1 << 48;
/// Largest logical sector that is served.
const MAX_LOGICAL: u64 = 4096;

/// Native command queuing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Queuing {
    /// Commands at a time, 1 to 32.
    pub depth: u8,
}

/// A drive as it describes itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// Logical sectors: words 100-103, or 60-61 without 48-bit addresses.
    pub logical_sectors: u64,
    /// Bytes of a logical sector, a power of two, 512 to 4096: words 106 and 117-118.
    pub logical_bytes: u32,
    /// Logical sectors in a physical one, as a power of two, at most 7: word 106.
    pub physical_exponent: u8,
    /// 48-bit addresses are there: word 83.
    pub lba48: bool,
    /// FLUSH CACHE is there: word 83.
    pub flush: bool,
    /// FLUSH CACHE EXT is there: word 83.
    pub flush_ext: bool,
    /// The write cache is on: word 85.
    pub write_cache: bool,
    /// DATA SET MANAGEMENT with TRIM is there: word 169.
    pub trim: bool,
    /// What was trimmed reads the same each time: word 69, bit 14.
    pub trim_deterministic: bool,
    /// Native command queuing: words 75 and 76.
    pub queuing: Option<Queuing>,
    /// Model, ASCII, padded with spaces: words 27-46.
    pub model: [u8; 40],
    /// Serial number, ASCII, padded with spaces: words 10-19.
    pub serial: [u8; 20],
    /// Firmware revision, ASCII, padded with spaces: words 23-26.
    pub firmware: [u8; 8],
    /// The answer, as it came.
    pub bytes: [u8; IDENTIFY_BYTES],
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
    /// Its logical sectors have a size that is not served.
    SectorSize,
    /// It has no sectors.
    Empty,
}

/// The words, asked by bit and range. What lies outside is 0.
struct Words<'a>(&'a [u16; IDENTIFY_WORDS]);

impl Words<'_> {
    fn word(&self, index: usize) -> u16 {
        self.0.get(index).copied().unwrap_or(0)
    }

    fn bit(&self, index: usize, bit: u32) -> bool {
        self.word(index) >> bit & 1 != 0
    }

    /// A number of several words, the lowest first.
    fn number(&self, first: usize, count: usize) -> u64 {
        self.0.iter().skip(first).take(count).rev().fold(0, |sum, word| sum << 16 | u64::from(*word))
    }

    /// Words 83, 84, 87 and 106 hold information if bit 14 is set and bit 15 clear.
    fn valid(&self, index: usize) -> bool {
        self.word(index) >> 14 == 1
    }

    /// Text; of each word, the upper byte comes first. What is no visible character becomes a space.
    fn text<const BYTES: usize>(&self, first: usize) -> [u8; BYTES] {
        let mut text = [b' '; BYTES];
        for (pair, word) in text.chunks_mut(2).zip(self.0.iter().skip(first)) {
            for (to, from) in pair.iter_mut().zip(word.to_be_bytes()) {
                *to = if from.is_ascii_graphic() { from } else { b' ' };
            }
        }
        text
    }

    fn logical_bytes(&self) -> Result<u32, Unusable> {
        if !self.valid(106) || !self.bit(106, 12) {
            return Ok(SECTOR as u32);
        }
        let bytes = self.number(117, 2) * 2;
        if bytes.is_power_of_two() && (SECTOR..=MAX_LOGICAL).contains(&bytes) {
            Ok(bytes as u32)
        } else {
            Err(Unusable::SectorSize)
        }
    }
}

impl Identity {
    /// Reads the answer.
    pub fn parse(words: &[u16; IDENTIFY_WORDS]) -> Result<Self, Unusable> {
        let mut bytes = [0; IDENTIFY_BYTES];
        for (pair, word) in bytes.chunks_mut(2).zip(words) {
            pair.copy_from_slice(&word.to_le_bytes());
        }
        let words = Words(words);
        if words.bit(0, 15) {
            return Err(Unusable::NotAta);
        }
        if !words.bit(49, 9) {
            return Err(Unusable::NoLba);
        }
        if !words.bit(49, 8) {
            return Err(Unusable::NoDma);
        }
        let logical_bytes = words.logical_bytes()?;
        let commands = words.valid(83);
        let lba48 = commands && words.bit(83, 10);
        let logical_sectors =
            if lba48 { words.number(100, 4).min(LBA48_SECTORS) } else { words.number(60, 2).min(LBA28_SECTORS) };
        if logical_sectors == 0 {
            return Err(Unusable::Empty);
        }
        let physical_exponent =
            if words.valid(106) && words.bit(106, 13) { (words.word(106) & 0xf).min(7) as u8 } else { 0 };
        // Words 75 and 76 belong to serial ATA; both are 0 or all ones elsewhere.
        let serial_ata = words.word(76) != 0 && words.word(76) != u16::MAX;
        let queuing =
            (serial_ata && lba48 && words.bit(76, 8)).then(|| Queuing { depth: (words.word(75) & 0x1f) as u8 + 1 });
        Ok(Self {
            logical_sectors,
            logical_bytes,
            physical_exponent,
            lba48,
            flush: commands && words.bit(83, 12),
            flush_ext: lba48 && words.bit(83, 13),
            write_cache: words.valid(87) && words.bit(85, 5),
            trim: lba48 && words.bit(169, 0),
            trim_deterministic: words.bit(69, 14),
            queuing,
            model: words.text(27),
            serial: words.text(10),
            firmware: words.text(23),
            bytes,
        })
    }

    /// Most logical sectors that one command can transfer.
    pub fn command_sectors(&self) -> u32 {
        if self.lba48 { 65536 } else { 256 }
    }

    /// What a drive with one queue for `depth` commands offers. Discards reach `trim` logical sectors; `None` if the driver has none.
    pub fn information(&self, depth: u16, trim: Option<u32>) -> DriveInformation {
        let scale = self.logical_bytes / SECTOR as u32;
        DriveInformation {
            // At most 2^48 times 8.
            sectors: self.logical_sectors * u64::from(scale),
            logical_block_size: self.logical_bytes,
            physical_exponent: self.physical_exponent,
            write_cache: self.write_cache,
            flush: self.flush || self.flush_ext,
            discard: trim.filter(|_| self.trim).map(|sectors| RangeLimits {
                sectors: sectors.saturating_mul(scale),
                granularity: scale << self.physical_exponent,
            }),
            // Nothing that every drive of the standard's has.
            write_zeroes: None,
            command_bytes: u64::from(self.command_sectors()) * u64::from(self.logical_bytes),
            depth,
            queues: 1,
            model: self.model,
            serial: self.serial,
            firmware: self.firmware,
            identify: self.bytes,
        }
    }
}
