//! What a guest's disk offers: what the drive has, less what the manifest withholds.

use bulkhead_channel::{DeviceDescription, DeviceKind, MAX_QUEUES};
use bulkhead_driver::{DriveInformation, RangeLimits};
use bulkhead_virtio::{BlockConfiguration, Limits, MAX_DATA_SEGMENTS, SECTOR, SERIAL_LENGTH, feature};

/// Largest virtqueue that is offered: as many heads as a channel notes for a restart.
const QUEUE_SIZE: u16 = bulkhead_channel::IN_FLIGHT_HEADS;

/// Features of the drive that the guest is not to have.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Withheld {
    /// Discards.
    pub discard: bool,
    /// Write-zeroes requests.
    pub write_zeroes: bool,
    /// Flushes. What the drive has in its cache is then lost when the power fails.
    pub flush: bool,
    /// All queues but one.
    pub queues: bool,
}

/// Where a guest's disk lies on the drive, and what it is called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DiskRange<'a> {
    /// Name; its first 20 bytes are the serial number.
    pub name: &'a str,
    /// First sector on the drive.
    pub first_sector: u64,
    /// Sectors.
    pub sectors: u64,
    /// The guest cannot write.
    pub read_only: bool,
    /// What it does not get.
    pub withheld: Withheld,
}

/// Why a disk cannot be offered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PublishError {
    /// It is empty, reaches beyond the drive's last sector, or is not made of whole logical blocks.
    Range {
        /// The drive's sectors.
        drive: u64,
    },
    /// The channel refuses it.
    Channel(bulkhead_channel::PublishError),
}

/// What of the drive's features the guest has.
pub(crate) struct Offered {
    pub(crate) flush: bool,
    pub(crate) discard: Option<RangeLimits>,
    pub(crate) write_zeroes: Option<RangeLimits>,
    pub(crate) queues: u16,
    /// Logical blocks in a physical one, as a power of two.
    pub(crate) physical_exponent: u8,
}

impl Offered {
    pub(crate) fn new(range: &DiskRange<'_>, drive: &DriveInformation) -> Self {
        let usable = |limits: Option<RangeLimits>, withheld: bool| limits.filter(|_| !range.read_only && !withheld);
        // Sectors of a physical block, as a power of two.
        let physical =
            u32::from(drive.physical_exponent) + (u64::from(drive.logical_block_size) / SECTOR).trailing_zeros();
        Self {
            flush: drive.flush && !range.withheld.flush,
            discard: usable(drive.discard, range.withheld.discard),
            write_zeroes: usable(drive.write_zeroes, range.withheld.write_zeroes),
            queues: if range.withheld.queues { 1 } else { drive.queues.clamp(1, MAX_QUEUES as u16) },
            // The exponent is of use only if the range begins with a physical block.
            physical_exponent: if range.first_sector.trailing_zeros() >= physical {
                drive.physical_exponent
            } else {
                0
            },
        }
    }
}

/// The disk as its driver sees it, and what its requests may be.
pub(crate) fn offer(
    range: &DiskRange<'_>,
    drive: &DriveInformation,
) -> Result<(DeviceDescription, Limits), PublishError> {
    let error = PublishError::Range { drive: drive.sectors };
    let end = range.first_sector.checked_add(range.sectors).filter(|end| *end <= drive.sectors).ok_or(error)?;
    let block_sectors = u64::from(drive.logical_block_size) / SECTOR;
    if range.sectors == 0
        || block_sectors == 0
        || [range.first_sector, end].iter().any(|sector| sector % block_sectors != 0)
    {
        return Err(error);
    }
    let mut serial = [0; SERIAL_LENGTH];
    for (to, from) in serial.iter_mut().zip(range.name.bytes()) {
        *to = from;
    }
    let Offered { flush, discard, write_zeroes, queues, physical_exponent } = Offered::new(range, drive);
    let configuration = BlockConfiguration {
        sectors: range.sectors,
        segments: MAX_DATA_SEGMENTS as u32,
        logical_block_size: drive.logical_block_size,
        physical_block_exponent: physical_exponent,
        queues,
        discard: discard.map_or([0; 2], |limits| [limits.sectors, limits.granularity]),
        write_zeroes: write_zeroes.map_or(0, |limits| limits.sectors),
        write_zeroes_unmaps: discard.is_some(),
    };
    let description = DeviceDescription {
        kind: DeviceKind::Block,
        features: ALWAYS
            | bit(range.read_only, feature::BLOCK_READ_ONLY)
            | bit(flush, feature::BLOCK_FLUSH)
            | bit(discard.is_some(), feature::BLOCK_DISCARD)
            | bit(write_zeroes.is_some(), feature::BLOCK_WRITE_ZEROES)
            | bit(queues > 1, feature::BLOCK_QUEUES),
        queues,
        queue_size: QUEUE_SIZE,
        configuration: configuration.to_bytes(),
    };
    let limits = Limits {
        sectors: range.sectors,
        block_sectors,
        read_only: range.read_only,
        flush,
        discard: discard.map(|limits| limits.sectors),
        write_zeroes: write_zeroes.map(|limits| limits.sectors),
        serial,
    };
    Ok((description, limits))
}

/// Features that need nothing of the drive.
const ALWAYS: u64 = feature::VERSION_1
    | feature::INDIRECT_DESCRIPTORS
    | feature::EVENT_INDEX
    | feature::BLOCK_SEGMENTS
    | feature::BLOCK_SIZE
    | feature::BLOCK_TOPOLOGY;

fn bit(is_set: bool, bit: u64) -> u64 {
    if is_set { bit } else { 0 }
}
