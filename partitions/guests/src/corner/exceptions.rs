//! Exceptions with their vectors, error codes and saved RIP (SDM vol. 3, 6.15).

use super::bits::{AC, BP, DE, GP, NP, OF, SS, UD};
use super::checks::Checks;
use super::descriptors::{
    self, ABSENT_CODE, ABSENT_DATA, ABSENT_TASK, ABSENT_VECTOR, BEYOND, CONSTANT_DATA, EMPTY_VECTOR, EXECUTE_ONLY,
    KERNEL_VECTOR,
};
use super::memory;
use super::registers;
use super::run::register::{RAX, RBP, RCX, RDI};
use super::run::{ALIGNMENT, RESUME, Run};
use crate::code;

/// Error code: the selector is that of a gate.
const IDT: u32 = 2;
/// Error code: the selector is of the local descriptor table.
const LOCAL: u16 = 4;
/// CR0.AM.
const ALIGNMENT_MASK: u64 = 1 << 18;

/// Error code of a vector's gate.
const fn of_gate(vector: u8) -> u32 {
    (vector as u32 * 8) | IDT
}

pub fn run(checks: &mut Checks) {
    plain(checks);
    selectors(checks);
    gates(checks);
    addresses(checks);
    alignment(checks);
}

fn plain(checks: &mut Checks) {
    let run = checks.raises("UD2", Run::new(code!("nop"; "ud2")), UD, 0);
    checks.equal("RF in the flags that a fault saves", run.end().rflags & RESUME, RESUME);
    checks.raises("division by zero", Run::new(code!("nop"; "div ecx")), DE, 0);
    checks.raises("quotient too large", Run::new(code!("mov edx, 1"; "div ecx")).with(RCX, 1), DE, 0);
    checks.raises_at("INT3", Run::new(code!("int3")), 1, BP, 0);
    checks.raises_at("INT 3 in two bytes", Run::new(code!(".byte 0xcd, 3")), 2, BP, 0);
    checks.raises_at("INT 4", Run::new(code!("int 4")), 2, OF, 0);
    checks.raises("INTO in 64-bit mode", Run::new(code!("nop"; ".byte 0xce")), UD, 0);
    checks.raises("LOCK of a register", Run::new(code!("nop"; ".byte 0xf0, 0x01, 0xc0")), UD, 0);
    checks.raises("LOCK of MOV", Run::new(code!("nop"; ".byte 0xf0, 0x89, 0x07")).with(RDI, memory::frame(0)), UD, 0);
    checks.raises("16 bytes", Run::new(code!("nop"; ".fill 15, 1, 0x66", "nop")), GP, 0);
    let run = checks.raises_at("INT3 at CPL 3", Run::new(code!("int3")).user(), 1, BP, 0);
    checks.equal("RF in the flags that a trap saves", run.end().rflags & RESUME, 0);
    for (what, code) in [
        ("HLT", code!("hlt")),
        ("CLI", code!("cli")),
        ("IN", code!("in al, dx")),
        ("OUT", code!("out dx, al")),
        ("OUTSB", code!("outsb")),
        ("RDMSR", code!("rdmsr")),
        ("WRMSR", code!("wrmsr")),
        ("MOV from CR0", code!("mov rax, cr0")),
        ("MOV to CR8", code!("mov cr8, rax")),
        ("MOV from DR7", code!("mov rax, dr7")),
        ("INVLPG", code!("invlpg [rdi]")),
        ("INVD", code!("invd")),
        ("WBINVD", code!("wbinvd")),
        ("CLTS", code!("clts")),
        ("LGDT", code!("lgdt [rdi]")),
        ("LMSW", code!("lmsw ax")),
    ] {
        checks.raises(what, Run::new(code).user(), GP, 0);
    }
    checks.passes("CPUID at CPL 3", Run::new(code!("cpuid")).user());
    if registers::cpuid(1, 0, 2) & 1 << 5 == 0 {
        for (what, code) in
            [("VMCALL", code!("vmcall")), ("VMXOFF", code!("vmxoff")), ("VMREAD", code!("vmread rax, rcx"))]
        {
            checks.raises(what, Run::new(code), UD, 0);
            checks.raises(what, Run::new(code).user(), UD, 0);
        }
    }
    if registers::cpuid(1, 0, 2) & 1 << 3 == 0 {
        checks.raises("MONITOR", Run::new(code!("monitor")).with(RAX, memory::frame(0)), UD, 0);
        checks.raises("MWAIT", Run::new(code!("mwait")), UD, 0);
    }
}

fn selectors(checks: &mut Checks) {
    let load = |selector: u16| Run::new(code!("nop"; "mov ds, ax")).with(RAX, u64::from(selector));
    let stack = |selector: u16| Run::new(code!("nop"; "mov ss, ax")).with(RAX, u64::from(selector));
    checks.raises("selector beyond the table", load(BEYOND | 3), GP, BEYOND.into());
    checks.raises("selector without a local table", load(0x10 | LOCAL), GP, (0x10 | LOCAL).into());
    checks.raises("DS cannot be read", load(EXECUTE_ONLY), GP, EXECUTE_ONLY.into());
    checks.raises("DS not present", load(ABSENT_DATA), NP, ABSENT_DATA.into());
    checks.raises("SS not present", stack(ABSENT_DATA), SS, ABSENT_DATA.into());
    checks.raises("SS not writable", stack(CONSTANT_DATA), GP, CONSTANT_DATA.into());
    checks.raises("SS with another RPL", stack(descriptors::KERNEL_DATA | 3), GP, descriptors::KERNEL_DATA.into());
    checks.raises("SS null with RPL 3", stack(3), GP, 0);
    checks.raises(
        "LTR not present",
        Run::new(code!("nop"; "ltr ax")).with(RAX, ABSENT_TASK.into()),
        NP,
        ABSENT_TASK.into(),
    );
    checks.raises(
        "LTR of the busy task",
        Run::new(code!("nop"; "ltr ax")).with(RAX, descriptors::TASK.into()),
        GP,
        descriptors::TASK.into(),
    );
    let far = |selector: u16| Run::new(code!("push rax", "push rcx"; "retfq")).with(RAX, selector.into());
    checks.raises("far return to absent code", far(ABSENT_CODE), NP, ABSENT_CODE.into());
    checks.raises("far return to data", far(descriptors::KERNEL_DATA), GP, descriptors::KERNEL_DATA.into());
    checks.raises("far return to null", far(0), GP, 0);
    checks.raises("IRET with NT", Run::new(code!("pushfq", "or dword ptr [rsp], 0x4000", "popfq"; "iretq")), GP, 0);
}

fn gates(checks: &mut Checks) {
    checks.raises("INT by an absent gate", Run::new(code!("nop"; "int 0x90")), NP, of_gate(ABSENT_VECTOR));
    checks.raises("INT by no gate", Run::new(code!("nop"; "int 0x92")), GP, of_gate(EMPTY_VECTOR));
    checks.raises("INT by a gate of CPL 0", Run::new(code!("nop"; "int 0x91")).user(), GP, of_gate(KERNEL_VECTOR));
    // An event from outside of the program sets EXT (bit 0) in the error code of what its delivery meets.
    let [low, high] = descriptors::gate(UD);
    descriptors::with_gate(UD, [low & !descriptors::GATE_PRESENT, high], || {
        checks.raises("#UD by an absent gate", Run::new(code!("nop"; "ud2")), NP, of_gate(UD) | 1);
    });
    let beyond = low & !0xffff_0000 | u64::from(BEYOND) << 16;
    descriptors::with_gate(UD, [beyond, high], || {
        checks.raises("#UD by a gate to no segment", Run::new(code!("nop"; "ud2")), GP, u32::from(BEYOND) | 1);
    });
    let [low, high] = descriptors::gate(BP);
    descriptors::with_gate(BP, [low & !descriptors::GATE_PRESENT, high], || {
        checks.raises("INT3 by an absent gate", Run::new(code!("nop"; "int3")), NP, of_gate(BP));
    });
}

fn addresses(checks: &mut Checks) {
    const HOLE: u64 = 1 << 47;
    checks.raises("not canonical", Run::new(code!("nop"; "mov rax, [rdi]")).with(RDI, HOLE), GP, 0);
    checks.raises("not canonical, by RBP", Run::new(code!("nop"; "mov rax, [rbp]")).with(RBP, HOLE), SS, 0);
    checks.raises("not canonical, last byte", Run::new(code!("nop"; "mov rax, [rdi]")).with(RDI, HOLE - 4), GP, 0);
    checks.raises("jump to nowhere", Run::new(code!("nop"; "jmp rdi")).with(RDI, HOLE), GP, 0);
    // A stack that cannot be used for the exception itself either: #SS cannot be delivered, so a double fault is.
    let run =
        checks.raises("PUSH to nowhere", Run::new(code!("nop", "mov rsp, rdi"; "push rax")).with(RDI, HOLE + 8), 8, 0);
    checks.equal("events of it", run.count as u64, 1);
}

fn alignment(checks: &mut Checks) {
    registers::set_cr0(registers::cr0() | ALIGNMENT_MASK);
    let odd = memory::user_view(memory::frame(0)) + 1;
    let read = Run::new(code!("nop"; "mov eax, [rdi]")).with(RDI, odd);
    checks.raises("misaligned at CPL 3", read.user().flags(ALIGNMENT), AC, 0);
    checks.passes("misaligned without AC", read.user());
    checks.passes("misaligned at CPL 0", read.flags(ALIGNMENT));
    checks.passes("bytes at CPL 3", Run::new(code!("nop"; "mov al, [rdi]")).with(RDI, odd).user().flags(ALIGNMENT));
    // The check comes before the access: it does not matter that there is a device.
    let device = memory::map(0, memory::APIC | memory::PRESENT | memory::WRITABLE | memory::USER);
    let read = Run::new(code!("nop"; "mov eax, [rdi]")).with(RDI, device + 0x382);
    checks.raises("misaligned device register", read.user().flags(ALIGNMENT), AC, 0);
    memory::map(0, 0);
    registers::set_cr0(registers::cr0() & !ALIGNMENT_MASK);
}
