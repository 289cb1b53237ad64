//! Every common form of instruction with an operand in memory.

use super::super::run::register::R8;
use super::{ARITHMETIC, DEVICE, EMPTY, RAM, map, same, unmap};
use crate::code;
use crate::corner::apic::{self, INITIAL_COUNT};
use crate::corner::checks::Checks;
use crate::corner::memory::{self, page};
use crate::corner::registers::cpuid;
use crate::corner::run::register::{RAX, RCX, RDI, RDX, RSI};
use crate::corner::run::{Code, Outcome, Run};

/// A form, in operand sizes of 1, 2, 4 and 8 bytes.
type Form = (&'static str, [Code; 4]);

/// Flags that multiplications leave defined, and bit tests.
const CARRY_AND_OVERFLOW: u64 = 0x801;
const CARRY: u64 = 1;
/// Flags that shifts leave defined, whatever the count.
const SHIFTED: u64 = 0xc5;
/// Flags that rotations by more than one bit leave defined or as they were.
const ROTATED: u64 = 0xd5;

/// The size of 4 bytes.
const DWORD: usize = 2;

/// `op memory, register`.
macro_rules! to_memory {
    ($($op:literal)*) => { [$( ($op, [
        code!(concat!($op, " [rdi], al")), code!(concat!($op, " [rdi], ax")),
        code!(concat!($op, " [rdi], eax")), code!(concat!($op, " [rdi], rax")),
    ]) ),*] };
}

/// `op register, memory`.
macro_rules! from_memory {
    ($($op:literal)*) => { [$( ($op, [
        code!(concat!($op, " al, [rdi]")), code!(concat!($op, " ax, [rdi]")),
        code!(concat!($op, " eax, [rdi]")), code!(concat!($op, " rax, [rdi]")),
    ]) ),*] };
}

/// `op memory, immediate`, or without one.
macro_rules! on_memory {
    ($($op:literal $rest:literal)*) => { [$( (concat!($op, " on memory", $rest), [
        code!(concat!($op, " byte ptr [rdi]", $rest)), code!(concat!($op, " word ptr [rdi]", $rest)),
        code!(concat!($op, " dword ptr [rdi]", $rest)), code!(concat!($op, " qword ptr [rdi]", $rest)),
    ]) ),*] };
}

/// Forms that exist for 2, 4 and 8 bytes only.
macro_rules! wide {
    ($($op:literal)*) => { [$( ($op, [
        code!("nop"), code!(concat!($op, " ax, [rdi]")), code!(concat!($op, " eax, [rdi]")), code!(concat!($op, " rax, [rdi]")),
    ]) ),*] };
}

/// Bit tests: memory first, 2, 4 and 8 bytes only.
macro_rules! bits {
    ($($op:literal)*) => { [$( ($op, [
        code!("nop"), code!(concat!($op, " [rdi], cx")), code!(concat!($op, " [rdi], ecx")), code!(concat!($op, " [rdi], rcx")),
    ]) ),*] };
}

/// String instructions, by the letter of their size.
macro_rules! strings {
    ($($op:literal)*) => { [$( ($op, [
        code!(concat!($op, "b")), code!(concat!($op, "w")), code!(concat!($op, "d")), code!(concat!($op, "q")),
    ]) ),*] };
}

pub fn run(checks: &mut Checks) {
    map();
    each(checks, &to_memory!["mov" "add" "adc" "sub" "sbb" "and" "or" "xor" "cmp" "test" "xchg" "xadd"]);
    each(checks, &to_memory!["lock add" "lock or" "lock and" "lock xadd" "lock sbb"]);
    each(checks, &from_memory!["mov" "add" "adc" "sub" "sbb" "and" "or" "xor" "cmp" "xchg"]);
    each(checks, &on_memory!["mov" ", 0x5a" "add" ", 0x7f" "adc" ", -1" "sub" ", 1" "sbb" ", 0x55" "and" ", 0x0f"]);
    each(checks, &on_memory!["or" ", -128" "xor" ", 0x3c" "cmp" ", 0x11" "test" ", 0x70"]);
    each(checks, &on_memory!["inc" "" "dec" "" "neg" "" "not" "" "lock inc" "" "lock neg" ""]);
    defined(checks, SHIFTED, &on_memory!["shl" ", 3" "shr" ", 1" "sar" ", 7" "shl" ", cl" "sar" ", cl"]);
    defined(checks, ROTATED, &on_memory!["rol" ", 5" "ror" ", 9"]);
    each(checks, &wide!["cmovc" "cmovnz" "cmovle" "cmovs"]);
    if cpuid(1, 0, 2) & 1 << 22 != 0 {
        each(checks, &wide!["movbe"]);
    }
    defined(checks, CARRY_AND_OVERFLOW, &wide!["imul"]);
    defined(checks, CARRY, &bits!["bt" "bts" "btr" "btc" "lock bts"]);
    each(
        checks,
        &[(
            "cmpxchg",
            [
                code!("cmpxchg [rdi], cl"),
                code!("cmpxchg [rdi], cx"),
                code!("cmpxchg [rdi], ecx"),
                code!("lock cmpxchg [rdi], rcx"),
            ],
        )],
    );
    each(
        checks,
        &[(
            "PUSH, POP",
            [
                code!("nop"),
                code!("push word ptr [rdi]", "pop dx", "push ax", "pop word ptr [rdi]"),
                code!("nop"),
                code!("push qword ptr [rdi]", "pop rdx", "push rax", "pop qword ptr [rdi]"),
            ],
        )],
    );
    for (what, code) in [
        ("MOV from AH", code!("mov [rdi], ah")),
        ("ADD to CH", code!("add ch, [rdi]")),
        ("MOV to DH", code!("mov dh, [rdi]")),
        ("XCHG of BH", code!("xchg bh, [rdi]")),
        ("MOV from R8B", code!("mov [rdi], r8b")),
        ("MOV to SIL", code!("mov sil, [rdi]", "mov rdx, rsi", "mov rsi, rcx")),
    ] {
        on_nothing(checks, what, code, ARITHMETIC);
    }
    each(checks, &strings!["stos" "lods" "scas" "movs" "cmps"]);
    each(checks, &strings!["rep stos" "rep lods" "repe scas" "repne scas" "rep movs" "repe cmps" "repne cmps"]);
    from_device(checks);
    widening(checks);
    eight_bytes(checks);
    unmap();
}

/// Runs each form on nothing in all sizes, and on the APIC's register in the one that it has.
fn each(checks: &mut Checks, forms: &[Form]) {
    defined(checks, ARITHMETIC, forms);
}

/// The same for instructions that leave only some of the flags defined.
fn defined(checks: &mut Checks, flags: u64, forms: &[Form]) {
    for (what, codes) in forms {
        for (size, code) in codes.iter().enumerate() {
            on_nothing(checks, what, *code, flags);
            if size == DWORD && !what.starts_with("rep") {
                on_register(checks, what, *code, flags);
            }
        }
    }
}

/// Registers to start from, such that carries, signs and matches all happen.
fn states() -> impl Iterator<Item = (u64, u64, u64)> {
    [(0, 3, 0), (0x80, 2, 1), (0x7fff_ffff_ffff_ffff, 5, 1), (0x1234_5678_9abc_def0, 7, 0), (u64::MAX, 4, 1)]
        .into_iter()
}

fn attempt(code: Code, address: u64, (rax, rcx, carry): (u64, u64, u64)) -> Outcome {
    let run =
        Run::new(code).with(RDI, address).with(RSI, memory::frame(6)).with(RAX, rax).with(RCX, rcx).with(RDX, rax);
    run.with(R8, 5).flags(carry).go()
}

fn compare(checks: &mut Checks, what: &str, device: &Outcome, ram: &Outcome, flags: u64) {
    let ok = same(device, ram, flags) && device.registers[RDI].wrapping_sub(ram.registers[RDI]) & 0xfff == 0;
    checks.is(what, ok && device.registers[RSI] == ram.registers[RSI]);
}

fn on_nothing(checks: &mut Checks, what: &str, code: Code, flags: u64) {
    let empty = memory::read_u64(page(EMPTY)) as u8;
    memory::fill(memory::frame(6), 64, empty);
    memory::fill(memory::frame(6) + 16, 8, 0x3c);
    for state in states() {
        memory::fill(page(RAM) + 0x300, 0x100, empty);
        let ram = attempt(code, page(RAM) + 0x380, state);
        let device = attempt(code, page(EMPTY) + 0x380, state);
        compare(checks, what, &device, &ram, flags);
    }
}

fn on_register(checks: &mut Checks, what: &str, code: Code, flags: u64) {
    memory::fill(memory::frame(6), 64, 0x9a);
    for content in [0x8000_0001, 0x5555_aaaa, 0x9abc_def0u32] {
        for (rax, rcx, carry) in states() {
            // The register is all there is: no bit offsets that leave it.
            let state = (rax, rcx & 31, carry);
            memory::write_u64(page(RAM) + 0x380, content.into());
            apic::write(INITIAL_COUNT, content);
            let ram = attempt(code, page(RAM) + 0x380, state);
            let device = attempt(code, page(DEVICE) + 0x380, state);
            compare(checks, what, &device, &ram, flags);
            checks.equal(what, apic::read(INITIAL_COUNT).into(), memory::read_u64(page(RAM) + 0x380) & 0xffff_ffff);
        }
    }
    apic::stop_timer();
}

/// MOVS and LODS that read the device.
fn from_device(checks: &mut Checks) {
    apic::write(INITIAL_COUNT, 0x1357_9bdf);
    memory::write_u64(page(RAM), 0);
    let register = page(DEVICE) + 0x380;
    let run = checks.passes("MOVSD from a device", Run::new(code!("movsd")).with(RSI, register).with(RDI, page(RAM)));
    checks.equal("what it moved", memory::read_u64(page(RAM)), 0x1357_9bdf);
    checks.equal("RSI and RDI", run.registers[RSI] - register + (run.registers[RDI] - page(RAM)) * 16, 4 + 4 * 16);
    let run = checks.passes("LODSD, downwards", Run::new(code!("lodsd")).with(RSI, register).flags(1 << 10));
    checks.equal("what it loaded", run.registers[RAX], 0x1357_9bdf);
    checks.equal("RSI", run.registers[RSI], register - 4);
    let run = Run::new(code!("movsd")).with(RSI, register).with(RDI, register);
    checks.passes("MOVSD from a device to itself", run);
    checks.equal("what it moved", apic::read(INITIAL_COUNT).into(), 0x1357_9bdf);
    apic::stop_timer();
}

/// Moves with extension, and conditional sets.
fn widening(checks: &mut Checks) {
    for (what, code) in [
        ("MOVZX 1 to 2", code!("movzx ax, byte ptr [rdi]")),
        ("MOVZX 1 to 4", code!("movzx eax, byte ptr [rdi]")),
        ("MOVZX 1 to 8", code!("movzx rax, byte ptr [rdi]")),
        ("MOVZX 2 to 4", code!("movzx eax, word ptr [rdi]")),
        ("MOVZX 2 to 8", code!("movzx rax, word ptr [rdi]")),
        ("MOVSX 1 to 2", code!("movsx ax, byte ptr [rdi]")),
        ("MOVSX 1 to 4", code!("movsx eax, byte ptr [rdi]")),
        ("MOVSX 1 to 8", code!("movsx rax, byte ptr [rdi]")),
        ("MOVSX 2 to 4", code!("movsx eax, word ptr [rdi]")),
        ("MOVSX 2 to 8", code!("movsx rax, word ptr [rdi]")),
        ("MOVSXD", code!("movsxd rax, dword ptr [rdi]")),
        ("SETC", code!("setc byte ptr [rdi]")),
        ("SETNZ", code!("setnz byte ptr [rdi]")),
        ("MOVNTI", code!("movnti [rdi], eax")),
        ("PREFETCHT0", code!("prefetcht0 [rdi]")),
        ("NOP", code!("nop dword ptr [rdi]")),
    ] {
        on_nothing(checks, what, code, ARITHMETIC);
    }
}

fn eight_bytes(checks: &mut Checks) {
    on_nothing(checks, "CMPXCHG8B", code!("cmpxchg8b [rdi]"), ARITHMETIC);
    on_nothing(checks, "LOCK CMPXCHG8B", code!("mov edx, eax", "lock cmpxchg8b [rdi]"), ARITHMETIC);
}
