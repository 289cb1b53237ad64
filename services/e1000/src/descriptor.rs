//! Descriptors, two words of 64 bits each (3.2.3, 3.3). The first is the driver's; the card writes its status into the second.

use bulkhead_driver::{Checksum, MIN_FRAME};

/// Bytes of a descriptor.
pub const DESCRIPTOR_BYTES: usize = 16;

/// Done, in the status of both kinds.
const DONE: u64 = 1 << 32;

/// Received: the frame's last descriptor.
const END_OF_PACKET: u64 = 1 << 33;
/// Received: errors of CRC, symbol, sequence, carrier extension and data (3.2.3.2). Wrong checksums of IP, TCP and UDP are not among
/// them: they are the receiver's matter.
const ERRORS: u64 = 0b1001_0111 << 40;

/// Sent: given up after too many collisions, or after a late one (3.3.3.2).
const NOT_SENT: u64 = 0b110 << 32;

/// Command: the card adds the check sequence; more of the frame follows (3.3.3.1).
const PIECE: u64 = 0b0010 << 24;
/// Commands of the last descriptor of the frame, besides: it is that, and the card reports.
const LAST: u64 = 0b1001 << 24;
/// Command: not the legacy format (3.3).
const EXTENDED: u64 = 1 << 29;
/// Command of a context: TCP, otherwise UDP (3.3.6.1).
const TCP: u64 = 1 << 24;
/// Commands of a context: IPv4; both of it and of data: cut into segments.
const IPV4: u64 = 1 << 25;
const SEGMENTS: u64 = 1 << 26;
/// Type of an extended descriptor: data (3.3.7).
const DATA: u64 = 1 << 20;
/// Options of a data descriptor: fill in the checksum of TCP or UDP, and that of IP (3.3.7.3).
const FILL_IN: u64 = 1 << 41;
const FILL_IN_IP: u64 = 1 << 40;

/// Where TCP and UDP have their checksums.
const TCP_CHECKSUM: u16 = 16;
const UDP_CHECKSUM: u16 = 6;
/// Where IPv4 has its.
const IP_CHECKSUM: u8 = 10;

/// A descriptor that the card has filled (3.2.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Filled {
    /// Bytes in its buffer, as the card says.
    pub length: usize,
    /// It is the frame's last one.
    pub end: bool,
    /// The frame is damaged.
    pub error: bool,
}

/// What the card wrote into the second word of a receive descriptor, if it has.
pub const fn filled(word: u64) -> Option<Filled> {
    if word & DONE == 0 {
        return None;
    }
    Some(Filled { length: word as u16 as usize, end: word & END_OF_PACKET != 0, error: word & ERRORS != 0 })
}

/// What the card wrote into the second word of a frame's last transmit descriptor, if it has: whether the frame was sent.
pub const fn sent(word: u64) -> Option<bool> {
    if word & DONE == 0 { None } else { Some(word & NOT_SENT == 0) }
}

/// What is done to a frame, as the second words of its descriptors say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Nothing (3.3.3).
    Plain,
    /// A checksum is filled in (3.3.7).
    Checksum,
    /// It is cut into segments (3.5).
    Train,
}

/// The second word of the descriptor of a piece of a frame.
pub const fn piece(kind: Kind, length: u16, is_last: bool) -> u64 {
    let kind = match kind {
        Kind::Plain => 0,
        Kind::Checksum => FILL_IN | EXTENDED | DATA,
        Kind::Train => FILL_IN | FILL_IN_IP | EXTENDED | DATA | SEGMENTS,
    };
    kind | PIECE | if is_last { LAST } else { 0 } | length as u64
}

/// The words of the context of a frame with a checksum to be filled in, of so many bytes (3.3.6). `None` if the card cannot fill it in:
/// it is not that of TCP or UDP, does not lie in the frame, or lies beyond the first 256 bytes. The sum goes to the frame's end, TUCSE 0.
pub fn context(checksum: Checksum, length: usize) -> Option<[u64; 2]> {
    let protocol = match checksum.offset {
        TCP_CHECKSUM => TCP,
        UDP_CHECKSUM => 0,
        _ => return None,
    };
    let start = u8::try_from(checksum.start).ok()?;
    let place = u8::try_from(checksum.start.checked_add(checksum.offset)?).ok()?;
    let inside = usize::from(start) >= MIN_FRAME && usize::from(place) + 2 <= length;
    inside.then_some([u64::from(start) << 32 | u64::from(place) << 40, EXTENDED | protocol])
}

/// The words of the context of a train of segments (3.3.6): where its IP header begins and ends and has its checksum, the same of TCP,
/// bytes of all headers, of the whole payload, and of the payload of a segment.
pub fn train_context(ip: u8, tcp: u8, header: u8, payload: u32, size: u16) -> [u64; 2] {
    let ip_header = u64::from(ip) | u64::from(ip + IP_CHECKSUM) << 8 | u64::from(tcp - 1) << 16;
    let tcp_header = u64::from(tcp) << 32 | u64::from(tcp + TCP_CHECKSUM as u8) << 40;
    let lengths = u64::from(payload) | u64::from(header) << 40 | u64::from(size) << 48;
    [ip_header | tcp_header, EXTENDED | TCP | IPV4 | SEGMENTS | lengths]
}
