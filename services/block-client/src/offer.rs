//! What the service offers, as a drive describes itself.

use crate::client::{BUFFER_BYTES, DEPTH};
use bulkhead_channel::{DeviceDescription, DeviceKind};
use bulkhead_driver::DriveInformation;
use bulkhead_virtio::feature;
use bulkhead_virtio_driver::parts::Configuration;

/// What the client makes use of.
const USED: u64 = feature::INDIRECT_DESCRIPTORS
    | feature::BLOCK_SEGMENTS
    | feature::BLOCK_READ_ONLY
    | feature::BLOCK_SIZE
    | feature::BLOCK_FLUSH
    | feature::BLOCK_TOPOLOGY
    | feature::BLOCK_DISCARD
    | feature::BLOCK_WRITE_ZEROES;

/// A disk that was offered.
#[derive(Clone, Copy)]
pub(crate) struct Offer {
    /// As the service described it.
    pub(crate) description: DeviceDescription,
    /// Features that are accepted.
    pub(crate) features: u64,
    /// The disk as a drive.
    pub(crate) information: DriveInformation,
    /// It may deallocate when it writes zeroes.
    pub(crate) may_unmap: bool,
}

impl Offer {
    /// Reads a description; `None` if the client has no use for such a disk.
    pub(crate) fn new(description: &DeviceDescription) -> Option<Self> {
        let features = description.features & USED;
        let usable = description.kind == DeviceKind::Block
            && description.queue_size >= DEPTH
            && features & feature::INDIRECT_DESCRIPTORS != 0;
        if !usable {
            return None;
        }
        // A disk that cannot be written is as good to read.
        let read = features & !feature::BLOCK_READ_ONLY;
        let configuration = Configuration::new(read, description.configuration);
        // All data of a request are in its buffer: one segment.
        let information = configuration.information(1, DEPTH, b"").ok()?;
        let command_bytes = information.command_bytes.min(BUFFER_BYTES as u64);
        let information = DriveInformation { command_bytes, queues: description.queues, ..information };
        Some(Self { description: *description, features, information, may_unmap: configuration.zeroes_unmap() })
    }
}
