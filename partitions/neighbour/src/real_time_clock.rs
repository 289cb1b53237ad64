//! The real-time clock of a PC (Motorola MC146818A), as a source of interrupts.

use bulkhead_runtime::{Program, die, events, ports::PortRange};

/// Registers A, B and C: rate; which interrupts; which of them there was, until it is read.
const REGISTER_A: u8 = 0x0a;
const REGISTER_B: u8 = 0x0b;
const REGISTER_C: u8 = 0x0c;
/// Of register A: the oscillator runs, 8,192 periodic interrupts a second.
const FASTEST: u8 = 0x23;
/// Of register B: periodic interrupts, 24 hours.
const PERIODIC: u8 = 0x42;

fn clock(program: &Program) -> PortRange {
    match program.ports("rtc", 0) {
        Some(ports) => ports,
        None => die("it has no device `rtc`"),
    }
}

fn read(ports: PortRange, register: u8) -> u8 {
    let _ = ports.write_u8(0, register);
    ports.read_u8(1).unwrap_or(0)
}

fn write(ports: PortRange, register: u8, value: u8) {
    let _ = ports.write_u8(0, register);
    let _ = ports.write_u8(1, value);
}

/// Has the clock interrupt as often as it can, for ever.
pub fn interrupts(program: &Program) -> ! {
    let ports = clock(program);
    let Some(interrupt) = program.interrupt("rtc") else {
        die("the device `rtc` has no interrupt");
    };
    write(ports, REGISTER_A, FASTEST);
    write(ports, REGISTER_B, PERIODIC);
    loop {
        interrupt.attend(|| read(ports, REGISTER_C));
        events::wait(bulkhead_runtime::abi::NO_DEADLINE);
    }
}

/// Reads it for ever.
pub fn reads(program: &Program) -> ! {
    let ports = clock(program);
    loop {
        read(ports, REGISTER_A);
    }
}
