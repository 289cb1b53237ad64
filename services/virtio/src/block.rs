//! Block requests (virtio 1.2, 5.2.6).

use crate::{Chain, GuestMemory, Queue, QueueError, Segment};

/// Bytes of a disk's serial number.
pub const SERIAL_LENGTH: usize = 20;
/// Bytes in the sectors that capacities and requests count in, whatever the logical block size.
pub const SECTOR: u64 = 512;

const HEADER_BYTES: u64 = 16;
const TYPE_IN: u32 = 0;
const TYPE_OUT: u32 = 1;
const TYPE_FLUSH: u32 = 4;
const TYPE_GET_ID: u32 = 8;
const TYPE_DISCARD: u32 = 11;
const TYPE_WRITE_ZEROES: u32 = 13;
/// Bytes of the range of a discard or write-zeroes request; there is one range a request.
const RANGE_BYTES: u64 = 16;
/// Flag of the range: the sectors may be deallocated. Of write-zeroes requests alone.
const UNMAP: u32 = 1;

/// How a request ended, as the guest reads it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Status {
    /// Done.
    Ok = 0,
    /// It was wrong, or the device failed.
    IoError = 1,
    /// The device does not know the request.
    Unsupported = 2,
}

/// What the disk allows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Sectors of 512 bytes.
    pub sectors: u64,
    /// Sectors in a logical block: transfers begin and end at its multiples.
    pub block_sectors: u64,
    /// Writes are refused.
    pub read_only: bool,
    /// Flush is offered.
    pub flush: bool,
    /// Most sectors of a discard, if that is offered.
    pub discard: Option<u32>,
    /// Most sectors of a write-zeroes request, if that is offered.
    pub write_zeroes: Option<u32>,
    /// Serial number.
    pub serial: [u8; SERIAL_LENGTH],
}

/// What a request wants of the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// Disk to guest.
    Read,
    /// Guest to disk.
    Write,
    /// Make what was written durable.
    Flush,
    /// The contents are not needed any more.
    Discard,
    /// Make the contents zero.
    WriteZeroes {
        /// The sectors may be deallocated.
        unmap: bool,
    },
}

impl Operation {
    /// Whether data go to the guest.
    pub fn is_read(self) -> bool {
        self == Self::Read
    }

    /// Whether data are moved at all.
    pub fn has_data(self) -> bool {
        matches!(self, Self::Read | Self::Write)
    }
}

/// A checked request. Its data lie in the guest's memory, its sectors on the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    /// What to do.
    pub operation: Operation,
    /// First sector, counted from the disk's beginning.
    pub first_sector: u64,
    /// Sectors; 0 for a flush.
    pub sectors: u64,
    /// How to answer.
    pub reply: Reply,
}

/// Where and how a request is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub struct Reply {
    head: u16,
    status: u64,
    /// Bytes that are in the guest's memory if all went well, the status not counted.
    data_bytes: u32,
}

/// What is to be done with a chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Parsed {
    /// Serve the request, then answer it.
    Serve(Request),
    /// Answer at once.
    Answer(Reply, Status),
}

impl Reply {
    /// The chain's head.
    pub fn head(self) -> u16 {
        self.head
    }

    /// Writes the status and gives the chain back. Bytes are counted as written only if all went well.
    pub fn send(self, queue: &mut Queue, memory: &impl GuestMemory, status: Status) -> Result<(), QueueError> {
        memory.write(self.status, &[status as u8])?;
        let data = if status == Status::Ok { self.data_bytes } else { 0 };
        queue.give_back(memory, self.head, data.saturating_add(1))
    }
}

/// Bytes of some segments. At most [`MAX_DESCRIPTORS`] times 2^32, hence no overflow.
fn total(segments: &[Segment]) -> u64 {
    segments.iter().map(|segment| u64::from(segment.length)).sum()
}

/// `keep` bytes of guest segments, after the first `skip`: addresses and lengths.
pub fn cut(segments: &[Segment], skip: u64, keep: u64) -> impl Iterator<Item = (u64, u64)> + Clone {
    let pieces = segments.iter().scan((skip, keep), |(skip, keep), segment| {
        let length = u64::from(segment.length);
        let skipped = length.min(*skip);
        let kept = (length - skipped).min(*keep);
        *skip -= skipped;
        *keep -= kept;
        // A sum that wraps around names memory that no guest has, and is refused as such.
        Some((segment.address.wrapping_add(skipped), kept))
    });
    pieces.filter(|(_, length)| *length != 0)
}

impl Request {
    /// `keep` bytes of the data in its chain, after the first `skip`.
    pub fn data<'c>(
        &self,
        chain: &'c Chain,
        skip: u64,
        keep: u64,
    ) -> impl Iterator<Item = (u64, u64)> + Clone + use<'c> {
        match self.operation {
            Operation::Write => cut(chain.readable(), HEADER_BYTES.saturating_add(skip), keep),
            _ => cut(chain.writable(), skip, keep),
        }
    }
}

/// Copies bytes from segments, after the first `skip`; they must hold as many.
fn gather(memory: &impl GuestMemory, segments: &[Segment], skip: u64, bytes: &mut [u8]) -> Result<(), Status> {
    let mut rest = bytes;
    for (address, length) in cut(segments, skip, rest.len() as u64) {
        let (now, later) = rest.split_at_mut(length as usize);
        memory.read(address, now).map_err(|_| Status::IoError)?;
        rest = later;
    }
    Ok(())
}

/// Copies bytes to segments, as many as they hold.
fn scatter(memory: &impl GuestMemory, segments: &[Segment], bytes: &[u8]) -> Result<(), Status> {
    let mut rest = bytes;
    for (address, length) in cut(segments, 0, rest.len() as u64) {
        let (now, later) = rest.split_at(length as usize);
        memory.write(address, now).map_err(|_| Status::IoError)?;
        rest = later;
    }
    Ok(())
}

/// Checks the request in a chain. How the driver cut it into descriptors does not matter (virtio 1.2, 2.7.4).
pub fn parse(chain: &Chain, limits: &Limits, memory: &impl GuestMemory) -> Result<Parsed, QueueError> {
    let last = chain.writable().last().ok_or(QueueError::NoStatus)?;
    let status = last.address.checked_add(u64::from(last.length) - 1).ok_or(QueueError::NoStatus)?;
    if !memory.contains(status, 1) {
        return Err(QueueError::NoStatus);
    }
    let reply = Reply { head: chain.head(), status, data_bytes: 0 };
    Ok(match serve(chain, limits, memory, reply) {
        Ok(parsed) => parsed,
        Err(status) => Parsed::Answer(reply, status),
    })
}

fn serve(chain: &Chain, limits: &Limits, memory: &impl GuestMemory, reply: Reply) -> Result<Parsed, Status> {
    if total(chain.readable()) < HEADER_BYTES {
        return Err(Status::IoError);
    }
    let mut header = [0; HEADER_BYTES as usize];
    gather(memory, chain.readable(), 0, &mut header)?;
    let header = u128::from_le_bytes(header);
    let (kind, first_sector) = (header as u32, (header >> 64) as u64);
    let input_bytes = total(chain.writable()).saturating_sub(1);
    let output_bytes = total(chain.readable()) - HEADER_BYTES;
    let (operation, bytes) = match kind {
        TYPE_IN => (Operation::Read, input_bytes),
        TYPE_OUT if limits.read_only => return Err(Status::IoError),
        TYPE_OUT => (Operation::Write, output_bytes),
        TYPE_FLUSH if limits.flush => {
            return Ok(Parsed::Serve(Request { operation: Operation::Flush, first_sector: 0, sectors: 0, reply }));
        }
        TYPE_GET_ID => {
            let length = input_bytes.min(SERIAL_LENGTH as u64);
            scatter(memory, chain.writable(), limits.serial.get(..length as usize).unwrap_or_default())?;
            return Ok(Parsed::Answer(Reply { data_bytes: length as u32, ..reply }, Status::Ok));
        }
        TYPE_DISCARD if let Some(most) = limits.discard => {
            return range(chain, limits, memory, reply, most, false);
        }
        TYPE_WRITE_ZEROES if let Some(most) = limits.write_zeroes => {
            return range(chain, limits, memory, reply, most, true);
        }
        _ => return Err(Status::Unsupported),
    };
    let data_bytes = match operation {
        Operation::Read => u32::try_from(bytes).map_err(|_| Status::IoError)?,
        _ => 0,
    };
    let sectors = checked_sectors(first_sector, bytes, limits).ok_or(Status::IoError)?;
    let request = Request { operation, first_sector, sectors, reply: Reply { data_bytes, ..reply } };
    if !request.data(chain, 0, bytes).all(|(address, length)| memory.contains(address, length)) {
        return Err(Status::IoError);
    }
    Ok(Parsed::Serve(request))
}

/// A discard or write-zeroes request: its sectors are in its data (virtio 1.2, 5.2.6.2).
fn range(
    chain: &Chain,
    limits: &Limits,
    memory: &impl GuestMemory,
    reply: Reply,
    most: u32,
    zeroes: bool,
) -> Result<Parsed, Status> {
    if limits.read_only || total(chain.readable()) != HEADER_BYTES + RANGE_BYTES {
        return Err(Status::IoError);
    }
    let mut bytes = [0; RANGE_BYTES as usize];
    gather(memory, chain.readable(), HEADER_BYTES, &mut bytes)?;
    let value = u128::from_le_bytes(bytes);
    let (first_sector, sectors, flags) = (value as u64, (value >> 64) as u32, (value >> 96) as u32);
    let operation = match zeroes {
        true if flags & !UNMAP == 0 => Operation::WriteZeroes { unmap: flags & UNMAP != 0 },
        false if flags == 0 => Operation::Discard,
        _ => return Err(Status::Unsupported),
    };
    let sectors = checked_sectors(first_sector, u64::from(sectors.min(most)) * SECTOR, limits)
        .filter(|checked| *checked == u64::from(sectors))
        .ok_or(Status::IoError)?;
    Ok(Parsed::Serve(Request { operation, first_sector, sectors, reply }))
}

/// Number of sectors of a transfer, if it lies on the disk and consists of whole blocks.
fn checked_sectors(first: u64, bytes: u64, limits: &Limits) -> Option<u64> {
    let sectors = bytes / SECTOR;
    let whole = bytes != 0
        && bytes.is_multiple_of(SECTOR)
        && first.is_multiple_of(limits.block_sectors)
        && sectors.is_multiple_of(limits.block_sectors);
    (whole && first.checked_add(sectors)? <= limits.sectors).then_some(sectors)
}
