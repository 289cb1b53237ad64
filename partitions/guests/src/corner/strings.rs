//! INS and OUTS, alone and repeated, across pages and with a fault in the middle (SDM vol. 2, INS and OUTS).
//!
//! The port is that of the CMOS's data or of the self-test codes: a PC's port that can be read and written at will.

use super::bits::CR0_WP;
use super::checks::Checks;
use super::global::Global;
use super::memory::{self, PRESENT, WRITABLE, page};
use super::registers;
use super::run::register::{RCX, RDI, RDX, RSI};
use super::run::{Code, Frame, Run};
use crate::code;
use crate::machine::Ports;

const W: u32 = 1 << 1;
const P: u32 = 1 << 0;
/// Direction flag.
const DOWN: u64 = 1 << 10;
/// The scratch register of COM1, which keeps a byte.
const SCRATCH: u16 = 0x3ff;

pub fn run(checks: &mut Checks) {
    for index in 0..4 {
        memory::map_ram(index);
    }
    input(checks);
    output(checks);
    faults(checks);
    restart(checks);
    for index in 0..4 {
        memory::map(index, 0);
    }
}

fn string(code: Code, port: u16, address: u64, count: u64) -> Run {
    Run::new(code).with(RDX, port.into()).with(RDI, address).with(RSI, address).with(RCX, count)
}

fn byte(address: u64) -> u8 {
    (memory::read_u64(address & !7) >> (8 * (address & 7))) as u8
}

fn input(checks: &mut Checks) {
    Ports::write_u8(SCRATCH, 0x5a);
    memory::fill(page(0), 0x2000, 0);
    let start = page(1) - 5;
    let run = checks.passes("REP INSB across a page", string(code!("rep insb"), SCRATCH, start, 10));
    checks.equal("RCX", run.registers[RCX], 0);
    checks.equal("RDI", run.registers[RDI], start + 10);
    checks.is("all bytes", (0..10).all(|offset| byte(start + offset) == 0x5a));
    checks.equal("no more bytes", u64::from(byte(start - 1)) + u64::from(byte(start + 10)), 0);
    let run = checks.passes("REP INSB downwards", string(code!("rep insb"), SCRATCH, page(1) + 1, 4).flags(DOWN));
    checks.equal("RDI", run.registers[RDI], page(1) - 3);
    let run = checks.passes("INSB", string(code!("insb"), SCRATCH, page(0), 7));
    checks.equal("RCX is not used", run.registers[RCX], 7);
    let run = checks.passes("REP INSB of nothing", string(code!("rep insb"), SCRATCH, page(0), 0));
    checks.equal("RDI", run.registers[RDI], page(0));
    // 32-bit addresses: the registers' upper halves are cleared by what changes them.
    let low = memory::frame(0);
    let run = checks.passes(
        "REP INSB with ECX and EDI",
        string(code!("rep ins byte ptr es:[edi], dx"), SCRATCH, low | 7 << 32, 2 | 1 << 32),
    );
    checks.equal("RCX", run.registers[RCX], 0);
    checks.equal("RDI", run.registers[RDI], low + 2);
    // An element that itself lies on both sides.
    memory::fill(page(0), 0x2000, 0);
    let value = Ports::read_u32(SCRATCH - 3);
    checks.passes("INSD across a page", string(code!("insd"), SCRATCH - 3, page(1) - 1, 1));
    let stored = (0..4).fold(0, |value, offset| value | u64::from(byte(page(1) - 1 + offset)) << (8 * offset));
    checks.equal("its highest byte is the scratch register's", stored >> 24, u64::from(value >> 24));
    // To a device.
    let device = memory::map(3, memory::APIC | PRESENT | WRITABLE) + 0x380;
    let run = checks.passes("INSD to a device", string(code!("insd"), SCRATCH - 3, device, 1));
    checks.equal(
        "the device has it",
        u64::from(super::apic::read(super::apic::INITIAL_COUNT) >> 24),
        u64::from(value >> 24),
    );
    checks.equal("RDI", run.registers[RDI], device + 4);
    memory::map_ram(3);
    super::apic::stop_timer();
}

fn output(checks: &mut Checks) {
    let start = page(1) - 3;
    for offset in 0..8 {
        memory::fill(start + offset, 1, 0x40 + offset as u8);
    }
    let run = checks.passes("REP OUTSB across a page", string(code!("rep outsb"), SCRATCH, start, 8));
    checks.equal("RCX", run.registers[RCX], 0);
    checks.equal("RSI", run.registers[RSI], start + 8);
    checks.equal("the last byte is the port's", Ports::read_u8(SCRATCH).into(), 0x47);
    let run = checks.passes("REP OUTSB downwards", string(code!("rep outsb"), SCRATCH, start + 7, 8).flags(DOWN));
    checks.equal("RSI", run.registers[RSI], start - 1);
    checks.equal("the first byte is the port's", Ports::read_u8(SCRATCH).into(), 0x40);
    // By another segment: FS with a base.
    registers::set_msr(0xc000_0100, 0x100);
    checks.passes("OUTSB by FS", string(code!("outs dx, byte ptr fs:[rsi]"), SCRATCH, start + 4 - 0x100, 1));
    checks.equal("the byte is that of FS", Ports::read_u8(SCRATCH).into(), 0x44);
    registers::set_msr(0xc000_0100, 0);
    // Many, in more than one go if need be.
    let run = checks.passes("REP OUTSB, 5000 times", string(code!("rep outsb"), 0x80, page(0), 5000));
    checks.equal("RSI", run.registers[RSI], page(0) + 5000);
    // From a device.
    let device = memory::map(3, memory::APIC | PRESENT | WRITABLE) + 0x380;
    super::apic::write(super::apic::INITIAL_COUNT, 0x77);
    checks.passes("OUTSB from a device", string(code!("outsb"), SCRATCH, device, 1));
    checks.equal("the port has it", Ports::read_u8(SCRATCH).into(), 0x77);
    memory::map_ram(3);
    super::apic::stop_timer();
}

fn faults(checks: &mut Checks) {
    memory::map(1, 0);
    let start = page(1) - 6;
    let run = string(code!("nop"; "rep insw"), SCRATCH - 1, start, 5);
    let run = checks.page_fault("REP INSW to an absent page", run, W, page(1));
    checks.equal("RCX", run.registers[RCX], 2);
    checks.equal("RDI", run.registers[RDI], page(1));
    let run = checks.page_fault(
        "REP OUTSW from an absent page",
        string(code!("nop"; "rep outsw"), 0x80, start, 5),
        0,
        page(1),
    );
    checks.equal("RCX", run.registers[RCX], 2);
    checks.equal("RSI", run.registers[RSI], page(1));
    // An element that begins before the page.
    let run = checks.page_fault(
        "INSD into an absent page",
        string(code!("nop"; "insd"), SCRATCH - 3, page(1) - 1, 1),
        W,
        page(1),
    );
    checks.equal("RDI", run.registers[RDI], page(1) - 1);
    checks.page_fault("OUTSD into an absent page", string(code!("nop"; "outsd"), 0x80, page(1) - 1, 1), 0, page(1));
    memory::map(1, memory::frame(1) | PRESENT);
    registers::set_cr0(registers::cr0() | CR0_WP);
    checks.page_fault("INSB to a read-only page", string(code!("nop"; "insb"), SCRATCH, page(1), 1), P | W, page(1));
    checks.passes("OUTSB from a read-only page", string(code!("nop"; "outsb"), SCRATCH, page(1), 1));
    registers::set_cr0(registers::cr0() & !CR0_WP);
    let hole = 1 << 47;
    checks.raises("INSB to nowhere", string(code!("nop"; "insb"), SCRATCH, hole, 1), 13, 0);
    checks.raises("OUTSB from nowhere", string(code!("nop"; "outsb"), SCRATCH, hole, 1), 13, 0);
    memory::map_ram(1);
}

static FAULTS: Global<u32> = Global::new(0);

/// Maps the page that is absent, so that the instruction can go on.
fn mend(frame: &mut Frame) {
    if frame.vector == 14 {
        FAULTS.set(FAULTS.get() + 1);
        memory::map_ram((registers::cr2() >> 12) - (page(0) >> 12));
    }
}

fn restart(checks: &mut Checks) {
    for (what, code, port) in [("REP INSB", code!("rep insb"), SCRATCH), ("REP OUTSB", code!("rep outsb"), 0x80)] {
        memory::map(1, 0);
        memory::map(2, 0);
        Ports::write_u8(SCRATCH, 0xa7);
        FAULTS.set(0);
        let run = string(code, port, page(1) - 16, 4096 + 32).resume(&[14]).hook(mend).go();
        checks.equal(what, FAULTS.get().into(), 2);
        checks.equal(what, run.registers[RCX], 0);
        checks.equal("the faults' RCX", run.event(0).rcx << 16 | run.event(1).rcx, (4096 + 16) << 16 | 16);
        checks.is("it came to its end", !run.stopped);
    }
    checks.is("all bytes", (0..4096 + 32).all(|offset| byte(page(1) - 16 + offset) == 0xa7));
}
