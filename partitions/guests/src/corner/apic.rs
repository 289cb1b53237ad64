//! The local APIC, as far as tests interrupt themselves by it.

use super::memory::APIC;
use crate::machine::{Ports, read_register, write_register};

/// Offsets of its registers.
const IDENTIFIER: u32 = 0x20;
const END_OF_INTERRUPT: u32 = 0xb0;
const SPURIOUS: u32 = 0xf0;
const COMMAND_LOW: u32 = 0x300;
const COMMAND_HIGH: u32 = 0x310;
const TIMER: u32 = 0x320;
/// Initial count of the timer: with the timer masked, 32 bits that keep what is written.
pub const INITIAL_COUNT: u32 = 0x380;
const DIVIDE: u32 = 0x3e0;

/// Where the I/O APIC is.
const IO_APIC: u32 = 0xfec0_0000;
const MASKED: u32 = 1 << 16;
const NMI: u32 = 4 << 8;

/// Reads a register.
pub fn read(register: u32) -> u32 {
    read_register(APIC as u32 + register)
}

/// Writes a register.
pub fn write(register: u32, value: u32) {
    write_register(APIC as u32 + register, value);
}

/// Enables it, with everything masked, as is what comes by way of the old interrupt controllers.
pub fn install() {
    Ports::write_u8(0x21, 0xff);
    Ports::write_u8(0xa1, 0xff);
    write(SPURIOUS, 0x1ff);
    write(TIMER, MASKED);
    write(DIVIDE, 0xb);
}

/// The last interrupt is served.
pub fn end_of_interrupt() {
    write(END_OF_INTERRUPT, 0);
}

/// Interrupts this processor.
pub fn interrupt_self(vector: u8) {
    send(u32::from(vector));
}

/// Sends an NMI to this processor.
pub fn nmi_self() {
    send(NMI);
}

fn send(command: u32) {
    write(COMMAND_HIGH, read(IDENTIFIER));
    write(COMMAND_LOW, command | 1 << 14);
}

/// Asks for an NMI some milliseconds later: from channel 0 of the 8254, by pin 2 of the I/O APIC, whose entry says NMI.
pub fn nmi_later() {
    let entry = |index: u32, value: u32| {
        write_register(IO_APIC, 0x10 + 2 * 2 + index);
        write_register(IO_APIC + 0x10, value);
    };
    entry(1, read(IDENTIFIER));
    entry(0, NMI);
    // Mode 0: the output rises when the count ends.
    for (port, value) in [(0x43, 0x30), (0x40, 0x00), (0x40, 0x20)] {
        Ports::write_u8(port, value);
    }
}

/// No interrupts from the 8254 any more.
pub fn stop_nmi() {
    write_register(IO_APIC, 0x10 + 2 * 2);
    write_register(IO_APIC + 0x10, MASKED);
}

/// Asks for an interrupt after so many ticks of the timer.
pub fn interrupt_later(vector: u8, ticks: u32) {
    write(TIMER, u32::from(vector));
    write(INITIAL_COUNT, ticks);
}

/// No timer any more.
pub fn stop_timer() {
    write(TIMER, MASKED);
    write(INITIAL_COUNT, 0);
}
