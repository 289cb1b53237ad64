//! How the driver's memory of a block device is divided.

use super::request::OK;
use crate::virtqueue::{DESCRIPTOR_BYTES, MOST_ENTRIES, QUEUE_BYTES, QueueMemory};
use bulkhead_driver::{CommandError, Completion, DmaMemory, MAX_DEPTH};

/// Most descriptors of a request: as many as a queue may have, which is as long as a chain may be (virtio 1.2, 2.7.5.3.1).
pub const MOST_DESCRIPTORS: usize = MOST_ENTRIES as usize;
/// Alignment of the parts.
const PAGE: usize = 4096;
/// Bytes of a request's other parts: header, range, status, identifier.
const SLOT_BYTES: usize = 64;
const HEADER: usize = 0;
const RANGE: usize = 16;
const STATUS: usize = 32;
const IDENTIFIER: usize = 40;
/// Bytes of a header (5.2.6), a range (5.2.6), an identifier (5.2.6).
pub const HEADER_BYTES: u32 = 16;
pub const RANGE_BYTES: u32 = 16;
pub const IDENTIFIER_BYTES: u32 = 20;
/// A status that no device writes: it has not.
const UNWRITTEN: u8 = 0xff;

/// Bytes of [`DmaMemory`] that the driver of a block device takes, if they begin at a multiple of 4096.
pub const BLK_MEMORY_BYTES: usize = RequestMemory::bytes(MAX_DEPTH, MOST_DESCRIPTORS);

/// The parts of the driver's memory: the queue, and each request's own.
pub struct RequestMemory<'a> {
    queue: QueueMemory<'a>,
    slots: DmaMemory<'a>,
    tables: DmaMemory<'a>,
    table_bytes: usize,
}

/// A request's parts.
pub struct Slot<'a> {
    memory: DmaMemory<'a>,
    pub(super) table: DmaMemory<'a>,
}

impl<'a> RequestMemory<'a> {
    /// Bytes that [`RequestMemory::new`] cuts off memory that begins at a multiple of 4096.
    pub const fn bytes(depth: u16, descriptors: usize) -> usize {
        let slots = (depth as usize * SLOT_BYTES).next_multiple_of(PAGE);
        QUEUE_BYTES + slots + depth as usize * DESCRIPTOR_BYTES * descriptors
    }

    /// Cuts the parts off, for so many requests of so many descriptors, header and status among them; `None` if there is too little.
    pub fn new(memory: &mut DmaMemory<'a>, depth: u16, descriptors: usize) -> Option<Self> {
        let (depth, table_bytes) = (usize::from(depth), DESCRIPTOR_BYTES * descriptors);
        Some(Self {
            queue: QueueMemory::new(memory)?,
            slots: memory.take(depth * SLOT_BYTES, PAGE as u64)?,
            tables: memory.take(depth * table_bytes, PAGE as u64)?,
            table_bytes,
        })
    }

    /// The queue's part.
    pub fn queue(&self) -> QueueMemory<'a> {
        self.queue
    }

    /// A request's parts; `None` if there is no such request.
    pub fn slot(&self, tag: u16) -> Option<Slot<'a>> {
        let tag = usize::from(tag);
        Some(Slot {
            memory: self.slots.part(tag.checked_mul(SLOT_BYTES)?, SLOT_BYTES)?,
            table: self.tables.part(tag.checked_mul(self.table_bytes)?, self.table_bytes)?,
        })
    }
}

impl Slot<'_> {
    /// Writes the header (5.2.6), and makes the status one that no device writes. Returns the header's address.
    pub(super) fn begin(&self, kind: u32, sector: u64) -> u64 {
        self.memory.write_u64(HEADER, kind.into());
        self.memory.write_u64(HEADER + 8, sector);
        self.memory.write_u64(STATUS, UNWRITTEN.into());
        self.memory.physical() + HEADER as u64
    }

    /// Writes a range (5.2.6); returns its address.
    pub(super) fn range(&self, sector: u64, sectors: u32, flags: u32) -> u64 {
        self.memory.write_u64(RANGE, sector);
        self.memory.write_u64(RANGE + 8, u64::from(sectors) | u64::from(flags) << 32);
        self.memory.physical() + RANGE as u64
    }

    /// Where the status is.
    pub(super) fn status_address(&self) -> u64 {
        self.memory.physical() + STATUS as u64
    }

    /// How the device says that the request ended; `None` if it has said nothing.
    pub fn outcome(&self) -> Option<Completion> {
        match self.memory.read_u64(STATUS) as u8 {
            UNWRITTEN => None,
            OK => Some(Ok(())),
            _ => Some(Err(CommandError::Drive)),
        }
    }

    /// Where the device finds the table of descriptors.
    pub fn table_address(&self) -> u64 {
        self.table.physical()
    }

    /// Where the device's identifier is to go.
    pub(super) fn identifier_address(&self) -> u64 {
        self.memory.physical() + IDENTIFIER as u64
    }

    /// The device's identifier: it ends with a zero if it is short (5.2.6).
    pub(super) fn identifier(&self) -> [u8; IDENTIFIER_BYTES as usize] {
        let mut bytes = [0; IDENTIFIER_BYTES as usize];
        self.memory.read(IDENTIFIER, &mut bytes);
        let mut ended = false;
        bytes.map(|byte| {
            ended |= byte == 0;
            if ended { 0 } else { byte }
        })
    }
}
