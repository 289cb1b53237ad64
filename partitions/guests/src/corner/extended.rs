//! Extended state: what XSAVE areas are like, and that registers keep their values while others use the processor (SDM vol. 1,
//! chapter 13).

use super::apic;
use super::bits::{CR0_EM, CR0_TS, CR4_OSFXSR, CR4_OSXSAVE, GP, NM, UD};
use super::checks::Checks;
use super::global::Global;
use super::registers::{self, cpuid};
use super::run::register::{RAX, RCX, RDI, RDX, RSI};
use super::run::{Code, Run};
use crate::code;
use crate::machine;

const SSE: u64 = 1 << 1;
const AVX: u64 = 1 << 2;
const AVX512: u64 = 7 << 5;
/// Bytes of the part of an area that all processors have: legacy region and header.
const MINIMUM: u64 = 576;
/// Where an area says which components it holds.
const HEADER: u64 = 512;
/// Times that all registers are loaded and looked at again.
const ROUNDS: u64 = 200;

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Area([u64; 512]);

static WRITTEN: Global<Area> = Global::new(Area([0; 512]));
static FOUND: Global<Area> = Global::new(Area([0; 512]));

pub fn run(checks: &mut Checks) {
    if cpuid(1, 0, 2) & 1 << 26 == 0 {
        checks.raises(
            "XSAVE that is not offered",
            Run::new(code!("nop"; "xsave [rdi]")).with(RDI, WRITTEN.address()),
            UD,
            0,
        );
        return;
    }
    let (cr0, cr4) = (registers::cr0(), registers::cr4());
    registers::set_cr0(cr0 & !(CR0_TS | CR0_EM));
    checks.raises("XSAVE without OSXSAVE", Run::new(code!("nop"; "xsave [rdi]")).with(RDI, WRITTEN.address()), UD, 0);
    registers::set_cr4(cr4 | CR4_OSFXSR | CR4_OSXSAVE);
    let offered = u64::from(cpuid(0xd, 0, 0)) | u64::from(cpuid(0xd, 0, 3)) << 32;
    sizes(checks, offered);
    components(checks, offered);
    areas(checks, offered);
    values(checks, offered);
    set_xcr0(1);
    registers::set_cr4(cr4);
    registers::set_cr0(cr0);
}

fn set_xcr0(value: u64) {
    Run::new(code!("xsetbv")).with(RAX, value & 0xffff_ffff).with(RDX, value >> 32).go();
}

/// The legal values of XCR0, from small to large.
fn legal(offered: u64) -> impl Iterator<Item = u64> {
    [1, 1 | SSE, 1 | SSE | AVX, 1 | SSE | AVX | AVX512].into_iter().filter(move |value| value & !offered == 0)
}

/// Bytes of the standard format with these components.
fn size(components: u64) -> u64 {
    let end = |component: u32| u64::from(cpuid(0xd, component, 0)) + u64::from(cpuid(0xd, component, 1));
    (2..63).filter(|component| components >> component & 1 != 0).map(end).fold(MINIMUM, u64::max)
}

fn sizes(checks: &mut Checks, offered: u64) {
    checks.equal("CPUID: size of all that is offered", cpuid(0xd, 0, 2).into(), size(offered));
    for value in legal(offered) {
        set_xcr0(value);
        checks.equal("CPUID: size of what XCR0 enables", cpuid(0xd, 0, 1).into(), size(value));
        checks.equal("CPUID: size of all does not change", cpuid(0xd, 0, 2).into(), size(offered));
    }
    checks.is("AVX has its component", (cpuid(1, 0, 2) >> 28 & 1 != 0) == (offered & AVX != 0));
    checks.is("AVX-512 has its components", cpuid(7, 0, 1) >> 16 & 1 == 0 || offered & AVX512 == AVX512);
}

fn components(checks: &mut Checks, offered: u64) {
    let avx = || Run::new(code!("nop"; "vxorps ymm0, ymm0, ymm0"));
    let avx512 = || Run::new(code!("nop"; "vpxord zmm0, zmm0, zmm0"));
    let masks = || Run::new(code!("nop"; "kxorw k1, k1, k1"));
    set_xcr0(1 | SSE);
    checks.raises("AVX that XCR0 disables", avx(), UD, 0);
    checks.raises("AVX-512 that XCR0 disables", avx512(), UD, 0);
    if offered & AVX != 0 {
        set_xcr0(1 | SSE | AVX);
        checks.passes("AVX", avx());
        checks.raises("AVX-512 with AVX", avx512(), UD, 0);
        checks.raises("mask registers with AVX", masks(), UD, 0);
        registers::set_cr0(registers::cr0() | CR0_TS);
        checks.raises("AVX with TS", avx(), NM, 0);
        registers::set_cr0(registers::cr0() & !CR0_TS);
        registers::set_cr4(registers::cr4() & !CR4_OSXSAVE);
        checks.raises("AVX without OSXSAVE", avx(), UD, 0);
        registers::set_cr4(registers::cr4() | CR4_OSXSAVE);
    }
    if offered & AVX512 == AVX512 {
        set_xcr0(1 | SSE | AVX | AVX512);
        checks.passes("AVX-512", avx512());
        checks.passes("mask registers", masks());
    }
}

fn with_mask(code: Code, mask: u64) -> Run {
    Run::new(code).with(RAX, mask & 0xffff_ffff).with(RDX, mask >> 32)
}

fn word(area: &Global<Area>, offset: u64) -> u64 {
    super::memory::read_u64(area.address() + offset)
}

fn set_word(area: &Global<Area>, offset: u64, value: u64) {
    super::memory::write_u64(area.address() + offset, value);
}

fn areas(checks: &mut Checks, offered: u64) {
    set_xcr0(1 | SSE);
    let restore = code!("nop"; "xrstor64 [rdi]");
    let load = |checks: &mut Checks, what: &str, run: Run| checks.raises(what, run.with(RDI, WRITTEN.address()), GP, 0);
    WRITTEN.set(Area([0; 512]));
    set_word(&WRITTEN, 24, 0x1f80);
    checks.passes("XRSTOR of initial state", with_mask(restore, 3).with(RDI, WRITTEN.address()));
    checks.raises("XRSTOR, misaligned", with_mask(restore, 3).with(RDI, WRITTEN.address() + 8), GP, 0);
    if offered & AVX != 0 {
        set_word(&WRITTEN, HEADER, AVX);
        load(checks, "XRSTOR of a component that XCR0 disables", with_mask(restore, 7));
    }
    set_word(&WRITTEN, HEADER, 1 << 62);
    load(checks, "XRSTOR of an unknown component", with_mask(restore, 3));
    set_word(&WRITTEN, HEADER, 0);
    set_word(&WRITTEN, HEADER + 16, 1);
    load(checks, "XRSTOR with a reserved byte", with_mask(restore, 3));
    set_word(&WRITTEN, HEADER + 16, 0);
    set_word(&WRITTEN, HEADER, 2);
    set_word(&WRITTEN, 24, 0xffff_1f80);
    load(checks, "XRSTOR with a reserved bit of MXCSR", with_mask(restore, 3));
}

/// A word of a pattern that is different everywhere, in every round and in every guest.
fn pattern(seed: u64, offset: u64) -> u64 {
    let mut value = seed ^ offset.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    value = (value ^ value >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
    value ^ value >> 29
}

/// Offsets of the 8-byte words of an area that are registers, with what is a register of them.
fn register_words(mask: u64) -> impl Iterator<Item = (u64, u64)> {
    // ST0 to ST7 have 10 bytes each, at distances of 16 (SDM vol. 1, table 10-2).
    let x87 = (0..8).flat_map(|index| [(32 + 16 * index, u64::MAX), (40 + 16 * index, 0xffff)]);
    let sse = (160..416).step_by(8).map(|offset| (offset, u64::MAX));
    let others = (2u32..8).filter(move |component| mask >> component & 1 != 0).flat_map(|component| {
        let start = u64::from(cpuid(0xd, component, 1));
        (start..start + u64::from(cpuid(0xd, component, 0))).step_by(8).map(|offset| (offset, u64::MAX))
    });
    x87.chain(sse).chain(others)
}

/// Every register holds a value of its own; exits, waiting, and another guest come in between; then they are looked at.
fn values(checks: &mut Checks, offered: u64) {
    let Some(mask) = legal(offered).last() else { return };
    set_xcr0(mask);
    let code = code!(
        "xrstor64 [rdi]",
        "mov r8, rax",
        "mov r9, rdx",
        "out 0x80, al",
        "xor eax, eax",
        "cpuid",
        "sti",
        "hlt",
        "cli",
        "mov rax, r8",
        "mov rdx, r9",
        "xsave64 [rsi]"
    );
    let (mut wrong, mut rounds) = (0u64, 0u64);
    for _ in 0..ROUNDS {
        let seed = machine::ticks();
        WRITTEN.set(Area([0; 512]));
        FOUND.set(Area([0; 512]));
        set_word(&WRITTEN, 0, 0x037f);
        set_word(&WRITTEN, 24, 0x1f80);
        set_word(&WRITTEN, HEADER, mask);
        for (offset, bits) in register_words(mask) {
            set_word(&WRITTEN, offset, pattern(seed, offset) & bits);
        }
        apic::interrupt_later(0x40, 1000);
        let run = with_mask(code, mask).with(RDI, WRITTEN.address()).with(RSI, FOUND.address()).with(RCX, 0).go();
        rounds += u64::from(run.count == 1);
        let differs = |(offset, bits): (u64, u64)| word(&FOUND, offset) & bits != word(&WRITTEN, offset) & bits;
        wrong += register_words(mask).filter(|place| differs(*place)).count() as u64;
    }
    apic::stop_timer();
    checks.equal("rounds in which all went as planned", rounds, ROUNDS);
    checks.equal("words of registers that had changed", wrong, 0);
}
