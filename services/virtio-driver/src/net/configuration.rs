//! What a network card says of itself (virtio 1.2, 5.1.3, 5.1.4).

use crate::transport::{ACCESS_PLATFORM, VERSION_1};
use crate::unusable::Unusable;
use bulkhead_driver::NicInformation;

/// Features (5.1.3).
const CSUM: u64 = 1 << 0;
const MTU: u64 = 1 << 3;
const MAC: u64 = 1 << 5;
const HOST_TSO4: u64 = 1 << 11;
const STATUS: u64 = 1 << 16;

/// Without these there is no card: its address must be known.
const NEEDED: u64 = VERSION_1 | MAC;
const WANTED: u64 = NEEDED | ACCESS_PLATFORM | CSUM | MTU | HOST_TSO4 | STATUS;

/// Widths of the configuration's fields: mac, status, max_virtqueue_pairs, mtu.
const FIELDS: [u8; 9] = [1, 1, 1, 1, 1, 1, 2, 2, 2];
const BYTES: usize = 12;
/// Where the status is.
pub const STATUS_AT: u32 = 6;
/// Bit of the status: there is a link.
pub const LINK_UP: u16 = 1;

/// The MTU of Ethernet (IEEE 802.3, 3.2.7), for which there is room in the buffers.
const ETHERNET_MTU: u16 = 1500;
/// Least one of IPv4 (RFC 791, 3.2).
const LEAST_MTU: u16 = 68;

/// What was agreed on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Agreement {
    /// Features to accept.
    pub features: u64,
    pub information: NicInformation,
}

/// Reads the configuration by `read`, which gets the widths of the fields, and chooses among the features that are offered. It may
/// be read before the choice (3.1.1, 4).
pub fn agree(offered: u64, read: impl FnOnce(&[u8], &mut [u8]) -> Result<(), Unusable>) -> Result<Agreement, Unusable> {
    if offered & NEEDED != NEEDED {
        return Err(Unusable::Features);
    }
    let mut bytes = [0; BYTES];
    read(&FIELDS, &mut bytes)?;
    let [a, b, c, d, e, f, _, _, _, _, low, high] = bytes;
    let (mac, mtu) = ([a, b, c, d, e, f], u16::from_le_bytes([low, high]));
    // An address of a single station.
    if a & 1 != 0 || mac == [0; 6] {
        return Err(Unusable::Configuration);
    }
    let mut features = offered & WANTED;
    if features & MTU != 0 && mtu < LEAST_MTU {
        return Err(Unusable::Configuration);
    }
    if mtu > ETHERNET_MTU {
        // Who accepts it has to have room for frames as long (5.1.4.2).
        features &= !MTU;
    }
    if features & CSUM == 0 {
        // It is of no use alone (5.1.3.1).
        features &= !HOST_TSO4;
    }
    let information = NicInformation {
        mac,
        mtu: if features & MTU != 0 { mtu } else { ETHERNET_MTU },
        queues: 1,
        transmit_checksum: features & CSUM != 0,
        receive_checksum: false,
        segmentation: features & HOST_TSO4 != 0,
    };
    Ok(Agreement { features, information })
}

/// Whether the device tells the state of its link; if not, there always is one (5.1.4.2).
pub fn tells_link(features: u64) -> bool {
    features & STATUS != 0
}
