//! Single steps (SDM vol. 3, 18.3.1.4) over plain instructions, and over those that a machine completes in software.

use super::apic;
use super::bits::DB;
use super::checks::Checks;
use super::memory::{self, APIC, NOTHING};
use super::run::register::{RAX, RCX, RDI, RDX, RSI};
use super::run::{Code, DR6_CLEAR, INTERRUPTS, Outcome, RESUME, Run, TRAP};
use crate::code;

/// DR6.BS.
const BS: u64 = 1 << 14;

pub fn run(checks: &mut Checks) {
    instructions(checks);
    repeated(checks);
    shadows(checks);
    exceptions(checks);
}

/// Runs step by step: a trap must come at each of these places (the code starts with TF set), and one after the RET.
pub fn steps(checks: &mut Checks, what: &str, run: Run, wanted: &[i64]) -> Outcome {
    let run = run.flags(TRAP).resume(&[1]);
    let places = wanted.iter().copied().chain([run.distance_of_end()]).map(|place| (DB, place));
    let mut all = [(DB, 0); 32];
    let count = all.iter_mut().zip(places).map(|(all, place)| *all = place).count();
    let run = checks.events(what, run, &all[..count]);
    for event in run.events() {
        checks.equal("DR6", event.dr6, DR6_CLEAR | BS);
        checks.equal("TF and RF in the flags that were saved", event.rflags & (TRAP | RESUME), TRAP);
    }
    run
}

fn instructions(checks: &mut Checks) {
    steps(checks, "plain instructions", Run::new(code!("nop", "xor eax, eax", "push rax", "pop rcx")), &[1, 3, 4, 5]);
    steps(checks, "CPUID", Run::new(code!("cpuid", "nop")), &[2, 3]);
    steps(checks, "RDMSR", Run::new(code!("rdmsr", "nop")).with(RCX, 0x1b), &[2, 3]);
    steps(checks, "RDTSC", Run::new(code!("rdtsc", "nop")), &[2, 3]);
    let msr = Run::new(code!("rdmsr", "wrmsr", "nop")).with(RCX, 0x277);
    steps(checks, "WRMSR", msr, &[2, 4, 5]);
    let ports = Run::new(code!("out dx, al", "in al, dx", "in eax, 0x80", "nop")).with(RDX, 0x80);
    steps(checks, "IN and OUT", ports, &[1, 2, 4, 5]);
    let registers = Run::new(code!("mov eax, [rdi]", "mov [rdi], eax", "and [rdi], eax", "nop"));
    steps(checks, "device registers", registers.with(RDI, APIC + 0x380), &[2, 4, 6, 7]);
    let control =
        Run::new(code!("mov rax, cr0", "mov cr0, rax", "mov rax, cr3", "mov cr3, rax", "mov rax, cr4", "mov cr4, rax"));
    steps(checks, "control registers", control, &[3, 6, 9, 12, 15, 18]);
    steps(checks, "CR8", Run::new(code!("mov rax, cr8", "mov cr8, rax", "nop")), &[4, 8, 9]);
    steps(checks, "CLTS, SMSW, LMSW", Run::new(code!("clts", "smsw rax", "lmsw ax", "nop")), &[2, 6, 9, 10]);
    steps(checks, "debug registers", Run::new(code!("mov rax, dr7", "mov dr7, rax", "nop")), &[3, 6, 7]);
    steps(checks, "WBINVD, PAUSE", Run::new(code!("wbinvd", "pause", "nop")), &[2, 4, 5]);
}

fn repeated(checks: &mut Checks) {
    let ram = memory::frame(0);
    let to =
        |code: Code, target: u64| Run::new(code).with(RDI, target).with(RCX, 3).with(RSI, ram + 64).with(RDX, 0x80);
    let three = [0, 0, 2, 3];
    for (what, run) in [
        ("REP STOSB to RAM", to(code!("rep stosb", "nop"), ram)),
        ("REP STOSD to a device", to(code!("rep stosd", "nop"), NOTHING)),
        ("REP MOVSD to a device", to(code!("rep movsd", "nop"), NOTHING)),
        ("REP OUTSB", to(code!("rep outsb", "nop"), ram)),
        ("REP INSB", to(code!("rep insb", "nop"), ram)),
    ] {
        let run = steps(checks, what, run, &three);
        for (event, left) in run.events().zip([2, 1, 0]) {
            checks.equal("RCX at each step", event.rcx, left);
        }
    }
    steps(checks, "REP STOSB of nothing", to(code!("rep stosb", "nop"), ram).with(RCX, 0), &[2, 3]);
    steps(checks, "REP OUTSB of nothing", to(code!("rep outsb", "nop"), ram).with(RCX, 0), &[2, 3]);
}

fn shadows(checks: &mut Checks) {
    // MOV SS puts the trap off until the next instruction has ended.
    steps(checks, "NOP, MOV SS", Run::new(code!("nop", "mov ss, eax", "nop", "nop")).with(RAX, 0x10), &[1, 4, 5]);
    steps(checks, "MOV SS", Run::new(code!("mov ss, eax", "nop", "nop")).with(RAX, 0x10), &[3, 4]);
    steps(checks, "MOV SS, CPUID", Run::new(code!("mov ss, eax", "cpuid", "nop")).with(RAX, 0x10), &[4, 5]);
    let register = Run::new(code!("mov ss, eax", "mov ebx, [rdi]", "nop")).with(RAX, 0x10).with(RDI, APIC + 0x20);
    steps(checks, "MOV SS, device register", register, &[4, 5]);
    steps(checks, "STI", Run::new(code!("sti", "cpuid", "cli")), &[1, 3, 4]);
    // The trap comes before an interrupt at the same place: its handler is entered first and is not interrupted.
    apic::interrupt_self(0x40);
    let run = Run::new(code!("cpuid"; "nop", "nop")).flags(INTERRUPTS).flags(TRAP).resume(&[1]);
    checks.events(
        "interrupt before the first step",
        run,
        &[(0x40, -2), (DB, 0), (DB, 1), (DB, 2), (DB, after_return(run))],
    );
    let run = Run::new(code!("mov [rdi], eax"; "nop", "nop")).with(RDI, APIC + 0x300).with(RAX, 0x4_4040);
    let run = run.flags(INTERRUPTS).flags(TRAP).resume(&[1]);
    checks.events("step, then interrupt", run, &[(DB, 0), (0x40, 0), (DB, 1), (DB, 2), (DB, after_return(run))]);
}

/// Where the step of the RET is, from the code's mark.
fn after_return(run: Run) -> i64 {
    run.distance_of_end()
}

fn exceptions(checks: &mut Checks) {
    // A faulting instruction is not stepped over.
    let run = Run::new(code!("nop", "rdmsr")).with(RCX, 0x12345).flags(TRAP).resume(&[1]);
    let run = checks.events("RDMSR that faults", run, &[(DB, 1), (13, 1)]);
    checks.equal("TF in the flags that the fault saved", run.end().rflags & TRAP, TRAP);
    checks.events("INT1", Run::new(code!(".byte 0xf1")).resume(&[1]), &[(DB, 1)]);
    let run = Run::new(code!(".byte 0xf1")).resume(&[1]).go();
    checks.equal("DR6 after INT1", run.event(0).dr6, DR6_CLEAR);
}
