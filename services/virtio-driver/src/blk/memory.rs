//! How the driver's memory of a block device is divided.

use crate::virtqueue::{DESCRIPTOR_BYTES, MOST_ENTRIES, QUEUE_BYTES, QueueMemory};
use bulkhead_driver::{DmaMemory, MAX_DEPTH};

/// Bytes of a request's table of descriptors: as many as a queue may have, which is as long as a chain may be (virtio 1.2, 2.7.5.3.1).
const TABLE_BYTES: usize = DESCRIPTOR_BYTES * MOST_ENTRIES as usize;
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
pub const UNWRITTEN: u8 = 0xff;

/// Bytes of [`DmaMemory`] that the driver of a block device takes, if they begin at a multiple of 4096.
pub const BLK_MEMORY_BYTES: usize = QUEUE_BYTES + MAX_DEPTH as usize * (SLOT_BYTES + TABLE_BYTES);

/// The parts of the driver's memory.
pub struct Memory<'a> {
    pub queue: QueueMemory<'a>,
    slots: DmaMemory<'a>,
    tables: DmaMemory<'a>,
}

/// A request's parts.
pub struct Slot<'a> {
    memory: DmaMemory<'a>,
    pub table: DmaMemory<'a>,
}

impl<'a> Memory<'a> {
    /// Cuts the parts off; `None` if there is too little.
    pub fn new(memory: &mut DmaMemory<'a>) -> Option<Self> {
        let depth = usize::from(MAX_DEPTH);
        Some(Self {
            queue: QueueMemory::new(memory)?,
            slots: memory.take(depth * SLOT_BYTES, 4096)?,
            tables: memory.take(depth * TABLE_BYTES, 4096)?,
        })
    }

    pub fn slot(&self, tag: u16) -> Option<Slot<'a>> {
        let tag = usize::from(tag);
        Some(Slot {
            memory: self.slots.part(tag * SLOT_BYTES, SLOT_BYTES)?,
            table: self.tables.part(tag * TABLE_BYTES, TABLE_BYTES)?,
        })
    }
}

impl Slot<'_> {
    /// Writes the header (5.2.6), and makes the status one that no device writes. Returns the header's address.
    pub fn begin(&self, kind: u32, sector: u64) -> u64 {
        self.memory.write_u64(HEADER, kind.into());
        self.memory.write_u64(HEADER + 8, sector);
        self.memory.write_u64(STATUS, UNWRITTEN.into());
        self.memory.physical() + HEADER as u64
    }

    /// Writes a range (5.2.6); returns its address.
    pub fn range(&self, sector: u64, sectors: u32, flags: u32) -> u64 {
        self.memory.write_u64(RANGE, sector);
        self.memory.write_u64(RANGE + 8, u64::from(sectors) | u64::from(flags) << 32);
        self.memory.physical() + RANGE as u64
    }

    /// Where the status is.
    pub fn status_address(&self) -> u64 {
        self.memory.physical() + STATUS as u64
    }

    pub fn status(&self) -> u8 {
        self.memory.read_u64(STATUS) as u8
    }

    /// Where the device's identifier is to go.
    pub fn identifier_address(&self) -> u64 {
        self.memory.physical() + IDENTIFIER as u64
    }

    /// The device's identifier: it ends with a zero if it is short (5.2.6).
    pub fn identifier(&self) -> [u8; IDENTIFIER_BYTES as usize] {
        let mut bytes = [0; IDENTIFIER_BYTES as usize];
        self.memory.read(IDENTIFIER, &mut bytes);
        let mut ended = false;
        bytes.map(|byte| {
            ended |= byte == 0;
            if ended { 0 } else { byte }
        })
    }
}
