//! Descriptor chains (virtio 1.2, 2.7.5): walked once, with a bound, into a list of segments.

use crate::{GuestMemory, QueueError, Segment};
use heapless::Vec;

/// Most descriptors in a chain: the data segments of a request, its header and its status.
pub const MAX_DESCRIPTORS: usize = MAX_DATA_SEGMENTS + 2;
/// Most data segments in a request.
pub const MAX_DATA_SEGMENTS: usize = 256;

const DESCRIPTOR_BYTES: u64 = 16;
const FLAG_NEXT: u16 = 1;
const FLAG_WRITE: u16 = 2;
const FLAG_INDIRECT: u16 = 4;

/// A descriptor chain that the driver made available.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chain {
    head: u16,
    segments: Vec<Segment, MAX_DESCRIPTORS>,
    readable: usize,
}

impl Default for Chain {
    fn default() -> Self {
        Self::new()
    }
}

/// A descriptor, read once.
struct Descriptor {
    address: u64,
    length: u32,
    flags: u16,
    next: u16,
}

impl Descriptor {
    fn read(memory: &impl GuestMemory, table: Table, index: u16) -> Result<Self, QueueError> {
        if u32::from(index) >= table.entries {
            return Err(QueueError::DescriptorIndex);
        }
        let address = table.address.checked_add(DESCRIPTOR_BYTES * u64::from(index));
        let mut bytes = [0; DESCRIPTOR_BYTES as usize];
        memory.read(address.ok_or(QueueError::Memory)?, &mut bytes)?;
        let value = u128::from_le_bytes(bytes);
        let [address, length, flags, next] = [value, value >> 64, value >> 96, value >> 112];
        Ok(Self { address: address as u64, length: length as u32, flags: flags as u16, next: next as u16 })
    }
}

#[derive(Clone, Copy)]
struct Table {
    address: u64,
    entries: u32,
}

impl Chain {
    /// A chain without segments, for [`crate::Queue::take_into`].
    pub const fn new() -> Self {
        Self { head: 0, segments: Vec::new(), readable: 0 }
    }

    /// Walks the chain that begins at `head` of the table at guest-physical `table`, with `size` entries.
    pub(crate) fn walk(
        &mut self,
        memory: &impl GuestMemory,
        table: u64,
        size: u16,
        head: u16,
        indirect_allowed: bool,
    ) -> Result<(), QueueError> {
        let mut table = Table { address: table, entries: size.into() };
        self.segments.clear();
        (self.head, self.readable) = (head, 0);
        let (mut index, mut indirect, mut visited) = (head, false, 0);
        loop {
            let descriptor = Descriptor::read(memory, table, index)?;
            if descriptor.flags & FLAG_INDIRECT != 0 {
                let entries = descriptor.length / DESCRIPTOR_BYTES as u32;
                let whole = descriptor.length % DESCRIPTOR_BYTES as u32 == 0 && entries != 0;
                if indirect || !indirect_allowed || !whole || descriptor.flags & FLAG_NEXT != 0 {
                    return Err(QueueError::Indirect);
                }
                (table, index, indirect, visited) = (Table { address: descriptor.address, entries }, 0, true, 0);
                continue;
            }
            // A chain that visits more descriptors than its table has runs in a circle.
            visited += 1;
            if visited > table.entries {
                return Err(QueueError::Loop);
            }
            self.push(&descriptor)?;
            if descriptor.flags & FLAG_NEXT == 0 {
                return Ok(());
            }
            index = descriptor.next;
        }
    }

    fn push(&mut self, descriptor: &Descriptor) -> Result<(), QueueError> {
        let segment = Segment { address: descriptor.address, length: descriptor.length };
        let writable = descriptor.flags & FLAG_WRITE != 0;
        if segment.length == 0 {
            return Err(QueueError::EmptyDescriptor);
        }
        if !writable && self.segments.len() != self.readable {
            return Err(QueueError::Order);
        }
        self.segments.push(segment).map_err(|_| QueueError::TooLong)?;
        if !writable {
            self.readable += 1;
        }
        Ok(())
    }

    /// Number of the first descriptor, by which the chain is given back.
    pub fn head(&self) -> u16 {
        self.head
    }

    /// What the device may read.
    pub fn readable(&self) -> &[Segment] {
        self.segments.get(..self.readable).unwrap_or_default()
    }

    /// What the device may write.
    pub fn writable(&self) -> &[Segment] {
        self.segments.get(self.readable..).unwrap_or_default()
    }
}
