//! Time, by channel 2 of the PIT: every PC has it, and its rate needs no measuring. Only the boot processor uses it.

use crate::machine::Ports;

/// Counts a second.
const RATE: u64 = 1_193_182;
const CHANNEL_2: u16 = 0x42;
const MODE: u16 = 0x43;
/// Gate (bit 0), loudspeaker (bit 1), and the channel's output (bit 5).
const CONTROL: u16 = 0x61;
const OUTPUT: u8 = 1 << 5;

/// Starts the counter; [`is_over`] tells when it has counted that far, at most 54 milliseconds.
pub fn begin(microseconds: u64) {
    let counts = (microseconds * RATE / 1_000_000).clamp(2, 0xffff) as u16;
    let closed = Ports::read_u8(CONTROL) & !3;
    Ports::write_u8(CONTROL, closed);
    // Channel 2, both bytes, mode 0: the output rises at the end.
    Ports::write_u8(MODE, 0xb0);
    Ports::write_u8(CHANNEL_2, counts as u8);
    Ports::write_u8(CHANNEL_2, (counts >> 8) as u8);
    Ports::write_u8(CONTROL, closed | 1);
}

/// Whether the time that began is over.
pub fn is_over() -> bool {
    Ports::read_u8(CONTROL) & OUTPUT != 0
}

/// Waits, at most 54 milliseconds.
pub fn microseconds(count: u64) {
    begin(count);
    while !is_over() {
        core::hint::spin_loop();
    }
}
