//! Physical region descriptors: where the controller's DMA finds memory.
//!
//! A region has an even address below 4 GiB and an even length, and does not cross a multiple of 64 KiB. A table is aligned
//! to 4 bytes and does not cross such a multiple either.

use bulkhead_driver::{PhysicalSegment, SECTOR};
use core::sync::atomic::{AtomicU64, Ordering::Release};

const BOUNDARY: u64 = 0x1_0000;
const REACH: u64 = 1 << 32;
const END_OF_TABLE: u64 = 1 << 63;
/// Most descriptors that fit before a multiple of 64 KiB.
const MAX_ENTRIES: usize = (BOUNDARY / 8) as usize;

/// Whether the controller can reach a segment: even address and length, below 4 GiB.
fn is_reachable(segment: PhysicalSegment) -> bool {
    segment.address.is_multiple_of(2)
        && segment.length.is_multiple_of(2)
        && segment.address.checked_add(segment.length).is_some_and(|end| end <= REACH)
}

/// Cuts off what lies before the next multiple of 64 KiB.
fn split(segment: PhysicalSegment) -> (PhysicalSegment, PhysicalSegment) {
    let length = segment.length.min(BOUNDARY - segment.address % BOUNDARY);
    let rest = PhysicalSegment { address: segment.address.wrapping_add(length), length: segment.length - length };
    (PhysicalSegment { length, ..segment }, rest)
}

/// Why a table cannot be used, or segments not be put into it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PrdError {
    /// The table's memory is misaligned, too high, crosses a multiple of 64 KiB, or is empty.
    Table,
    /// A segment is not reachable by the controller.
    Segment(PhysicalSegment),
    /// The segments need more descriptors than the table has.
    Full,
    /// There is no segment.
    Empty,
}

/// A table of descriptors in memory that the controller can read.
pub struct PrdTable<'a> {
    entries: &'a [AtomicU64],
    physical: u32,
}

impl<'a> PrdTable<'a> {
    /// A table in the memory `entries`, which lies at host-physical address `physical`.
    pub fn new(entries: &'a [AtomicU64], physical: u64) -> Result<Self, PrdError> {
        let bytes = 8 * entries.len() as u64;
        let whole = !entries.is_empty() && entries.len() <= MAX_ENTRIES && physical.is_multiple_of(8);
        if !whole || physical % BOUNDARY + bytes > BOUNDARY {
            return Err(PrdError::Table);
        }
        let physical = u32::try_from(physical).map_err(|_| PrdError::Table)?;
        Ok(Self { entries, physical })
    }

    /// Host-physical address of the table.
    pub fn physical(&self) -> u32 {
        self.physical
    }

    /// Describes the segments; returns their bytes.
    pub fn fill(&self, segments: impl IntoIterator<Item = PhysicalSegment>) -> Result<u64, PrdError> {
        let mut entries = self.entries.iter();
        let mut last: Option<(&AtomicU64, u64)> = None;
        let mut bytes = 0;
        for mut rest in segments {
            if !is_reachable(rest) {
                return Err(PrdError::Segment(rest));
            }
            bytes += rest.length;
            while rest.length != 0 {
                let region;
                (region, rest) = split(rest);
                let entry = entries.next().ok_or(PrdError::Full)?;
                // A length of 64 KiB is written as 0.
                let value = region.address | (region.length % BOUNDARY) << 32;
                entry.store(value, Release);
                last = Some((entry, value));
            }
        }
        let (entry, value) = last.ok_or(PrdError::Empty)?;
        entry.store(value | END_OF_TABLE, Release);
        Ok(bytes)
    }

    /// How many bytes from the beginning of `segments`, a multiple of 512 and at most `limit`, the controller can transfer
    /// with one table. 0: the first sector has a segment that it cannot reach; use a bounce buffer.
    pub fn fitting(&self, segments: impl IntoIterator<Item = PhysicalSegment>, limit: u64) -> u64 {
        let (mut bytes, mut entries) = (0, self.entries.len());
        'segments: for mut rest in segments {
            rest.length = rest.length.min(limit - bytes);
            if !is_reachable(rest) {
                break;
            }
            while rest.length != 0 {
                if entries == 0 {
                    break 'segments;
                }
                let region;
                (region, rest) = split(rest);
                bytes += region.length;
                entries -= 1;
            }
        }
        bytes - bytes % SECTOR
    }
}
