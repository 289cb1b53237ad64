//! Frames whose contents say what they must be.

use bulkhead_driver::Checksum;

/// Bytes of an Ethernet header, and of a frame without and with the most payload (IEEE 802.3, 3.2.7).
pub const HEADER: usize = 14;
pub const SHORTEST: usize = 60;
pub const LONGEST: usize = 1514;
/// A type for experiments (IEEE 802, 9.2.3), and IPv4.
const EXPERIMENT: [u8; 2] = [0x88, 0xb5];
const IPV4: [u8; 2] = [0x08, 0x00];
/// Where in a UDP datagram over IPv4 things are: the datagram, its checksum, its payload.
const UDP: usize = HEADER + 20;
const UDP_CHECKSUM: usize = 6;
const UDP_PAYLOAD: usize = UDP + 8;

/// The byte at a place of frame `number`.
pub fn pattern(number: u32, at: usize) -> u8 {
    let mixed = (number.wrapping_mul(0x9e37_79b1) ^ at as u32).wrapping_mul(0x85eb_ca6b);
    (mixed >> 24) as u8
}

/// Fills in the header of a frame.
pub fn addresses(frame: &mut [u8], to: [u8; 6], from: [u8; 6], kind: [u8; 2]) {
    for (byte, value) in frame.iter_mut().zip(to.into_iter().chain(from).chain(kind)) {
        *byte = value;
    }
}

/// Fills a frame of its own kind: number, then a pattern.
pub fn fill(frame: &mut [u8], to: [u8; 6], from: [u8; 6], number: u32) {
    addresses(frame, to, from, EXPERIMENT);
    for (at, byte) in frame.iter_mut().enumerate().skip(HEADER) {
        *byte = pattern(number, at);
    }
    for (byte, value) in frame.iter_mut().skip(HEADER).zip(number.to_be_bytes()) {
        *byte = value;
    }
}

/// Whether a frame that arrived is this one.
pub fn is_right(frame: &[u8], to: [u8; 6], from: [u8; 6], number: u32, length: usize) -> bool {
    let header = to.into_iter().chain(from).chain(EXPERIMENT).chain(number.to_be_bytes());
    let rest = (HEADER + 4..length).map(|at| pattern(number, at));
    frame.len() == length && frame.iter().copied().eq(header.chain(rest))
}

/// Whether a frame is of that kind at all, and between these two: others are on the network, too.
pub fn is_for(frame: &[u8], to: [u8; 6], from: [u8; 6]) -> bool {
    let header = to.into_iter().chain(from).chain(EXPERIMENT);
    frame.iter().copied().take(HEADER).eq(header)
}

/// The sum of 16-bit words (RFC 1071), not complemented.
pub fn sum(bytes: impl Iterator<Item = u8>, begin: u32) -> u16 {
    let mut total = begin;
    for (at, byte) in bytes.enumerate() {
        total += u32::from(byte) << if at % 2 == 0 { 8 } else { 0 };
        total = (total & 0xffff) + (total >> 16);
    }
    total as u16
}

/// An IPv4 header (RFC 791, 3.1) of a packet from 10.9.0.1 to 10.9.0.2 of so many bytes.
pub fn internet_header(bytes: u16, protocol: u8) -> [u8; 20] {
    let [b0, b1] = bytes.to_be_bytes();
    let mut header = [0x45, 0, b0, b1, 0, 0, 0x40, 0, 64, protocol, 0, 0, 10, 9, 0, 1, 10, 9, 0, 2];
    let [c0, c1] = (!sum(header.into_iter(), 0)).to_be_bytes();
    [header[10], header[11]] = [c0, c1];
    header
}

/// Fills a frame with a UDP datagram over IPv4 whose checksum the card is to fill in; where.
pub fn fill_datagram(frame: &mut [u8], to: [u8; 6], from: [u8; 6], number: u32) -> Checksum {
    addresses(frame, to, from, IPV4);
    let total = (frame.len() - HEADER) as u16;
    let [u0, u1] = (total - 20).to_be_bytes();
    let ip = internet_header(total, 17);
    let [p0, p1] = pseudo(total - 20).to_be_bytes();
    let udp = [0x30, 0x39, 0xd4, 0x31, u0, u1, p0, p1];
    for (byte, value) in frame.iter_mut().skip(HEADER).zip(ip.into_iter().chain(udp)) {
        *byte = value;
    }
    for (at, byte) in frame.iter_mut().enumerate().skip(UDP_PAYLOAD) {
        *byte = pattern(number, at);
    }
    Checksum { start: UDP as u16, offset: UDP_CHECKSUM as u16 }
}

/// The sum of the pseudo-header (RFC 768) of the addresses above.
fn pseudo(length: u16) -> u16 {
    let [l0, l1] = length.to_be_bytes();
    sum([10, 9, 0, 1, 10, 9, 0, 2, 0, 17, l0, l1].into_iter(), 0)
}

/// Whether a frame is such a datagram.
pub fn is_datagram(frame: &[u8]) -> bool {
    frame.get(12..HEADER) == Some(&IPV4) && frame.get(23) == Some(&17)
}

/// Whether its checksum and payload are right.
pub fn datagram_is_right(frame: &[u8], number: u32, length: usize) -> bool {
    let covered = frame.get(UDP..).unwrap_or_default();
    let payload = frame.iter().copied().enumerate().skip(UDP_PAYLOAD);
    frame.len() == length
        && sum(covered.iter().copied(), u32::from(pseudo((length - UDP) as u16))) == 0xffff
        && payload.into_iter().all(|(at, byte)| byte == pattern(number, at))
}

/// Asks who has 10.0.2.2, where QEMU's network has its gateway (RFC 826), as 10.0.2.`last`.
pub fn fill_question(frame: &mut [u8], from: [u8; 6], last: u8) {
    frame.fill(0);
    addresses(frame, [0xff; 6], from, [0x08, 0x06]);
    let [f0, f1, f2, f3, f4, f5] = from;
    let question = [0, 1, 8, 0, 6, 4, 0, 1, f0, f1, f2, f3, f4, f5, 10, 0, 2, last, 0, 0, 0, 0, 0, 0, 10, 0, 2, 2];
    for (byte, value) in frame.iter_mut().skip(HEADER).zip(question) {
        *byte = value;
    }
}

/// Whether a frame answers that.
pub fn is_answer(frame: &[u8], to: [u8; 6]) -> bool {
    frame.get(..6) == Some(&to)
        && frame.get(12..14) == Some(&[0x08, 0x06])
        && frame.get(20..22) == Some(&[0, 2])
        && frame.get(28..32) == Some(&[10, 0, 2, 2])
}
