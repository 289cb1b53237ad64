//! How the driver's memory is divided, and what the controller reads in it (AHCI, 4.2).

use crate::command::Frame;
use bulkhead_driver::{DmaMemory, PhysicalSegment};

/// Slots of a command list.
pub const SLOTS: usize = 32;
/// Bytes of a command header (4.2.2).
const HEADER_BYTES: usize = 32;
const LIST_BYTES: usize = SLOTS * HEADER_BYTES;
const RECEIVED_BYTES: usize = 256;
/// A sector of the drive's answer, or of ranges.
pub const PAGE_BYTES: usize = 512;
/// Where the descriptors begin in a command table (4.2.3).
const DESCRIPTORS_AT: usize = 0x80;
const DESCRIPTOR_BYTES: usize = 16;
/// Descriptors of a command: so many that 32 tables of 2 KiB are enough for 256 KiB in pages, almost twice.
const DESCRIPTORS: usize = 120;
const TABLE_BYTES: usize = DESCRIPTORS_AT + DESCRIPTORS * DESCRIPTOR_BYTES;
/// Most bytes of a descriptor: 22 bits, counted from 0 (4.2.3.3).
const MAX_BYTES: u64 = 1 << 22;
/// Physical addresses are below it (SDM vol. 3, 4.1.4: at most 52 bits).
const REACH: u64 = 1 << 52;
/// The same without 64-bit addresses.
const SHORT_REACH: u64 = 1 << 32;

/// Bytes of [`DmaMemory`] that the driver needs at most, if they begin at a multiple of 1024.
pub const MEMORY_BYTES: usize = LIST_BYTES + RECEIVED_BYTES + 2 * PAGE_BYTES + SLOTS * TABLE_BYTES;

/// The parts of the driver's memory.
pub struct Memory<'a> {
    list: DmaMemory<'a>,
    pub received: DmaMemory<'a>,
    /// For the answer to IDENTIFY DEVICE.
    pub identify: DmaMemory<'a>,
    /// For ranges to be trimmed.
    pub ranges: DmaMemory<'a>,
    tables: DmaMemory<'a>,
    reach: u64,
}

impl<'a> Memory<'a> {
    /// Cuts the parts off; `None` if there is too little, or it is out of the controller's reach.
    pub fn new(memory: &mut DmaMemory<'a>, all: bool) -> Option<Self> {
        let parts = Self {
            list: memory.take(LIST_BYTES, 1024)?,
            received: memory.take(RECEIVED_BYTES, 256)?,
            identify: memory.take(PAGE_BYTES, 8)?,
            ranges: memory.take(PAGE_BYTES, 8)?,
            tables: memory.take(SLOTS * TABLE_BYTES, 128)?,
            reach: if all { REACH } else { SHORT_REACH },
        };
        parts.list.clear();
        // What was cut off last ends highest.
        is_reachable(parts.tables.segment(), parts.reach).then_some(parts)
    }

    /// Where the command list is.
    pub fn list(&self) -> u64 {
        self.list.physical()
    }

    /// Describes the segments for the command in a slot. Returns the bytes and the descriptors; `None` if they cannot be described.
    pub fn describe(&self, slot: u16, segments: impl IntoIterator<Item = PhysicalSegment>) -> Option<(u64, u16)> {
        let table = self.table(slot)?;
        let (bytes, count, all) = descriptors(segments, u64::MAX, self.reach, |index, piece| {
            let at = DESCRIPTORS_AT + DESCRIPTOR_BYTES * index;
            table.write_u64(at, piece.address);
            table.write_u64(at + 8, piece.length.saturating_sub(1) << 32);
        });
        all.then_some((bytes, count as u16))
    }

    /// How many bytes from the beginning of the segments, at most `limit`, one command can describe.
    pub fn fitting(&self, segments: impl IntoIterator<Item = PhysicalSegment>, limit: u64) -> u64 {
        descriptors(segments, limit, self.reach, |_, _| {}).0
    }

    /// Puts a command into its slot, whose descriptors are there.
    pub fn prepare(&self, slot: u16, frame: &Frame, descriptors: u16) {
        let Some(table) = self.table(slot) else { return };
        for (index, word) in frame.words().into_iter().enumerate() {
            table.write_u64(8 * index, word);
        }
        let at = usize::from(slot) * HEADER_BYTES;
        // Length of the frame in words, direction, descriptors; no byte is transferred yet.
        let write = if frame.write { 1 << 6 } else { 0 };
        self.list.write_u64(at, 5 | write | u64::from(descriptors) << 16);
        self.list.write_u64(at + 8, table.physical());
    }

    /// Bytes that the controller says it has transferred for a command without native queuing (5.4.1).
    pub fn transferred(&self, slot: u16) -> u64 {
        self.list.read_u32(usize::from(slot) * HEADER_BYTES + 4).into()
    }

    fn table(&self, slot: u16) -> Option<DmaMemory<'a>> {
        self.tables.part(usize::from(slot) * TABLE_BYTES, TABLE_BYTES)
    }
}

/// Whether the controller reaches a segment: even address and length, below `reach`.
fn is_reachable(segment: PhysicalSegment, reach: u64) -> bool {
    segment.address.is_multiple_of(2)
        && segment.length.is_multiple_of(2)
        && segment.address.checked_add(segment.length).is_some_and(|end| end <= reach)
}

/// Goes through segments as far as they can be described, and calls `piece` for each descriptor. Returns the bytes, the descriptors,
/// and whether that was all.
fn descriptors(
    segments: impl IntoIterator<Item = PhysicalSegment>,
    limit: u64,
    reach: u64,
    mut piece: impl FnMut(usize, PhysicalSegment),
) -> (u64, usize, bool) {
    let (mut bytes, mut count) = (0, 0);
    for segment in segments {
        let mut rest = PhysicalSegment { length: segment.length.min(limit - bytes), ..segment };
        if !is_reachable(rest, reach) {
            return (bytes, count, false);
        }
        while rest.length != 0 {
            if count == DESCRIPTORS {
                return (bytes, count, false);
            }
            let length = rest.length.min(MAX_BYTES);
            piece(count, PhysicalSegment { length, ..rest });
            rest = PhysicalSegment { address: rest.address + length, length: rest.length - length };
            bytes += length;
            count += 1;
        }
    }
    (bytes, count, true)
}
