//! What a guest's network card offers.

use crate::frame::Mac;
use bulkhead_channel::{CONFIGURATION_BYTES, DeviceDescription, DeviceKind};

/// Feature bits of network cards, by their number in virtio 1.2 (5.1.3), and those of all devices.
pub mod feature {
    /// The card fills in checksums.
    pub const CHECKSUM: u64 = 1 << 0;
    /// The driver takes frames whose checksum is not filled in.
    pub const GUEST_CHECKSUM: u64 = 1 << 1;
    /// The configuration says the largest payload.
    pub const MTU: u64 = 1 << 3;
    /// The configuration says the address.
    pub const MAC: u64 = 1 << 5;
    /// The driver takes trains of TCP segments over IPv4.
    pub const GUEST_TSO4: u64 = 1 << 7;
    /// The card takes trains of TCP segments over IPv4.
    pub const HOST_TSO4: u64 = 1 << 11;
    /// A frame may be received in several buffers.
    pub const MERGED_BUFFERS: u64 = 1 << 15;
    /// The configuration says whether there is a link.
    pub const STATUS: u64 = 1 << 16;
    pub use bulkhead_virtio::feature::{EVENT_INDEX, INDIRECT_DESCRIPTORS, VERSION_1};
}

/// Largest virtqueue.
const QUEUE_SIZE: u16 = 256;
/// The receive queue and the transmit queue (virtio 1.2, 5.1.2).
pub(crate) const RECEIVE: usize = 0;
pub(crate) const TRANSMIT: usize = 1;
const QUEUES: u16 = 2;

/// A card.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CardOffer {
    /// Its address; an individual one.
    pub mac: Mac,
    /// Most bytes behind a frame's header: 68 to 1500.
    pub mtu: u16,
    /// Checksum offload, both ways.
    pub checksum: bool,
    /// TCP segmentation offload, both ways; needs `checksum`.
    pub segmentation: bool,
    /// Whether there is a link.
    pub link: bool,
}

impl CardOffer {
    pub(crate) fn features(&self) -> u64 {
        let bits = |has, bits| if has { bits } else { 0 };
        feature::VERSION_1
            | feature::INDIRECT_DESCRIPTORS
            | feature::EVENT_INDEX
            | feature::MAC
            | feature::MTU
            | feature::STATUS
            | feature::MERGED_BUFFERS
            | bits(self.checksum, feature::CHECKSUM | feature::GUEST_CHECKSUM)
            | bits(self.checksum && self.segmentation, feature::HOST_TSO4 | feature::GUEST_TSO4)
    }

    /// The configuration (virtio 1.2, 5.1.4): address, status, pairs of queues, MTU.
    pub(crate) fn configuration(&self) -> [u8; CONFIGURATION_BYTES] {
        let mut bytes = [0; CONFIGURATION_BYTES];
        let fields = self.mac.0.into_iter().chain([self.link.into(), 0, 1, 0]).chain(self.mtu.to_le_bytes());
        for (to, from) in bytes.iter_mut().zip(fields) {
            *to = from;
        }
        bytes
    }

    pub(crate) fn description(&self) -> DeviceDescription {
        DeviceDescription {
            kind: DeviceKind::Network,
            features: self.features(),
            queues: QUEUES,
            queue_size: QUEUE_SIZE,
            configuration: self.configuration(),
        }
    }
}
