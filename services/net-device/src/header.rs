//! The header before each frame in a queue (virtio 1.2, 5.1.6).

use crate::frame::FRAME_HEADER;

/// Bytes of the header, number of buffers included.
pub const HEADER_BYTES: usize = 12;
/// Most bytes of a frame that is no train of segments: header, VLAN tag, payload of 1500 (IEEE 802.3, 3.2.7).
pub const MAX_FRAME: usize = 1518;
/// Most bytes of a train of segments: an IPv4 packet of 65,535 bytes behind the frame's header.
pub const MAX_TRAIN: usize = 65_535 + FRAME_HEADER;

const NEEDS_CHECKSUM: u8 = 1;
const NO_SEGMENTS: u8 = 0;
const TCP_IPV4: u8 = 1;

/// What a driver says of a frame, checked against it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Header {
    /// A checksum is to be filled in: first byte that it covers, and where it goes, counted from there.
    pub checksum: Option<(u16, u16)>,
    /// The frame is a train of TCP segments of so many bytes of payload, with headers of so many bytes.
    pub segments: Option<(u16, u16)>,
}

/// Why a header and its frame are not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeaderError {
    /// The frame is shorter than an Ethernet header, or longer than its kind may be.
    Length,
    /// It asks for what was not negotiated, or for what cannot be done to the frame.
    Offload,
}

impl Header {
    /// Checks the header of a frame of `length` bytes. `checksums` and `segments`: what the driver has accepted.
    pub fn parse(
        bytes: &[u8; HEADER_BYTES],
        length: usize,
        checksums: bool,
        segments: bool,
    ) -> Result<Self, HeaderError> {
        let [flags, kind, h0, h1, g0, g1, s0, s1, o0, o1, _, _] = *bytes;
        let [header, size, start, offset] = [[h0, h1], [g0, g1], [s0, s1], [o0, o1]].map(u16::from_le_bytes);
        let checksum = match flags & NEEDS_CHECKSUM != 0 {
            // No protocol sums the Ethernet header, and what is written there could be a tag.
            true if !checksums
                || usize::from(start) < FRAME_HEADER
                || usize::from(start) + usize::from(offset) + 2 > length =>
            {
                return Err(HeaderError::Offload);
            }
            is_wanted => is_wanted.then_some((start, offset)),
        };
        let segments = match kind {
            NO_SEGMENTS => None,
            // Each segment gets a checksum of its own, and some payload.
            TCP_IPV4 if segments && checksum.is_some() && size != 0 && usize::from(header) <= length => {
                Some((size, header))
            }
            _ => return Err(HeaderError::Offload),
        };
        let longest = if segments.is_some() { MAX_TRAIN } else { MAX_FRAME };
        if !(FRAME_HEADER..=longest).contains(&length) {
            return Err(HeaderError::Length);
        }
        Ok(Self { checksum, segments })
    }

    /// The bytes for a receiver that gets the frame in so many buffers.
    pub fn to_bytes(self, buffers: u16) -> [u8; HEADER_BYTES] {
        let (start, offset) = self.checksum.unwrap_or_default();
        let (size, header) = self.segments.unwrap_or_default();
        let mut bytes = [0; HEADER_BYTES];
        let flags = if self.checksum.is_some() { NEEDS_CHECKSUM } else { 0 };
        let kind = if self.segments.is_some() { TCP_IPV4 } else { NO_SEGMENTS };
        let words = [u16::from_le_bytes([flags, kind]), header, size, start, offset, buffers];
        for (to, word) in bytes.as_chunks_mut().0.iter_mut().zip(words) {
            *to = word.to_le_bytes();
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_accepted_lies_in_the_frame(bytes: [u8; HEADER_BYTES], length in 0usize..70_000, checksums: bool, segments: bool) {
            if let Ok(header) = Header::parse(&bytes, length, checksums, segments) {
                prop_assert!((FRAME_HEADER..=MAX_TRAIN).contains(&length));
                prop_assert!(header.segments.is_some() || length <= MAX_FRAME);
                prop_assert!(checksums || header.checksum.is_none());
                prop_assert!(segments || header.segments.is_none());
                prop_assert!(header.segments.is_none_or(|(size, headers)| size != 0 && usize::from(headers) <= length));
                if let Some((start, offset)) = header.checksum {
                    prop_assert!(usize::from(start) >= FRAME_HEADER);
                    prop_assert!(usize::from(start) + usize::from(offset) + 2 <= length);
                }
                let again = Header::parse(&header.to_bytes(1), length, checksums, segments);
                prop_assert_eq!(again, Ok(header));
            }
        }
    }
}
