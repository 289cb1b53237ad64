//! Model-specific registers: unknown ones, memory types, and the time-stamp counter (SDM vol. 4, table
//! 2-2; vol. 3, 12.11, 12.12 and 18.17).

use super::bits::{GP, UD};
use super::checks::Checks;
use super::registers::{self, cpuid};
use super::run::Run;
use super::run::register::{RAX, RBX, RCX, RDX};
use crate::code;

const TSC: u32 = 0x10;
const TSC_ADJUST: u32 = 0x3b;
const MTRR_CAPABILITIES: u32 = 0xfe;
const MTRR_BASE: u32 = 0x200;
const MTRR_MASK: u32 = 0x201;
const MTRR_FIXED: u32 = 0x250;
const PAT: u32 = 0x277;
const MTRR_DEFAULT: u32 = 0x2ff;
const STAR: u32 = 0xc000_0081;
const LSTAR: u32 = 0xc000_0082;
const FMASK: u32 = 0xc000_0084;
const FS_BASE: u32 = 0xc000_0100;
const KERNEL_GS_BASE: u32 = 0xc000_0102;
const TSC_AUX: u32 = 0xc000_0103;
const SYSENTER_CS: u32 = 0x174;
const SYSENTER_EIP: u32 = 0x176;

pub fn run(checks: &mut Checks) {
    unknown(checks);
    state(checks);
    memory_types(checks);
    time(checks);
    auxiliary(checks);
}

pub fn read(index: u32) -> Run {
    Run::new(code!("nop"; "rdmsr")).with(RCX, index.into())
}

fn write(index: u32, value: u64) -> Run {
    Run::new(code!("nop"; "wrmsr")).with(RCX, index.into()).with(RAX, value & 0xffff_ffff).with(RDX, value >> 32)
}

/// Writes a value that is kept, and puts the old one back.
fn keeps(checks: &mut Checks, what: &str, index: u32, value: u64) {
    let old = registers::msr(index);
    checks.passes(what, write(index, value));
    checks.equal(what, registers::msr(index), value);
    registers::set_msr(index, old);
}

pub fn refuses(checks: &mut Checks, what: &str, index: u32, value: u64) {
    let old = registers::msr(index);
    checks.raises(what, write(index, value), GP, 0);
    checks.equal(what, registers::msr(index), old);
}

fn unknown(checks: &mut Checks) {
    // Numbers that no processor has used, at the edges of the ranges that VMX has bitmaps for, and outside of them.
    for index in
        [0x5, 0x1fff, 0x2000, 0x12345, 0x3fff_ffff, 0x7fff_ffff, 0xbfff_ffff, 0xc000_1fff, 0xc000_2000, u32::MAX]
    {
        let run = checks.raises("RDMSR of nothing", read(index).with(RAX, 1).with(RDX, 2), GP, 0);
        checks.equal("EAX and EDX stay", run.registers[RAX] << 8 | run.registers[RDX], 0x102);
        checks.raises("WRMSR of nothing", write(index, 0), GP, 0);
    }
    let run = checks.passes("RDMSR clears upper halves", read(PAT).with(RAX, u64::MAX).with(RDX, u64::MAX));
    checks.equal("RAX and RDX", (run.registers[RAX] | run.registers[RDX]) >> 32, 0);
    let run = write(TSC_ADJUST, 0).with(RCX, u64::from(PAT) | 0xff << 32);
    let pat = registers::msr(PAT);
    checks.passes("the index is ECX alone", run.with(RAX, pat & 0xffff_ffff).with(RDX, pat >> 32));
}

fn state(checks: &mut Checks) {
    const HOLE: u64 = 1 << 47;
    for index in [LSTAR, FS_BASE, KERNEL_GS_BASE, SYSENTER_EIP] {
        keeps(checks, "a linear address", index, 0xffff_8000_1234_5678);
        refuses(checks, "no linear address", index, HOLE);
    }
    keeps(checks, "STAR", STAR, 0x0018_0008_1234_5678);
    keeps(checks, "FMASK", FMASK, 0x4_7700);
    keeps(checks, "SYSENTER_CS", SYSENTER_CS, 0x8);
    // SYSCALL goes where LSTAR says, with the flags that FMASK names cleared, and saves RIP and RFLAGS.
    let efer = registers::msr(registers::EFER);
    registers::set_msr(registers::EFER, efer | 1);
    registers::set_msr(STAR, 0x0008 << 32);
    let code = code!("stc", "syscall", "nop"; "mov rbx, r11");
    registers::set_msr(LSTAR, code.mark);
    registers::set_msr(FMASK, 1);
    let run = checks.passes("SYSCALL", Run::new(code));
    checks.equal("RCX of SYSCALL", run.registers[RCX], code.mark - 1);
    checks.equal("R11 of SYSCALL", run.registers[RBX] & 1, 1);
    checks.equal("flags after SYSCALL", run.rflags & 1, 0);
    registers::set_msr(registers::EFER, efer);
}

fn memory_types(checks: &mut Checks) {
    keeps(checks, "PAT", PAT, 0x0001_0405_0607_0406);
    for kind in [2, 3, 8, 0x80] {
        refuses(checks, "PAT: a reserved type", PAT, 0x0007_0406_0007_0400 | kind);
        refuses(checks, "PAT: a reserved type", PAT, 0x0007_0406_0007_0406 | kind << 56);
    }
    if cpuid(1, 0, 3) & 1 << 12 == 0 {
        return;
    }
    let capabilities = registers::msr(MTRR_CAPABILITIES);
    checks.raises("MTRRCAP is read-only", write(MTRR_CAPABILITIES, capabilities), GP, 0);
    let width = cpuid(0x8000_0008, 0, 0) & 0xff;
    let highest = 1 << (width - 1);
    keeps(checks, "MTRR base", MTRR_BASE, highest | 6);
    keeps(checks, "MTRR mask", MTRR_MASK, highest | 1 << 11);
    for value in [2, 3, 7, 0x100, 0x800, 1 << width] {
        refuses(checks, "MTRR base", MTRR_BASE, value);
    }
    for value in [1, 0x400, 1 << width] {
        refuses(checks, "MTRR mask", MTRR_MASK, value);
    }
    if capabilities >> 8 & 1 != 0 {
        keeps(checks, "fixed MTRR", MTRR_FIXED, 0x0605_0401_0006_0605);
        refuses(checks, "fixed MTRR", MTRR_FIXED, 0x0605_0401_0006_0602);
    }
    let kept = registers::msr(MTRR_DEFAULT);
    refuses(checks, "default memory type", MTRR_DEFAULT, kept & !0xff | 2);
    refuses(checks, "default memory type", MTRR_DEFAULT, kept | 1 << 12);
    refuses(checks, "default memory type", MTRR_DEFAULT, kept | 1 << 63);
    let first = (capabilities & 0xff) as u32 * 2 + MTRR_BASE;
    if first < MTRR_FIXED {
        checks.raises("a variable range beyond the last", read(first), GP, 0);
    }
}

fn ticks() -> u64 {
    crate::machine::ticks()
}

/// More ticks than pass between two readings here, and fewer than the tests move the counter by.
const MOMENT: u64 = 1 << 32;

fn time(checks: &mut Checks) {
    let near = |value: u64, wanted: u64| value.wrapping_sub(wanted) < MOMENT;
    let before = ticks();
    checks.is("RDTSC and RDMSR agree", near(registers::msr(TSC), before));
    let later = before + (1 << 40);
    registers::set_msr(TSC, later);
    checks.is("the TSC can be written", near(ticks(), later));
    checks.is("RDMSR agrees", near(registers::msr(TSC), later));
    if cpuid(7, 0, 1) & 1 << 1 != 0 {
        let adjust = registers::msr(TSC_ADJUST);
        checks.is("the write moved TSC_ADJUST", near(adjust.wrapping_add(MOMENT), 1 << 40));
        // TSC and adjustment move by the same amount.
        registers::set_msr(TSC_ADJUST, adjust.wrapping_add(3 << 40));
        checks.is("TSC_ADJUST moves the TSC", near(ticks(), later + (3 << 40)));
        checks.equal("TSC_ADJUST reads back", registers::msr(TSC_ADJUST), adjust.wrapping_add(3 << 40));
        registers::set_msr(TSC_ADJUST, 0);
        checks.is("without adjustment the TSC is as before", near(ticks(), before));
    }
    // A write keeps all 64 bits on processors of the last twenty years, and time goes on from there.
    registers::set_msr(TSC, 0);
    checks.is("the TSC can start again", ticks() < MOMENT);
    registers::set_msr(TSC, before);
    let run =
        checks.passes("RDTSC clears upper halves", Run::new(code!("rdtsc")).with(RAX, u64::MAX).with(RDX, u64::MAX));
    checks.equal("RAX and RDX", (run.registers[RAX] | run.registers[RDX]) >> 32, 0);
}

fn auxiliary(checks: &mut Checks) {
    if cpuid(7, 0, 1) & 1 << 10 == 0 {
        let descriptor = super::memory::frame(0);
        super::memory::fill(descriptor, 16, 0);
        let invalidate = Run::new(code!("nop"; "invpcid rax, [rdi]")).with(super::run::register::RDI, descriptor);
        checks.raises("INVPCID that is not offered", invalidate.with(RAX, 2), UD, 0);
    }
    if cpuid(7, 0, 2) & 1 << 22 == 0 {
        checks.raises("RDPID that is not offered", Run::new(code!("nop"; "rdpid rax")), UD, 0);
    }
    let rdtscp = Run::new(code!("nop"; "rdtscp"));
    if cpuid(0x8000_0001, 0, 3) & 1 << 27 == 0 {
        checks.raises("RDTSCP that is not offered", rdtscp, UD, 0);
        checks.raises("TSC_AUX that is not offered", read(TSC_AUX), GP, 0);
        return;
    }
    keeps(checks, "TSC_AUX", TSC_AUX, 0x1234_5678);
    // That the upper half cannot be written is not checked: Bochs 2.7 by itself ignores a write of 1 << 32 without #GP.
    registers::set_msr(TSC_AUX, 0x77);
    let run = checks.passes("RDTSCP", rdtscp.user());
    checks.equal("ECX of RDTSCP", run.registers[RCX], 0x77);
}
