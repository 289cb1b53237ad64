//! A client as a drive whose data lie in a guest's memory: they are copied to and from the bounce buffers.

use crate::client::{BUFFER_BYTES, BlockClient, DEPTH, Doorbell};
use alloc::vec::Vec;
use bulkhead_driver::{
    Command, CommandError, Completions, DmaMemory, Drive, DriveInformation, PhysicalSegment, RangeLimits, SECTOR,
    SubmitError,
};
use bulkhead_virtio::{GuestMemory, OutsideMemory};

/// Bytes copied at once.
const PART: usize = 4096;

/// The buffers of all tags as the fastest way sees them that there is to copy to and from them. What does not lie in them is refused, by
/// false.
pub trait Buffers {
    /// Copies from them.
    fn read(&self, offset: usize, destination: &mut [u8]) -> bool;
    /// Copies to them.
    fn write(&self, offset: usize, source: &[u8]) -> bool;
}

impl Buffers for DmaMemory<'_> {
    fn read(&self, offset: usize, destination: &mut [u8]) -> bool {
        DmaMemory::read(self, offset, destination)
    }

    fn write(&self, offset: usize, source: &[u8]) -> bool {
        DmaMemory::write(self, offset, source)
    }
}

/// A guest's memory for an emulator in front of a [`CopyDrive`]: what the drive is given as a physical address is the guest-physical one.
#[derive(Clone, Copy, Debug)]
pub struct SameAddress<M>(pub M);

impl<M: GuestMemory> GuestMemory for SameAddress<M> {
    fn read(&self, address: u64, destination: &mut [u8]) -> Result<(), OutsideMemory> {
        self.0.read(address, destination)
    }

    fn write(&self, address: u64, source: &[u8]) -> Result<(), OutsideMemory> {
        self.0.write(address, source)
    }

    fn load_u16(&self, address: u64) -> Result<u16, OutsideMemory> {
        self.0.load_u16(address)
    }

    fn store_u16(&self, address: u64, value: u16) -> Result<(), OutsideMemory> {
        self.0.store_u16(address, value)
    }

    fn translate(&self, address: u64, length: u64) -> Result<bulkhead_virtio::PhysicalSegment, OutsideMemory> {
        let piece = self.0.translate(address, length)?;
        Ok(bulkhead_virtio::PhysicalSegment { address, ..piece })
    }
}

/// A drive that copies. Its segments are addresses in `memory`.
pub struct CopyDrive<'a, B, M, S> {
    client: BlockClient<'a, B>,
    buffers: S,
    memory: M,
    information: DriveInformation,
    /// By tag, where the data of a read go.
    targets: [Vec<PhysicalSegment>; DEPTH as usize],
}

impl<'a, B: Doorbell, M: GuestMemory, S: Buffers> CopyDrive<'a, B, M, S> {
    /// A drive over a client that knows its disk, and its buffers; `None` if it does not yet.
    pub fn new(client: BlockClient<'a, B>, buffers: S, memory: M) -> Option<Self> {
        let information = *client.information()?;
        Some(Self { client, buffers, memory, information, targets: Default::default() })
    }

    fn check_range(&self, limits: Option<RangeLimits>, first: u64, sectors: u32) -> Result<(), SubmitError> {
        let limits = limits.ok_or(SubmitError::Unsupported)?;
        self.information.blocks(first, sectors, limits.sectors.into()).map(|_| ())
    }

    /// Takes what is needed of the guest's memory before the command is given away.
    fn prepare(
        &mut self,
        tag: u16,
        command: Command,
        segments: impl IntoIterator<Item = PhysicalSegment>,
    ) -> Result<(), SubmitError> {
        let target = self.targets.get_mut(usize::from(tag)).ok_or(SubmitError::Busy)?;
        target.clear();
        let most = self.information.command_bytes / SECTOR;
        let (bytes, expected) = match command {
            Command::Read { first_sector, sectors } => {
                self.information.blocks(first_sector, sectors, most)?;
                target.extend(segments);
                (target.iter().map(|segment| segment.length).sum(), u64::from(sectors) * SECTOR)
            }
            Command::Write { first_sector, sectors } => {
                self.information.blocks(first_sector, sectors, most)?;
                let copied = copy_in(&self.memory, segments, &self.buffers, tag)
                    .map_err(|OutsideMemory| SubmitError::Segments)?;
                (copied, u64::from(sectors) * SECTOR)
            }
            Command::Flush if !self.information.flush => return Err(SubmitError::Unsupported),
            Command::Flush => (0, 0),
            Command::Discard { first_sector, sectors } => {
                self.check_range(self.information.discard, first_sector, sectors)?;
                (0, 0)
            }
            Command::WriteZeroes { first_sector, sectors, .. } => {
                self.check_range(self.information.write_zeroes, first_sector, sectors)?;
                (0, 0)
            }
        };
        if bytes == expected { Ok(()) } else { Err(SubmitError::Length) }
    }
}

/// Where a part of a tag's buffer lies among the buffers; it begins at a multiple of [`PART`].
fn place(tag: u16, offset: usize) -> Result<usize, OutsideMemory> {
    if offset < BUFFER_BYTES { Ok(usize::from(tag) * BUFFER_BYTES + offset) } else { Err(OutsideMemory) }
}

/// Copies segments to a tag's buffer, one after the other; returns their bytes. What does not fit is refused.
fn copy_in(
    memory: &impl GuestMemory,
    segments: impl IntoIterator<Item = PhysicalSegment>,
    buffers: &impl Buffers,
    tag: u16,
) -> Result<u64, OutsideMemory> {
    let (mut part, mut filled, mut offset) = ([0; PART], 0, 0);
    let put = |part: &[u8], offset| {
        if buffers.write(place(tag, offset)?, part) { Ok(()) } else { Err(OutsideMemory) }
    };
    for PhysicalSegment { mut address, length: mut left } in segments {
        while left != 0 {
            let room = part.get_mut(filled..).unwrap_or_default();
            let length = left.min(room.len() as u64);
            memory.read(address, room.get_mut(..length as usize).ok_or(OutsideMemory)?)?;
            (address, left, filled) = (address.wrapping_add(length), left - length, filled + length as usize);
            if filled == PART {
                put(&part, offset)?;
                (offset, filled) = (offset + PART, 0);
            }
        }
    }
    if filled != 0 {
        put(part.get(..filled).unwrap_or_default(), offset)?;
    }
    Ok((offset + filled) as u64)
}

/// Copies a tag's buffer to segments, one after the other.
fn copy_out(
    buffers: &impl Buffers,
    tag: u16,
    memory: &impl GuestMemory,
    segments: &[PhysicalSegment],
) -> Result<(), OutsideMemory> {
    // How much of the part is copied, and where the next part begins.
    let (mut part, mut taken, mut offset) = ([0; PART], PART, 0);
    for &PhysicalSegment { mut address, length: mut left } in segments {
        while left != 0 {
            if taken == PART {
                if !buffers.read(place(tag, offset)?, &mut part) {
                    return Err(OutsideMemory);
                }
                (taken, offset) = (0, offset + PART);
            }
            let rest = part.get(taken..).unwrap_or_default();
            let length = left.min(rest.len() as u64);
            memory.write(address, rest.get(..length as usize).ok_or(OutsideMemory)?)?;
            (address, left, taken) = (address.wrapping_add(length), left - length, taken + length as usize);
        }
    }
    Ok(())
}

impl<B: Doorbell, M: GuestMemory, S: Buffers> Drive for CopyDrive<'_, B, M, S> {
    fn information(&self) -> &DriveInformation {
        &self.information
    }

    fn fitting(&self, segments: impl IntoIterator<Item = PhysicalSegment>, limit: u64) -> u64 {
        let limit = limit.min(self.information.command_bytes);
        let mut bytes = 0u64;
        for segment in segments {
            bytes = bytes.saturating_add(segment.length);
            if bytes >= limit {
                break;
            }
        }
        let block = u64::from(self.information.logical_block_size);
        bytes.min(limit) / block * block
    }

    fn submit(
        &mut self,
        tag: u16,
        command: Command,
        segments: impl IntoIterator<Item = PhysicalSegment>,
    ) -> Result<(), SubmitError> {
        // The buffer of a command under way is not touched.
        if !self.client.is_free(tag) || self.client.is_dead() {
            return Err(SubmitError::Busy);
        }
        self.prepare(tag, command, segments)?;
        self.client.submit(tag, command)
    }

    fn on_interrupt(&mut self, completions: Completions<'_>) {
        let Self { client, buffers, memory, targets, .. } = self;
        client.poll(&mut |tag, end| {
            let target = targets.get(usize::from(tag)).map(Vec::as_slice).unwrap_or_default();
            let copied = end.is_err() || copy_out(buffers, tag, memory, target).is_ok();
            completions(tag, if copied { end } else { Err(CommandError::Transfer) });
        });
    }

    fn deadline(&self) -> Option<u64> {
        // A service that does not answer is for init to start anew.
        None
    }

    fn on_time(&mut self, _: Completions<'_>) {}

    fn is_dead(&self) -> bool {
        self.client.is_dead()
    }
}
