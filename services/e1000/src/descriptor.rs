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

/// Commands: last descriptor of the frame, card adds the check sequence, card reports (3.3.3.1).
const SEND: u64 = 0b1011 << 24;
/// Command: not the legacy format (3.3).
const EXTENDED: u64 = 1 << 29;
/// Command of a context: TCP, otherwise UDP (3.3.6.1).
const TCP: u64 = 1 << 24;
/// Type of an extended descriptor: data (3.3.7).
const DATA: u64 = 1 << 20;
/// Option of a data descriptor: fill in the checksum of TCP or UDP (3.3.7.3).
const FILL_IN: u64 = 1 << 41;

/// Where TCP and UDP have their checksums.
const TCP_CHECKSUM: u16 = 16;
const UDP_CHECKSUM: u16 = 6;

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

/// The second word of the descriptor of a frame as it is (3.3.3).
pub const fn plain(length: u16) -> u64 {
    SEND | length as u64
}

/// The second word of the descriptor of a frame with a checksum to be filled in (3.3.7).
pub const fn with_checksum(length: u16) -> u64 {
    FILL_IN | EXTENDED | SEND | DATA | length as u64
}

/// The words of the context of such a frame, of so many bytes (3.3.6). `None` if the card cannot fill it in: it is not that of TCP or
/// UDP, does not lie in the frame, or lies beyond the first 256 bytes. The sum goes to the frame's end, TUCSE 0.
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
