//! Interrupts and NMIs: the shadow of STI and MOV SS, blocking of NMIs until IRET, what comes first (SDM vol. 3, 6.7, 6.8
//! and 6.9).

use super::apic;
use super::checks::Checks;
use super::global::Global;
use super::memory::APIC;
use super::registers;
use super::run::register::{RAX, RDI};
use super::run::{Code, Frame, INTERRUPTS, Run};
use crate::code;
use crate::machine::Ports;

const NMI: u8 = 2;
const FIRST: u8 = 0x40;
const SECOND: u8 = 0x51;
/// A port where nothing answers but the machine.
const SELF_TEST: u64 = 0x80;

pub fn run(checks: &mut Checks) {
    shadow(checks);
    window(checks);
    priorities(checks);
    nmis(checks);
}

/// Runs with an interrupt waiting from the start; it must come at these places.
fn waiting(checks: &mut Checks, what: &str, code: Code, wanted: &[(u8, i64)]) {
    apic::interrupt_self(FIRST);
    let run = Run::new(code).with(RAX, 0x10).with(RDI, APIC + 0x20).with(super::run::register::RDX, SELF_TEST);
    checks.events(what, run, wanted);
}

fn shadow(checks: &mut Checks) {
    waiting(checks, "STI, NOP", code!("sti"; "nop", "nop"), &[(FIRST, 1)]);
    waiting(checks, "STI, STI, NOP", code!("sti"; "sti", "nop", "nop"), &[(FIRST, 1)]);
    waiting(checks, "STI, CPUID", code!("sti"; "cpuid", "nop"), &[(FIRST, 2)]);
    waiting(checks, "STI, OUT", code!("sti"; "out dx, al", "nop"), &[(FIRST, 1)]);
    waiting(checks, "STI, device read", code!("sti"; "mov eax, [rdi]", "nop"), &[(FIRST, 2)]);
    waiting(checks, "STI, HLT", code!("sti"; "hlt", "nop"), &[(FIRST, 1)]);
    waiting(checks, "STI, MOV from CR0", code!("sti"; "mov rbx, cr0", "mov cr0, rbx", "nop"), &[(FIRST, 3)]);
    waiting(checks, "POPFQ has no shadow", code!("push 0x202", "popfq"; "nop", "nop"), &[(FIRST, 0)]);
    // STI, CLI lets nothing in; the interrupt stays.
    waiting(checks, "STI, CLI", code!("sti", "cli", "nop", "nop"), &[]);
    let run = Run::new(code!("sti"; "nop", "nop"));
    checks.events("what STI, CLI kept back", run, &[(FIRST, 1)]);
    // MOV SS holds the interrupt back for one more instruction, from an emulated one on, too.
    let after_sti = "STI, MOV SS, CPUID";
    apic::interrupt_self(FIRST);
    let run = Run::new(code!("push 0x202", "cli", "mov ss, eax"; "popfq", "cpuid", "nop")).with(RAX, 0x10);
    checks.events(after_sti, run, &[(FIRST, 1)]);
}

/// An interrupt that arrives while the program's own instruction is being completed elsewhere comes right after it.
fn window(checks: &mut Checks) {
    let write = Run::new(code!("sti", "nop"; "mov [rdi], eax", "nop", "nop")).with(RDI, APIC + 0x300);
    let run = write.with(RAX, 0x4_4000 | u64::from(FIRST));
    checks.events("interrupt by a write to the APIC", run, &[(FIRST, 2)]);
    // Several wait: each comes before the next instruction of the program, the higher class first.
    apic::interrupt_self(FIRST);
    apic::interrupt_self(SECOND);
    checks.events("two interrupts", Run::new(code!("sti"; "nop", "nop")), &[(SECOND, 1), (FIRST, 1)]);
}

fn priorities(checks: &mut Checks) {
    const TASK_PRIORITY: u32 = 0x80;
    // CR8 holds classes up to its value back. It is raised first: raising it while an interrupt waits makes that spurious.
    checks.passes("MOV to CR8", Run::new(code!("mov cr8, rax")).with(RAX, 4));
    apic::interrupt_self(FIRST);
    let run = Run::new(code!("sti", "nop", "nop"));
    checks.events("CR8 of the same class", run, &[]);
    checks.equal("TPR shows CR8", apic::read(TASK_PRIORITY).into(), 0x40);
    let run = Run::new(code!("sti", "nop", "mov cr8, rax"; "nop", "nop")).with(RAX, 3);
    checks.events("CR8 below it", run, &[(FIRST, 0)]);
    apic::write(TASK_PRIORITY, 0x20);
    let run = checks.passes("MOV from CR8", Run::new(code!("mov rax, cr8")));
    checks.equal("CR8 shows TPR", run.registers[RAX], 2);
    checks.passes("CR8 is 0 again", Run::new(code!("mov cr8, rax")));
    checks.raises("reserved bits of CR8", Run::new(code!("nop"; "mov cr8, rax")).with(RAX, 16), 13, 0);
}

static DEPTH: Global<u32> = Global::new(0);
static DEEPEST: Global<u32> = Global::new(0);
static SENT: Global<u32> = Global::new(0);

/// In the handler of the first NMI, `action`; counts how deep handlers nest.
fn in_first_nmi(frame: &Frame, action: impl FnOnce()) {
    if frame.vector != NMI.into() {
        return;
    }
    DEPTH.set(DEPTH.get() + 1);
    DEEPEST.set(DEEPEST.get().max(DEPTH.get()));
    if SENT.get() == 0 {
        SENT.set(1);
        action();
        // Time for what was sent to arrive.
        for _ in 0..3 {
            Ports::read_u8(SELF_TEST as u16);
        }
    }
    DEPTH.set(DEPTH.get() - 1);
}

fn start() {
    DEEPEST.set(0);
    SENT.set(0);
}

fn nmis(checks: &mut Checks) {
    let send = Run::new(code!("nop"; "mov [rdi], eax", "nop", "nop")).with(RDI, APIC + 0x300).with(RAX, 0x4400);
    let send = send.resume(&[2]);
    checks.events("NMI to oneself", send, &[(NMI, 2)]);
    // A second one, sent from the handler, waits for the handler's IRET, and comes before the next instruction.
    start();
    let run = send.hook(|frame| in_first_nmi(frame, apic::nmi_self));
    checks.events("NMI in an NMI", run, &[(NMI, 2), (NMI, 2)]);
    checks.equal("nested handlers", DEEPEST.get().into(), 1);
    // Two that are sent there are one.
    start();
    let run = send.hook(|frame| {
        in_first_nmi(frame, || {
            apic::nmi_self();
            apic::nmi_self();
        })
    });
    checks.events("two NMIs in an NMI", run, &[(NMI, 2), (NMI, 2)]);
    // The IRET of any other handler ends the blocking early.
    start();
    let run = send.resume(&[3]).hook(|frame| {
        in_first_nmi(frame, || {
            apic::nmi_self();
            registers::breakpoint();
        });
    });
    let run = run.go();
    checks.equal("events with an IRET in the handler", run.count as u64, 3);
    checks.equal("the second is the breakpoint", run.event(1).vector.into(), 3);
    checks.equal("the third is the other NMI", run.event(2).vector.into(), 2);
    checks.equal("handlers that it nests", DEEPEST.get().into(), 2);
    // An NMI and an interrupt wait for the same IRET: the NMI comes first.
    start();
    let run = send.flags(INTERRUPTS).hook(|frame| {
        in_first_nmi(frame, || {
            apic::interrupt_self(FIRST);
            apic::nmi_self();
        });
    });
    checks.events("NMI before interrupt", run, &[(NMI, 2), (NMI, 2), (FIRST, 2)]);
    // MOV SS holds back NMIs, too: the write to the APIC is in its shadow, and so is not held back itself.
    let run = Run::new(code!("mov ss, ecx"; "mov [rdi], eax", "nop", "nop")).with(RDI, APIC + 0x300).with(RAX, 0x4400);
    let run = run.with(super::run::register::RCX, 0x10).resume(&[2]);
    checks.events("NMI by an instruction in the shadow of MOV SS", run, &[(NMI, 2)]);
}
