//! What is before each frame (virtio 1.2, 5.1.6): what the device is to do with it.

use bulkhead_driver::{DmaMemory, MAX_FRAME, MIN_FRAME, NicInformation, Offload, TransmitError};

/// Bytes of the header.
pub const HEADER_BYTES: u32 = 12;
/// Where it begins in a buffer: so that the frame behind it begins with a word.
pub const HEADER_AT: usize = 4;
/// Where the frame begins in a buffer.
pub const FRAME_AT: usize = HEADER_AT + HEADER_BYTES as usize;
/// Most bytes of a frame that the card cuts: an IPv4 packet behind an Ethernet header.
pub const LARGEST_FRAME: usize = 65_549;
/// Bytes before and behind what the MTU counts: the Ethernet header, with a VLAN tag.
const AROUND: usize = MAX_FRAME - 1500;

/// Flag: fill in the checksum. Kind of segmentation: TCP over IPv4.
const NEEDS_CHECKSUM: u8 = 1;
const TCP4: u8 = 1;

/// A header of a frame to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Header {
    flags: u8,
    kind: u8,
    header_bytes: u16,
    segment_bytes: u16,
    start: u16,
    offset: u16,
}

impl Header {
    /// The header for a frame of so many bytes.
    pub fn new(information: &NicInformation, bytes: usize, offload: Offload) -> Result<Self, TransmitError> {
        let mut header = Self::default();
        if let Some(checksum) = offload.checksum {
            let end = usize::from(checksum.start) + usize::from(checksum.offset) + 2;
            if !information.transmit_checksum || end > bytes {
                return Err(TransmitError::Unsupported);
            }
            header = Self { flags: NEEDS_CHECKSUM, start: checksum.start, offset: checksum.offset, ..header };
        }
        let mut most = AROUND + usize::from(information.mtu);
        if let Some(segment_bytes) = offload.segment {
            let headers = MIN_FRAME + 1..=bytes;
            let sound = segment_bytes != 0 && headers.contains(&usize::from(offload.header));
            if !information.segmentation || offload.checksum.is_none() || !sound {
                return Err(TransmitError::Unsupported);
            }
            header = Self { kind: TCP4, header_bytes: offload.header, segment_bytes, ..header };
            most = LARGEST_FRAME;
        }
        if (MIN_FRAME..=most).contains(&bytes) { Ok(header) } else { Err(TransmitError::Size) }
    }

    /// Writes it before the frame of a buffer. The number of buffers, which comes last, is 0 on sending (5.1.6.2.1).
    pub fn write(&self, buffer: &DmaMemory<'_>) {
        let first = u64::from(self.flags) | u64::from(self.kind) << 8 | u64::from(self.header_bytes) << 16;
        buffer.write_u64(0, first << 32);
        let second = u64::from(self.segment_bytes) | u64::from(self.start) << 16 | u64::from(self.offset) << 32;
        buffer.write_u64(8, second);
    }
}
