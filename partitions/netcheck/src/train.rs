//! A train of TCP segments over IPv4, which a card cuts, and its segments (RFC 9293, 3.1; virtio 1.2, 5.1.6.2).

use crate::frames::{HEADER, addresses, internet_header, pattern, sum};
use bulkhead_driver::{Checksum, Offload};

/// Bytes of all headers: Ethernet, IPv4, TCP.
const HEADERS: usize = HEADER + 20 + 20;
/// Payload of a segment, and of the train: the last segment is a short one.
pub const SEGMENT: usize = 1448;
pub const PAYLOAD: usize = 20 * SEGMENT + 333;
/// Bytes of the train.
pub const BYTES: usize = HEADERS + PAYLOAD;
const TCP: u8 = 6;
const CHECKSUM: usize = 16;
const FIRST: u32 = 0x1234_5678;

/// The sum of the pseudo-header (RFC 9293, 3.1) for so many bytes of TCP; of a train it is without a length.
fn pseudo(length: u16) -> u16 {
    let [l0, l1] = length.to_be_bytes();
    sum([10, 9, 0, 1, 10, 9, 0, 2, 0, TCP, l0, l1].into_iter(), 0)
}

/// Fills in train `number`; what the card is to do with it.
pub fn fill(frame: &mut [u8], to: [u8; 6], from: [u8; 6], number: u32) -> Offload {
    addresses(frame, to, from, [0x08, 0x00]);
    let [p0, p1] = pseudo((20 + PAYLOAD) as u16).to_be_bytes();
    let [n0, n1, n2, n3] = FIRST.to_be_bytes();
    // Ports, sequence, acknowledgement, length of the header, PSH and ACK, window, checksum.
    let tcp = [0x30, 0x39, 0xd4, 0x31, n0, n1, n2, n3, 0, 0, 0, 1, 0x50, 0x18, 0x10, 0, p0, p1, 0, 0];
    let headers = internet_header((20 + 20 + PAYLOAD) as u16, TCP).into_iter().chain(tcp);
    for (byte, value) in frame.iter_mut().skip(HEADER).zip(headers) {
        *byte = value;
    }
    for (at, byte) in frame.iter_mut().skip(HEADERS).enumerate() {
        *byte = pattern(number, at);
    }
    let checksum = Checksum { start: (HEADER + 20) as u16, offset: CHECKSUM as u16 };
    Offload { checksum: Some(checksum), segment: Some(SEGMENT as u16), header: HEADERS as u16 }
}

/// Whether a frame is a segment of such a train.
pub fn is_segment(frame: &[u8]) -> bool {
    frame.get(12..HEADER) == Some(&[0x08, 0x00]) && frame.get(23) == Some(&TCP) && frame.len() >= HEADERS
}

/// Looks at the segment of train `number` that begins at byte `at` of its payload: the bytes that it has, if all of it is right.
pub fn check(frame: &[u8], number: u32, at: usize) -> Option<usize> {
    let bytes = SEGMENT.min(PAYLOAD - at);
    let (internet, tcp) = (frame.get(HEADER..HEADER + 20)?, frame.get(HEADER + 20..HEADERS + bytes)?);
    let length = u16::from_be_bytes([*internet.get(2)?, *internet.get(3)?]);
    let sequence = u32::from_be_bytes(*tcp.get(4..8)?.first_chunk()?);
    let right = usize::from(length) == 40 + bytes
        && sum(internet.iter().copied(), 0) == 0xffff
        && sum(tcp.iter().copied(), u32::from(pseudo((20 + bytes) as u16))) == 0xffff
        && sequence == FIRST.wrapping_add(at as u32)
        // Only the last segment pushes.
        && (tcp.get(13)? & 8 != 0) == (at + bytes == PAYLOAD);
    let payload = tcp.get(20..)?.iter().copied();
    (right && payload.eq((at..at + bytes).map(|at| pattern(number, at)))).then_some(bytes)
}
