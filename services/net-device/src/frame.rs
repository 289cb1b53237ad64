//! What of an Ethernet frame matters to a switch (IEEE 802.3, 3.1 and 3.2), and the checksum of the Internet protocols.

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Whether it names a group of stations, broadcast included.
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }
}

/// Bytes of a frame's header: two addresses and the type.
pub const FRAME_HEADER: usize = 14;

/// The two addresses of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Addresses {
    /// Whom it is for.
    pub destination: Mac,
    /// Whom it is from.
    pub source: Mac,
}

impl Addresses {
    /// Those of a frame; `None` if it is too short to be one.
    pub fn of(frame: &[u8]) -> Option<Self> {
        let header: &[u8; FRAME_HEADER] = frame.first_chunk()?;
        let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, _, _] = *header;
        Some(Self { destination: Mac([d0, d1, d2, d3, d4, d5]), source: Mac([s0, s1, s2, s3, s4, s5]) })
    }
}

/// Fills in the checksum of the bytes from `start` on, at `offset` behind it, where the sum of the pseudo-header stands already
/// (RFC 1071; virtio 1.2, 5.1.6.2). False, and nothing done, if the place is not in the frame.
pub fn fill_checksum(frame: &mut [u8], start: usize, offset: usize) -> bool {
    let Some(covered) = frame.get_mut(start..) else {
        return false;
    };
    if offset.checked_add(2).is_none_or(|end| end > covered.len()) {
        return false;
    }
    let (pairs, rest) = covered.as_chunks::<2>();
    let sum: u64 = pairs.iter().map(|pair| u64::from(u16::from_be_bytes(*pair))).sum();
    let mut sum = sum + rest.first().map_or(0, |last| u64::from(*last) << 8);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    // A sum of 0 would mean that there is none (RFC 768); its other form is the same number.
    let value = match !(sum as u16) {
        0 => 0xffff,
        value => value,
    };
    for (byte, value) in covered.iter_mut().skip(offset).zip(value.to_be_bytes()) {
        *byte = value;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_1071() {
        // Section 3: the sum of these words is ddf2.
        let mut frame = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7, 0, 0];
        assert!(fill_checksum(&mut frame, 0, 8));
        assert_eq!(frame[8..], 0x220d_u16.to_be_bytes());
        let mut odd = [0xff, 0x12, 0x34, 0x56, 0, 0, 0x78];
        assert!(fill_checksum(&mut odd, 1, 3));
        assert_eq!(odd[4..6], (!(0x1234_u16 + 0x5600 + 0x0078)).to_be_bytes());
        assert!(!fill_checksum(&mut frame, 3, 6));
        assert!(!fill_checksum(&mut frame, 20, 0));
        assert!(!fill_checksum(&mut frame, 1, usize::MAX));
    }

    #[test]
    fn short_frames_have_no_addresses() {
        assert_eq!(Addresses::of(&[0; 13]), None);
        let mut frame = [0; 14];
        (frame[0], frame[11]) = (0x33, 9);
        let addresses = Addresses::of(&frame).unwrap();
        assert!(addresses.destination.is_group() && !addresses.source.is_group());
        assert_eq!(addresses.source, Mac([0, 0, 0, 0, 0, 9]));
    }
}
