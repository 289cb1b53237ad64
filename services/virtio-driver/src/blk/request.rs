//! Requests as the device reads them (virtio 1.2, 5.2.6): header, data, status, in an indirect table (2.7.5.3).

use super::memory::{HEADER_BYTES, IDENTIFIER_BYTES, RANGE_BYTES, Slot};
use crate::virtqueue::{DESCRIPTOR_BYTES, Descriptor, NEXT, WRITE};
use bulkhead_driver::{Command, PhysicalSegment};

/// Kinds of requests.
const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;
const DISCARD: u32 = 11;
const WRITE_ZEROES: u32 = 13;
/// Flag of a range: it may be deallocated.
const UNMAP: u32 = 1;
/// Status: the request succeeded.
pub const OK: u8 = 0;

/// Descriptors of a request beside its data: header and status.
pub const OTHERS: u16 = 2;
/// Bytes of a status.
const STATUS_BYTES: u32 = 1;
/// Physical addresses are below it (SDM vol. 3, 4.1.4: at most 52 bits).
const REACH: u64 = 1 << 52;

/// How much a request can describe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// Descriptors of data.
    pub descriptors: u16,
    /// Bytes of one.
    pub bytes: u32,
}

/// A request that was written, as the queue needs it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Written {
    /// Bytes of the table.
    pub length: u32,
    /// Most bytes that the device may write.
    pub writable: u32,
    /// Bytes of data.
    pub data: u64,
}

/// Goes through segments as far as they can be described: calls `piece` with each piece. Returns the bytes, and whether that was all.
fn pieces(
    segments: impl IntoIterator<Item = PhysicalSegment>,
    limit: u64,
    bounds: Bounds,
    mut piece: impl FnMut(u64, u32),
) -> (u64, bool) {
    let (mut bytes, mut count) = (0, 0);
    for segment in segments {
        let length = segment.length.min(limit - bytes);
        if segment.address.checked_add(length).is_none_or(|end| end > REACH) {
            return (bytes, false);
        }
        let (mut address, end) = (segment.address, segment.address + length);
        while address < end {
            if count == bounds.descriptors {
                return (bytes, false);
            }
            let part = (end - address).min(bounds.bytes.into()) as u32;
            piece(address, part);
            count += 1;
            address += u64::from(part);
            bytes += u64::from(part);
        }
    }
    (bytes, true)
}

/// How many bytes from the beginning of the segments, at most `limit`, one request can describe. The bounds are not 0.
pub fn fitting(segments: impl IntoIterator<Item = PhysicalSegment>, limit: u64, bounds: Bounds) -> u64 {
    pieces(segments, limit, bounds, |_, _| {}).0
}

/// A table of descriptors that is being written, each chained to the next.
struct Table<'a, 'm> {
    slot: &'a Slot<'m>,
    count: u16,
    writable: u32,
}

impl Table<'_, '_> {
    fn add(&mut self, address: u64, length: u32, flags: u16) {
        if flags & WRITE != 0 {
            self.writable = self.writable.saturating_add(length);
        }
        let next = if flags & NEXT != 0 { self.count + 1 } else { 0 };
        Descriptor { address, length, flags, next }.write(&self.slot.table, self.count.into());
        self.count += 1;
    }

    fn end(mut self, data: u64) -> Written {
        self.add(self.slot.status_address(), STATUS_BYTES, WRITE);
        let length = u32::from(self.count) * DESCRIPTOR_BYTES as u32;
        Written { length, writable: self.writable, data }
    }
}

fn begin<'a, 'm>(slot: &'a Slot<'m>, kind: u32, sector: u64) -> Table<'a, 'm> {
    let mut table = Table { slot, count: 0, writable: 0 };
    table.add(slot.begin(kind, sector), HEADER_BYTES, NEXT);
    table
}

/// Writes a command; `None` if the segments, which only reads and writes have, cannot all be described. `may_unmap`: the device deallocates
/// when it writes zeroes, if wanted.
pub fn write(
    slot: &Slot<'_>,
    command: Command,
    segments: impl IntoIterator<Item = PhysicalSegment>,
    bounds: Bounds,
    may_unmap: bool,
) -> Option<Written> {
    Some(match command {
        Command::Read { first_sector, .. } => return transfer(slot, IN, first_sector, segments, bounds),
        Command::Write { first_sector, .. } => return transfer(slot, OUT, first_sector, segments, bounds),
        // Its sector must be 0 (5.2.6.1).
        Command::Flush => begin(slot, FLUSH, 0).end(0),
        // To discard is to unmap: the flag is for zeroes alone (5.2.6.1).
        Command::Discard { first_sector, sectors } => range(slot, DISCARD, first_sector, sectors, 0),
        Command::WriteZeroes { first_sector, sectors, unmap } => {
            range(slot, WRITE_ZEROES, first_sector, sectors, if unmap && may_unmap { UNMAP } else { 0 })
        }
    })
}

fn transfer(
    slot: &Slot<'_>,
    kind: u32,
    sector: u64,
    segments: impl IntoIterator<Item = PhysicalSegment>,
    bounds: Bounds,
) -> Option<Written> {
    let mut table = begin(slot, kind, sector);
    let flags = if kind == IN { NEXT | WRITE } else { NEXT };
    let (bytes, all) = pieces(segments, u64::MAX, bounds, |address, length| table.add(address, length, flags));
    all.then(|| table.end(bytes))
}

fn range(slot: &Slot<'_>, kind: u32, sector: u64, sectors: u32, flags: u32) -> Written {
    let mut table = begin(slot, kind, 0);
    table.add(slot.range(sector, sectors, flags), RANGE_BYTES, NEXT);
    table.end(0)
}

/// Writes the question for the device's identifier.
pub fn identifier(slot: &Slot<'_>) -> Written {
    let mut table = begin(slot, GET_ID, 0);
    table.add(slot.identifier_address(), IDENTIFIER_BYTES, NEXT | WRITE);
    table.end(0)
}
