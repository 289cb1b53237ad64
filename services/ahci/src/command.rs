//! Commands as the drive gets them (Serial ATA 3.0, 10.3.4; ACS-3, 7).

use crate::memory::PAGE_BYTES;
use bulkhead_driver::DmaMemory;

const IDENTIFY_DEVICE: u8 = 0xec;
const READ_DMA: u8 = 0xc8;
const READ_DMA_EXT: u8 = 0x25;
const READ_QUEUED: u8 = 0x60;
const WRITE_DMA: u8 = 0xca;
const WRITE_DMA_EXT: u8 = 0x35;
const WRITE_QUEUED: u8 = 0x61;
const FLUSH_CACHE: u8 = 0xe7;
const FLUSH_CACHE_EXT: u8 = 0xea;
const DATA_SET_MANAGEMENT: u8 = 0x06;

/// Device register: addresses are logical blocks.
const LBA: u8 = 1 << 6;
/// Bytes of a range to be trimmed (ACS-3, 7.5.3).
const RANGE_BYTES: usize = 8;
/// Most blocks of a range: 16 bits.
const RANGE_BLOCKS: u32 = 0xffff;
/// Most blocks that one command trims: a sector of ranges.
pub const TRIM_BLOCKS: u32 = RANGE_BLOCKS * (PAGE_BYTES / RANGE_BYTES) as u32;

/// How a transfer addresses the drive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Addressing {
    /// 28 bits.
    Short,
    /// 48 bits.
    Long,
    /// 48 bits, with native command queuing.
    Queued,
}

/// A command for the drive: a register frame, host to device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame {
    command: u8,
    features: u16,
    block: u64,
    count: u16,
    device: u8,
    /// Data go to the drive.
    pub write: bool,
}

impl Frame {
    pub fn identify() -> Self {
        Self { command: IDENTIFY_DEVICE, features: 0, block: 0, count: 0, device: 0, write: false }
    }

    pub fn flush(ext: bool) -> Self {
        let command = if ext { FLUSH_CACHE_EXT } else { FLUSH_CACHE };
        Self { command, features: 0, block: 0, count: 0, device: LBA, write: false }
    }

    /// Trims the ranges in one sector of data.
    pub fn trim() -> Self {
        Self { command: DATA_SET_MANAGEMENT, features: 1, block: 0, count: 1, device: LBA, write: true }
    }

    /// Reads or writes `count` blocks; 65536, or 256 by a short address, are written as 0.
    pub fn transfer(addressing: Addressing, write: bool, block: u64, count: u32, slot: u16) -> Self {
        let command = match (addressing, write) {
            (Addressing::Short, false) => READ_DMA,
            (Addressing::Short, true) => WRITE_DMA,
            (Addressing::Long, false) => READ_DMA_EXT,
            (Addressing::Long, true) => WRITE_DMA_EXT,
            (Addressing::Queued, false) => READ_QUEUED,
            (Addressing::Queued, true) => WRITE_QUEUED,
        };
        match addressing {
            Addressing::Short => {
                let device = LBA | (block >> 24 & 0xf) as u8;
                Self { command, features: 0, block: block & 0xff_ffff, count: count as u16 & 0xff, device, write }
            }
            Addressing::Long => Self { command, features: 0, block, count: count as u16, device: LBA, write },
            // The count is where features are, and the slot's number where the count is (ACS-3, 7.22).
            Addressing::Queued => Self { command, features: count as u16, block, count: slot << 3, device: LBA, write },
        }
    }

    /// The frame's 20 bytes, and 4 of 0: type 0x27, a command.
    pub fn words(&self) -> [u64; 3] {
        let [features_low, features_high] = self.features.to_le_bytes().map(u64::from);
        let first = 0x8027 | u64::from(self.command) << 16 | features_low << 24;
        let low = self.block & 0xff_ffff | u64::from(self.device) << 24;
        let high = self.block >> 24 & 0xff_ffff | features_high << 24;
        [first | low << 32, high | u64::from(self.count) << 32, 0]
    }
}

/// Writes the ranges of at most [`TRIM_BLOCKS`] blocks into a sector; ranges of length 0 are passed over by the drive.
pub fn write_ranges(sector: &DmaMemory<'_>, block: u64, count: u32) {
    let (mut block, mut left) = (block, count);
    for index in 0..PAGE_BYTES / RANGE_BYTES {
        let length = left.min(RANGE_BLOCKS);
        let range = if length == 0 { 0 } else { block | u64::from(length) << 48 };
        sector.write_u64(RANGE_BYTES * index, range);
        (block, left) = (block + u64::from(length), left - length);
    }
}
