//! Block requests (virtio 1.2, 5.2.6).

use crate::{Chain, GuestMemory, MAX_DESCRIPTORS, Queue, QueueError, Segment};
use heapless::Vec;

/// Bytes of a disk's serial number.
pub const SERIAL_LENGTH: usize = 20;
/// Bytes in the sectors that capacities and requests count in, whatever the logical block size.
pub const SECTOR: u64 = 512;

const HEADER_BYTES: u64 = 16;
const TYPE_IN: u32 = 0;
const TYPE_OUT: u32 = 1;
const TYPE_FLUSH: u32 = 4;
const TYPE_GET_ID: u32 = 8;

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
}

/// Data segments of a request.
pub type Segments = Vec<Segment, MAX_DESCRIPTORS>;

/// A checked request. Its data lie in the guest's memory, its sectors on the disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// What to do.
    pub operation: Operation,
    /// First sector, counted from the disk's beginning.
    pub first_sector: u64,
    /// Sectors; 0 for a flush.
    pub sectors: u64,
    /// Where the data are, `sectors` in total.
    pub data: Segments,
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
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(clippy::large_enum_variant, reason = "no_std, no heap: the value lives on the stack for one request")]
pub enum Parsed {
    /// Serve the request, then answer it.
    Serve(Request),
    /// Answer at once.
    Answer(Reply, Status),
}

impl Reply {
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

/// Drops the first `skip` bytes, keeps the next `keep`.
fn slice(segments: &[Segment], mut skip: u64, mut keep: u64) -> Segments {
    let mut result = Segments::new();
    for segment in segments {
        let length = u64::from(segment.length);
        let skipped = skip.min(length);
        let kept = keep.min(length - skipped);
        (skip, keep) = (skip - skipped, keep - kept);
        if kept != 0 {
            // Both fit: the result has no more segments than the chain, and they are no longer. A sum that wraps around
            // names memory that no guest has, and is refused as such.
            let address = segment.address.wrapping_add(skipped);
            let _ = result.push(Segment { address, length: kept as u32 });
        }
    }
    result
}

/// Copies bytes from segments; they must hold as many.
fn gather(memory: &impl GuestMemory, segments: &[Segment], bytes: &mut [u8]) -> Result<(), Status> {
    let mut rest = bytes;
    for segment in segments {
        let length = rest.len().min(segment.length as usize);
        let (now, later) = rest.split_at_mut(length);
        memory.read(segment.address, now).map_err(|_| Status::IoError)?;
        rest = later;
    }
    Ok(())
}

/// Copies bytes to segments, as many as they hold.
fn scatter(memory: &impl GuestMemory, segments: &[Segment], bytes: &[u8]) -> Result<(), Status> {
    let mut rest = bytes;
    for segment in segments {
        let (now, later) = rest.split_at(rest.len().min(segment.length as usize));
        memory.write(segment.address, now).map_err(|_| Status::IoError)?;
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
    gather(memory, chain.readable(), &mut header)?;
    let header = u128::from_le_bytes(header);
    let (kind, first_sector) = (header as u32, (header >> 64) as u64);
    let input_bytes = total(chain.writable()).saturating_sub(1);
    let output_bytes = total(chain.readable()) - HEADER_BYTES;
    let (operation, data, bytes) = match kind {
        TYPE_IN => (Operation::Read, slice(chain.writable(), 0, input_bytes), input_bytes),
        TYPE_OUT if limits.read_only => return Err(Status::IoError),
        TYPE_OUT => (Operation::Write, slice(chain.readable(), HEADER_BYTES, output_bytes), output_bytes),
        TYPE_FLUSH if limits.flush => {
            let operation = Operation::Flush;
            return Ok(Parsed::Serve(Request { operation, first_sector: 0, sectors: 0, data: Vec::new(), reply }));
        }
        TYPE_GET_ID => {
            let length = input_bytes.min(SERIAL_LENGTH as u64);
            scatter(memory, &slice(chain.writable(), 0, length), &limits.serial)?;
            return Ok(Parsed::Answer(Reply { data_bytes: length as u32, ..reply }, Status::Ok));
        }
        _ => return Err(Status::Unsupported),
    };
    let data_bytes = match operation {
        Operation::Read => u32::try_from(bytes).map_err(|_| Status::IoError)?,
        _ => 0,
    };
    let sectors = checked_sectors(first_sector, bytes, limits).ok_or(Status::IoError)?;
    if !data.iter().all(|segment| memory.contains(segment.address, segment.length.into())) {
        return Err(Status::IoError);
    }
    Ok(Parsed::Serve(Request { operation, first_sector, sectors, data, reply: Reply { data_bytes, ..reply } }))
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
