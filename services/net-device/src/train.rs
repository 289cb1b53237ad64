//! A train of TCP segments over IPv4, cut for a receiver that takes none (RFC 791, 3.1; RFC 9293, 3.1).

use crate::frame::{FRAME_HEADER, fill_checksum};
use crate::header::{Header, MAX_FRAME};

/// Most segments of a train: those of 65,535 bytes with the payload that everybody takes, 536 bytes (RFC 9293, 3.7.1). More would be a way
/// to have the switch work for nothing.
const MAX_SEGMENTS: usize = 128;
/// Fewest bytes of an IPv4 header, and of a TCP header.
const MIN_HEADER: usize = 20;
/// Offsets in the IPv4 header: total length, identification, checksum, addresses.
const TOTAL_LENGTH: usize = FRAME_HEADER + 2;
const IDENTIFICATION: usize = FRAME_HEADER + 4;
const PROTOCOL: usize = FRAME_HEADER + 9;
const IP_CHECKSUM: usize = 10;
const ADDRESSES: usize = FRAME_HEADER + 12;
const TCP: u8 = 6;
/// Offsets in the TCP header: sequence number, length of the header in words, flags, checksum.
const SEQUENCE: usize = 4;
const DATA_OFFSET: usize = 12;
const FLAGS: usize = 13;
const TCP_CHECKSUM: usize = 16;
/// Flags that only the last segment has (FIN, PSH), and only the first (CWR).
const LAST_ONLY: u8 = 0x09;
const FIRST_ONLY: u8 = 0x80;

/// A train whose headers make sense.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Train<'f> {
    frame: &'f [u8],
    /// Where TCP begins, and where its payload.
    tcp: usize,
    payload: usize,
    /// Most bytes of payload in a segment.
    size: usize,
}

impl<'f> Train<'f> {
    /// The train in a frame; `None` if it is none that can be cut.
    pub(crate) fn of(frame: &'f [u8], header: Header) -> Option<Self> {
        let size = usize::from(header.segments?.0);
        let (start, offset) = header.checksum?;
        let first = *frame.get(FRAME_HEADER)?;
        let tcp = FRAME_HEADER + usize::from(first & 0xf) * 4;
        let payload = tcp + usize::from(frame.get(tcp + DATA_OFFSET)? >> 4) * 4;
        let is_tcp = frame.get(FRAME_HEADER - 2..FRAME_HEADER)? == [0x08, 0x00]
            && first >> 4 == 4
            && *frame.get(PROTOCOL)? == TCP
            && (usize::from(start), usize::from(offset)) == (tcp, TCP_CHECKSUM);
        let has_headers = tcp >= FRAME_HEADER + MIN_HEADER && payload >= tcp + MIN_HEADER && payload < frame.len();
        let train = Self { frame, tcp, payload, size };
        let fits = size != 0 && payload + size <= MAX_FRAME && train.count() <= MAX_SEGMENTS;
        (is_tcp && has_headers && fits).then_some(train)
    }

    /// How many segments it has.
    pub(crate) fn count(&self) -> usize {
        self.frame.len().saturating_sub(self.payload).div_ceil(self.size.max(1))
    }

    /// Writes segment `index` to `out`, as a whole frame with all its checksums; returns its length.
    pub(crate) fn cut(&self, index: usize, out: &mut [u8; MAX_FRAME]) -> Option<usize> {
        let from = self.payload + index.checked_mul(self.size)?;
        let to = self.frame.len().min(from + self.size);
        let length = self.payload + to.checked_sub(from)?;
        let out = out.get_mut(..length)?;
        let (headers, payload) = out.split_at_mut_checked(self.payload)?;
        headers.copy_from_slice(self.frame.get(..self.payload)?);
        payload.copy_from_slice(self.frame.get(from..to)?);
        let total = (length - FRAME_HEADER) as u16;
        let identification = read(headers, IDENTIFICATION)?.wrapping_add(index as u16);
        write(headers, TOTAL_LENGTH, &total.to_be_bytes());
        write(headers, IDENTIFICATION, &identification.to_be_bytes());
        write(headers, FRAME_HEADER + IP_CHECKSUM, &[0, 0]);
        fill_checksum(headers.get_mut(..self.tcp)?, FRAME_HEADER, IP_CHECKSUM);
        let sequence: [u8; 4] = *headers.get(self.tcp + SEQUENCE..)?.first_chunk()?;
        let sequence = u32::from_be_bytes(sequence).wrapping_add((index * self.size) as u32);
        write(headers, self.tcp + SEQUENCE, &sequence.to_be_bytes());
        let (is_first, is_last) = (index == 0, to == self.frame.len());
        let gone = if is_last { 0 } else { LAST_ONLY } | if is_first { 0 } else { FIRST_ONLY };
        let flags = headers.get(self.tcp + FLAGS)? & !gone;
        write(headers, self.tcp + FLAGS, &[flags]);
        let pseudo = self.pseudo_header((length - self.tcp) as u16)?;
        write(headers, self.tcp + TCP_CHECKSUM, &pseudo.to_be_bytes());
        fill_checksum(out, self.tcp, TCP_CHECKSUM);
        Some(length)
    }

    /// The sum of the pseudo-header for so many bytes of TCP.
    fn pseudo_header(&self, length: u16) -> Option<u16> {
        let (addresses, _) = self.frame.get(ADDRESSES..ADDRESSES + 8)?.as_chunks::<2>();
        let sum: u32 = addresses.iter().map(|pair| u32::from(u16::from_be_bytes(*pair))).sum();
        let sum = sum + u32::from(TCP) + u32::from(length);
        let sum = (sum & 0xffff) + (sum >> 16);
        Some(((sum & 0xffff) + (sum >> 16)) as u16)
    }
}

fn read(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn write(bytes: &mut [u8], at: usize, value: &[u8]) {
    for (to, from) in bytes.iter_mut().skip(at).zip(value) {
        *to = *from;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ADDRESS: [u8; 8] = [10, 1, 0, 1, 10, 1, 0, 2];

    /// A train with options in both headers.
    fn train(payload: &[u8], flags: u8) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x08, 0x00];
        let total = (24 + 32 + payload.len()) as u16;
        frame.extend([0x46, 0]);
        frame.extend(total.to_be_bytes());
        frame.extend([0xff, 0xff, 0x40, 0, 64, TCP, 0x12, 0x34]);
        frame.extend(ADDRESS);
        frame.extend([1, 1, 1, 0]);
        frame.extend([0, 80, 0x30, 0x39, 0xff, 0xff, 0xff, 0x00, 0, 0, 0, 1, 0x80, flags, 1, 0, 0xaa, 0xbb, 0, 0]);
        frame.extend([1; 12]);
        frame.extend(payload);
        frame
    }

    fn sum(bytes: impl IntoIterator<Item = u8>) -> u16 {
        let bytes: Vec<u8> = bytes.into_iter().collect();
        let mut sum: u32 =
            bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low))).sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    fn header(size: u16) -> Header {
        Header { checksum: Some((38, 16)), segments: Some((size, 70)) }
    }

    proptest! {
        #[test]
        fn segments_make_up_the_train(payload in proptest::collection::vec(any::<u8>(), 1..9000), size in 100u16..1448, flags: u8) {
            let frame = train(&payload, flags);
            let train = Train::of(&frame, header(size)).unwrap();
            let (mut got, mut out) = (Vec::new(), [0; MAX_FRAME]);
            for index in 0..train.count() {
                let length = train.cut(index, &mut out).unwrap();
                let segment = &out[..length];
                prop_assert_eq!(usize::from(read(segment, 16).unwrap()), length - 14);
                prop_assert_eq!(read(segment, 18).unwrap(), 0xffffu16.wrapping_add(index as u16));
                prop_assert_eq!(sum(segment[14..38].iter().copied()), 0xffff);
                let tcp = (length - 38) as u16;
                let pseudo = ADDRESS.into_iter().chain([0, TCP]).chain(tcp.to_be_bytes());
                prop_assert_eq!(sum(pseudo.chain(segment[38..].iter().copied())), 0xffff);
                let sequence = u32::from_be_bytes(segment[42..46].try_into().unwrap());
                prop_assert_eq!(sequence, 0xffff_ff00u32.wrapping_add(got.len() as u32));
                let mut expected = flags;
                if index != 0 { expected &= !0x80 }
                if index + 1 != train.count() { expected &= !0x09 }
                prop_assert_eq!(segment[51], expected);
                got.extend_from_slice(&segment[70..]);
            }
            prop_assert_eq!(got, payload);
        }

        #[test]
        fn whatever_is_no_train_is_not_cut(mut frame in proptest::collection::vec(any::<u8>(), 0..4000), size: u16, start: u16, offset: u16, like: bool) {
            if like && frame.len() > 60 {
                frame[12..15].copy_from_slice(&[0x08, 0x00, 0x45]);
                frame[23] = TCP;
            }
            let header = Header { checksum: Some(if like { (34, 16) } else { (start, offset) }), segments: Some((size, 0)) };
            if let Some(train) = Train::of(&frame, header) {
                prop_assert!(train.count() <= MAX_SEGMENTS);
                let mut out = [0; MAX_FRAME];
                for index in 0..train.count() {
                    prop_assert!(train.cut(index, &mut out).is_some());
                }
            }
        }
    }

    #[test]
    fn a_train_of_too_many_segments_is_not_cut() {
        let frame = train(&[0; 1000], 0);
        assert!(Train::of(&frame, header(7)).is_none());
        assert!(Train::of(&frame, header(8)).is_some());
        assert!(Train::of(&frame, header(1449)).is_none());
    }
}
