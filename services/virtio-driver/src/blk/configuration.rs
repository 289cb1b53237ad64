//! What a block device says of itself (virtio 1.2, 5.2.3, 5.2.4).

use crate::transport::{ACCESS_PLATFORM, INDIRECT, VERSION_1};
use crate::unusable::Unusable;
use bulkhead_driver::{DriveInformation, IDENTIFY_BYTES, MAX_DEPTH, RangeLimits, SECTOR};

/// Features (5.2.3).
const SIZE_MAX: u64 = 1 << 1;
const SEG_MAX: u64 = 1 << 2;
const READ_ONLY: u64 = 1 << 5;
const BLK_SIZE: u64 = 1 << 6;
const FLUSH: u64 = 1 << 9;
const TOPOLOGY: u64 = 1 << 10;
const DISCARD: u64 = 1 << 13;
const WRITE_ZEROES: u64 = 1 << 14;

/// Without these there is no drive: every command has an indirect table.
const NEEDED: u64 = VERSION_1 | INDIRECT;
const WANTED: u64 =
    NEEDED | ACCESS_PLATFORM | SIZE_MAX | SEG_MAX | READ_ONLY | BLK_SIZE | FLUSH | TOPOLOGY | DISCARD | WRITE_ZEROES;

/// Bytes of the configuration that are looked at.
const BYTES: usize = 64;
/// Widths of its fields: capacity, size_max, seg_max, geometry, blk_size, topology, writeback, unused, num_queues, limits of
/// discards (three) and of writing zeroes (two), write_zeroes_may_unmap, unused, the first limit of secure erase.
const FIELDS: [u8; 25] = [4, 4, 4, 4, 2, 1, 1, 4, 1, 1, 2, 4, 1, 1, 2, 4, 4, 4, 4, 4, 1, 1, 1, 1, 4];
/// Offsets of fields.
const CAPACITY: usize = 0;
const SIZE_MAX_AT: usize = 8;
const SEG_MAX_AT: usize = 12;
const BLK_SIZE_AT: usize = 20;
const PHYSICAL_EXPONENT: usize = 24;
const MAX_DISCARD_SECTORS: usize = 36;
const MAX_DISCARD_SEGMENTS: usize = 40;
const DISCARD_ALIGNMENT: usize = 44;
const MAX_ZEROES_SECTORS: usize = 48;
const MAX_ZEROES_SEGMENTS: usize = 52;
const ZEROES_MAY_UNMAP: usize = 56;

/// Most bytes of a read or write command.
const COMMAND_BYTES: u64 = 1 << 20;

/// Chooses among the features that are offered.
pub fn choose(offered: u64) -> Result<u64, Unusable> {
    if offered & NEEDED != NEEDED { Err(Unusable::Features) } else { Ok(offered & WANTED) }
}

/// The configuration as it was read, with the features that tell which of its fields mean anything.
#[derive(Clone, Copy)]
pub struct Configuration {
    bytes: [u8; BYTES],
    features: u64,
}

impl Configuration {
    /// A configuration that was read in another way, where these features were chosen.
    pub fn new(features: u64, bytes: [u8; BYTES]) -> Self {
        Self { bytes, features }
    }

    /// Reads it by `read`, which gets the widths of the fields.
    pub fn read(features: u64, read: impl FnOnce(&[u8], &mut [u8]) -> Result<(), Unusable>) -> Result<Self, Unusable> {
        let mut bytes = [0; BYTES];
        read(&FIELDS, &mut bytes)?;
        Ok(Self { bytes, features })
    }

    fn u32(&self, offset: usize) -> u32 {
        self.bytes.get(offset..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u32::from_le_bytes(*bytes))
    }

    fn u8(&self, offset: usize) -> u8 {
        self.bytes.get(offset).copied().unwrap_or(0)
    }

    fn has(&self, feature: u64) -> bool {
        self.features & feature != 0
    }

    /// Most bytes of a segment.
    pub fn segment_bytes(&self) -> u32 {
        if self.has(SIZE_MAX) { self.u32(SIZE_MAX_AT) } else { u32::MAX }
    }

    /// Most segments of a command; a device that does not say takes one.
    pub fn segments(&self) -> u32 {
        if self.has(SEG_MAX) { self.u32(SEG_MAX_AT) } else { 1 }
    }

    /// Whether zeroes may be written by deallocating.
    pub fn zeroes_unmap(&self) -> bool {
        self.u8(ZEROES_MAY_UNMAP) != 0
    }

    /// What the drive offers, with commands of at most so many segments, and so many of them. `serial` is as the device told it.
    pub fn information(&self, segments: u32, depth: u16, serial: &[u8]) -> Result<DriveInformation, Unusable> {
        if self.has(READ_ONLY) {
            return Err(Unusable::ReadOnly);
        }
        let block = if self.has(BLK_SIZE) { self.u32(BLK_SIZE_AT) } else { SECTOR as u32 };
        if !block.is_power_of_two() || !(512..=4096).contains(&block) {
            return Err(Unusable::Configuration);
        }
        // The capacity is in sectors, whatever the block (5.2.4).
        let scale = block / SECTOR as u32;
        let capacity = u64::from(self.u32(CAPACITY)) | u64::from(self.u32(CAPACITY + 4)) << 32;
        let sectors = capacity / u64::from(scale) * u64::from(scale);
        let block_bytes = u64::from(block);
        let most = COMMAND_BYTES.min(u64::from(segments) * u64::from(self.segment_bytes()));
        let command_bytes = most / block_bytes * block_bytes;
        if sectors == 0 || sectors.checked_mul(SECTOR).is_none() || command_bytes == 0 {
            return Err(Unusable::Configuration);
        }
        let range = |feature, sectors, most_segments, granularity: u32| {
            let sectors = self.u32(sectors) / scale * scale;
            let offered = self.has(feature) && self.u32(most_segments) != 0 && sectors != 0;
            offered.then_some(RangeLimits { sectors, granularity: granularity.max(1) })
        };
        let mut identify = [0; IDENTIFY_BYTES];
        for (to, from) in identify.iter_mut().zip(self.bytes) {
            *to = from;
        }
        Ok(DriveInformation {
            sectors,
            logical_block_size: block,
            physical_exponent: if self.has(TOPOLOGY) { self.u8(PHYSICAL_EXPONENT).min(7) } else { 0 },
            // Without a say on the cache it is there if it can be flushed (5.2.5.2).
            write_cache: self.has(FLUSH),
            flush: self.has(FLUSH),
            discard: range(DISCARD, MAX_DISCARD_SECTORS, MAX_DISCARD_SEGMENTS, self.u32(DISCARD_ALIGNMENT)),
            write_zeroes: range(WRITE_ZEROES, MAX_ZEROES_SECTORS, MAX_ZEROES_SEGMENTS, scale),
            command_bytes,
            depth: depth.min(MAX_DEPTH),
            queues: 1,
            model: text(b"Virtio block device"),
            serial: text(serial),
            firmware: text(b""),
            identify,
        })
    }
}

/// Text; what is no visible character becomes a space.
fn text<const BYTES: usize>(bytes: &[u8]) -> [u8; BYTES] {
    let mut text = [b' '; BYTES];
    for (to, from) in text.iter_mut().zip(bytes) {
        if from.is_ascii_graphic() {
            *to = *from;
        }
    }
    text
}
