//! Trains of TCP segments over IPv4, which the card cuts (3.5).

use crate::descriptor::train_context;
use bulkhead_driver::{Checksum, DmaMemory, MAX_FRAME, MIN_FRAME};

/// Most bytes: an IPv4 packet of 65,535 bytes behind the frame's header.
pub const MAX_TRAIN: usize = 65_535 + MIN_FRAME;

/// Offsets in an IPv4 header: total length, protocol, checksum, addresses (RFC 791, 3.1).
const TOTAL_LENGTH: usize = 2;
const PROTOCOL: usize = 9;
const IP_CHECKSUM: usize = 10;
const ADDRESSES: usize = 12;
const TCP: u8 = 6;
/// Offsets in a TCP header: its length in words of 32 bits, in the upper half of the byte; checksum (RFC 9293, 3.1).
const DATA_OFFSET: usize = 12;
const TCP_CHECKSUM: usize = 16;
/// Fewest bytes of either header.
const MIN_HEADER: usize = 20;

/// A train whose headers are as the card needs them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Train {
    /// Where TCP begins.
    tcp: u8,
    /// Bytes of all headers.
    header: u8,
    /// Bytes behind them, and in each segment.
    payload: u32,
    size: u16,
    /// Sum of the pseudo-header without a length, which the card adds for each segment.
    pseudo_header: u16,
}

impl Train {
    /// Looks at the headers; `None` if the card cannot cut this. What the sender says of the headers' length is not looked at.
    pub fn of(frame: &[u8], checksum: Checksum, size: u16) -> Option<Self> {
        let tcp = usize::from(checksum.start);
        let ip_header = frame.get(MIN_FRAME..tcp)?;
        let is_ipv4 = frame.get(MIN_FRAME - 2..MIN_FRAME)? == [0x08, 0x00];
        // The first byte holds the version, and the header's length in words.
        let length_fits = ip_header.len() >= MIN_HEADER && ip_header.first()? ^ 0x40 == (ip_header.len() / 4) as u8;
        let is_tcp = *ip_header.get(PROTOCOL)? == TCP && usize::from(checksum.offset) == TCP_CHECKSUM;
        let tcp_length = usize::from(frame.get(tcp + DATA_OFFSET)? >> 4) * 4;
        let header = tcp + tcp_length;
        let payload = frame.len().checked_sub(header).filter(|payload| *payload != 0)?;
        let segment_fits = size != 0 && header + usize::from(size) <= MAX_FRAME && frame.len() <= MAX_TRAIN;
        if !is_ipv4
            || !length_fits
            || !ip_header.len().is_multiple_of(4)
            || !is_tcp
            || tcp_length < MIN_HEADER
            || !segment_fits
        {
            return None;
        }
        let addresses = ip_header.get(ADDRESSES..MIN_HEADER)?.as_chunks::<2>().0;
        let sum = addresses.iter().fold(u32::from(TCP), |sum, pair| sum + u32::from(u16::from_be_bytes(*pair)));
        let sum = (sum & 0xffff) + (sum >> 16);
        Some(Self {
            tcp: u8::try_from(tcp).ok()?,
            header: u8::try_from(header).ok()?,
            payload: payload as u32,
            size,
            pseudo_header: ((sum & 0xffff) + (sum >> 16)) as u16,
        })
    }

    /// The words of its context.
    pub fn context(&self) -> [u64; 2] {
        train_context(MIN_FRAME as u8, self.tcp, self.header, self.payload, self.size)
    }

    /// Changes the headers in the buffer for the card: what it writes itself is 0.
    pub fn prepare(&self, buffer: &DmaMemory<'_>) {
        buffer.write_u16(MIN_FRAME + TOTAL_LENGTH, 0);
        buffer.write_u16(MIN_FRAME + IP_CHECKSUM, 0);
        buffer.write_u16(usize::from(self.tcp) + TCP_CHECKSUM, self.pseudo_header.swap_bytes());
    }
}
