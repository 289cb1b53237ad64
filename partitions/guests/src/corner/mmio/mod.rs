//! Instructions on device registers do what they do on RAM: each runs on both, from the same state, and registers, flags and
//! memory must be the same afterwards. Only the processor itself says what is right.
//!
//! Two kinds of device memory: the initial count of the local APIC's timer keeps 32 bits, as RAM would; and where a machine has
//! nothing, accesses of any size read one fixed value and forget what they write.

pub mod forms;

use super::apic::{self, INITIAL_COUNT};
use super::checks::Checks;
use super::memory::{self, APIC, NOTHING, PRESENT, WRITABLE, page};
use super::run::register::{RAX, RBX, RCX, RDI, RDX, RSI};
use super::run::{Outcome, Run};
use crate::code;

/// Pages of the arena: RAM, the APIC, nothing, RAM.
const RAM: u64 = 0;
const DEVICE: u64 = 1;
const EMPTY: u64 = 2;
const AFTER: u64 = 3;
/// Arithmetic flags.
const ARITHMETIC: u64 = 0x8d5;

/// Maps the pages of the tests.
fn map() {
    memory::map_ram(RAM);
    memory::map(DEVICE, APIC | PRESENT | WRITABLE);
    memory::map(EMPTY, NOTHING | PRESENT | WRITABLE);
    memory::map_ram(AFTER);
}

fn unmap() {
    for index in RAM..=AFTER {
        memory::map(index, 0);
    }
}

/// Whether two runs left the same, but for the addresses that differ from the start. `flags`: those that count.
fn same(left: &Outcome, right: &Outcome, flags: u64) -> bool {
    let registers = [RAX, RCX, RDX, RBX].iter().all(|register| left.registers[*register] == right.registers[*register]);
    registers && left.count == 0 && right.count == 0 && (left.rflags ^ right.rflags) & flags == 0
}

pub fn run(checks: &mut Checks) {
    map();
    addressing(checks);
    halves(checks);
    checks.equal(
        "nothing reads the same everywhere",
        memory::read_u64(page(EMPTY) + 8),
        memory::read_u64(page(EMPTY) + 0xf00),
    );
    unmap();
}

/// All ways to say where the operand is.
fn addressing(checks: &mut Checks) {
    const VALUE: u32 = 0x89ab_cdef;
    apic::write(INITIAL_COUNT, VALUE);
    let device = page(DEVICE) + u64::from(INITIAL_COUNT);
    let low = APIC + u64::from(INITIAL_COUNT);
    for (what, code, base, index) in [
        ("base", code!("mov eax, [rdi]"), device, 0),
        ("base and 8 bits", code!("mov eax, [rdi + 0x70]"), device - 0x70, 0),
        ("base and -8 bits", code!("mov eax, [rdi - 0x80]"), device + 0x80, 0),
        ("base and 32 bits", code!("mov eax, [rdi + 0x12345678]"), device - 0x1234_5678, 0),
        ("index", code!("mov eax, [rdi + rcx]"), device - 0x33, 0x33),
        ("index times 2", code!("mov eax, [rdi + rcx * 2 + 4]"), device - 4 - 0x66, 0x33),
        ("index times 4", code!("mov eax, [rdi + rcx * 4 - 4]"), device + 4 - 0xcc, 0x33),
        ("index times 8", code!("mov eax, [rcx * 8 + rdi]"), device - 0x198, 0x33),
        ("negative index", code!("mov eax, [rdi + rcx * 8]"), device + 0x80, (-16i64) as u64),
        ("index alone", code!("mov eax, [rcx * 4]"), 0, device / 4),
        ("R13", code!("mov r13, rdi", "mov eax, [r13]"), device, 0),
        ("R12", code!("mov r12, rdi", "mov eax, [r12 + rcx * 1]"), device - 1, 1),
        ("R8 and R9", code!("mov r8, rdi", "mov r9, rcx", "mov eax, [r8 + r9 * 8 + 8]"), device - 0x88, 0x10),
        ("RBP", code!("mov rbp, rdi", "mov eax, [rbp + 4]"), device - 4, 0),
        ("RSP", code!("mov rbx, rsp", "mov rsp, rdi", "mov eax, [rsp + 8]", "mov rsp, rbx"), device - 8, 0),
        ("32 bits", code!("mov eax, [edi]"), low | 1 << 32, 0),
        ("32 bits with a wrap", code!("mov eax, [edi + ecx + 8]"), low, (-8i64) as u64 & 0xffff_ffff),
        ("an absolute address", code!(".byte 0xa1", ".quad 0xfee00380"), 0, 0),
        ("an absolute address of 32 bits", code!(".byte 0x67, 0xa1", ".long 0xfee00380"), 0, 0),
        ("a negative displacement", code!("mov eax, [rdi - 0x01000000]"), device + 0x0100_0000, 0),
    ] {
        let run = checks.passes(what, Run::new(code).with(RDI, base).with(RCX, index));
        checks.equal(what, run.registers[RAX], VALUE.into());
    }
    super::registers::set_msr(0xc000_0100, device - 0x40);
    let run = checks.passes("FS", Run::new(code!("mov eax, fs:[rdi]")).with(RDI, 0x40));
    checks.equal("FS", run.registers[RAX], VALUE.into());
    super::registers::set_msr(0xc000_0100, 0);
    // At CPL 3.
    memory::map(DEVICE, APIC | PRESENT | WRITABLE | memory::USER);
    let run = checks.passes("CPL 3", Run::new(code!("mov eax, [rdi]")).with(RDI, device).user());
    checks.equal("CPL 3", run.registers[RAX], VALUE.into());
    memory::map(DEVICE, APIC | PRESENT | WRITABLE);
    apic::stop_timer();
}

/// Operands of which one part is RAM and the other nothing, as against RAM with the same contents.
fn halves(checks: &mut Checks) {
    let empty = memory::read_u64(page(EMPTY));
    let forms = [
        ("MOV of 2", 2, code!("mov ax, [rdi]")),
        ("MOV of 4", 4, code!("mov eax, [rdi]")),
        ("MOV of 8", 8, code!("mov rax, [rdi]")),
        ("MOV to 2", 2, code!("mov [rdi], ax")),
        ("MOV to 4", 4, code!("mov [rdi], eax")),
        ("MOV to 8", 8, code!("mov [rdi], rax")),
        ("ADD to 8", 8, code!("add [rdi], rax")),
        ("XCHG of 4", 4, code!("xchg [rdi], eax")),
        ("CMPXCHG of 8", 8, code!("cmpxchg [rdi], rcx")),
        ("MOVSQ", 8, code!("movsq")),
        ("STOSQ", 8, code!("stosq")),
        ("CMPSQ", 8, code!("cmpsq")),
        ("PUSH and POP", 8, code!("push [rdi]", "pop rdx")),
    ];
    // The RAM on both sides of the boundary: the one that is compared with, and the halves.
    let plain = page(8);
    for index in 8..10 {
        memory::map_ram(index);
    }
    for (what, width, code) in forms {
        for within in 1..width {
            // RAM before nothing, and nothing before RAM.
            for ram_first in [true, false] {
                let ram = if ram_first { RAM } else { AFTER };
                memory::map(4, if ram_first { memory::frame(ram) } else { NOTHING } | PRESENT | WRITABLE);
                memory::map(5, if ram_first { NOTHING } else { memory::frame(ram) } | PRESENT | WRITABLE);
                memory::fill(memory::frame(ram), 4096, 0xc5);
                memory::fill(plain, 8192, 0xc5);
                memory::fill(if ram_first { plain + 4096 } else { plain }, 4096, empty as u8);
                let start = |base: u64| {
                    let address = base + 4096 - within;
                    let run = Run::new(code).with(RDI, address).with(RSI, memory::frame(6));
                    run.with(RAX, 0x1122_3344_5566_7788).with(RCX, 0x99aa).go()
                };
                let (split, whole) = (start(page(4)), start(plain));
                checks.is(what, same(&split, &whole, ARITHMETIC));
                let half = if ram_first { 4088 } else { 0 };
                let compared = if ram_first { plain + 4088 } else { plain + 4096 };
                checks.equal(what, memory::read_u64(memory::frame(ram) + half), memory::read_u64(compared));
            }
        }
    }
    for index in 4..10 {
        memory::map(index, 0);
    }
}
