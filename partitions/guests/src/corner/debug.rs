//! Debug registers (SDM vol. 3, 18.2 and 18.3): breakpoints on instructions, data and ports, also where an access is completed
//! in software, general detect, and the registers' own bits.

use super::bits::{CR4_DE, DB, GP, UD};
use super::checks::Checks;
use super::memory::{self, APIC};
use super::registers;
use super::run::register::{RAX, RBX, RCX, RDI, RDX, RSI};
use super::run::{Code, DR6_CLEAR, Outcome, RESUME, Run, TRAP};
use crate::code;

/// DR6.BD.
const BD: u64 = 1 << 13;
/// DR6.BS.
const BS: u64 = 1 << 14;
/// DR7.GD.
const GD: u64 = 1 << 13;
/// DR7 without breakpoints.
const DR7_CLEAR: u64 = 0x400;

/// What a breakpoint is for: the R/W field of DR7.
#[derive(Clone, Copy)]
enum Kind {
    Execute = 0,
    Write = 1,
    Port = 2,
    Access = 3,
}

/// DR7 bits of a breakpoint: enabled globally, `length` 1, 2, 4 or 8.
fn enable(number: u32, kind: Kind, length: u64) -> u64 {
    let field: u64 = match length {
        2 => 1,
        4 => 3,
        8 => 2,
        _ => 0,
    };
    2 << (2 * number) | (kind as u64 | field << 2) << (16 + 4 * number)
}

pub fn run(checks: &mut Checks) {
    own_bits(checks);
    on_instructions(checks);
    on_data(checks);
    on_devices(checks);
    on_ports(checks);
    general_detect(checks);
}

fn own_bits(checks: &mut Checks) {
    let values = [0x1111_2222_3333, u64::MAX >> 16, 0xffff_8000_0000_0000, 4];
    registers::set_dr0(values[0]);
    registers::set_dr1(values[1]);
    registers::set_dr2(values[2]);
    registers::set_dr3(values[3]);
    checks.passes("CPUID in between", Run::new(code!("cpuid")));
    for (found, wanted) in
        [registers::dr0(), registers::dr1(), registers::dr2(), registers::dr3()].into_iter().zip(values)
    {
        checks.equal("DR0 to DR3", found, wanted);
    }
    registers::set_dr6(0);
    checks.equal("DR6 after 0", registers::dr6(), DR6_CLEAR);
    registers::set_dr6(0xffff_ffff);
    checks.equal("DR6 after ones", registers::dr6() & 0xffff_1fff, 0xffff_0fff);
    registers::set_dr6(DR6_CLEAR);
    // Values without an enable bit, so that nothing happens.
    registers::set_dr7(0xffff_0000);
    checks.equal("DR7: lengths and kinds", registers::dr7(), 0xffff_0400);
    registers::set_dr7(0xd300);
    checks.equal("DR7: bits that are always 0", registers::dr7(), 0x700);
    registers::set_dr7(0);
    checks.equal("DR7 after 0", registers::dr7(), DR7_CLEAR);
    checks.raises("upper half of DR6", Run::new(code!("nop"; "mov dr6, rax")).with(RAX, 1 << 32), GP, 0);
    checks.raises("upper half of DR7", Run::new(code!("nop"; "mov dr7, rax")).with(RAX, 1 << 32), GP, 0);
    // DR4 and DR5 are other names of DR6 and DR7, or nothing.
    let run = checks.passes("DR4 without DE", Run::new(code!("mov rax, dr4", "mov rbx, dr5")));
    checks.equal("DR4 is DR6", run.registers[RAX], DR6_CLEAR);
    checks.equal("DR5 is DR7", run.registers[RBX], DR7_CLEAR);
    let cr4 = registers::cr4();
    registers::set_cr4(cr4 | CR4_DE);
    checks.raises("DR4 with DE", Run::new(code!("nop"; "mov rax, dr4")), UD, 0);
    checks.raises("DR5 with DE", Run::new(code!("nop"; "mov dr5, rax")), UD, 0);
    registers::set_cr4(cr4);
}

/// One event of a run with breakpoints: where, and which of DR6's bits.
fn hits(checks: &mut Checks, what: &str, run: Run, dr7: u64, wanted: &[(i64, u64)]) -> Outcome {
    registers::set_dr6(DR6_CLEAR);
    registers::set_dr7(dr7);
    let run = run.resume(&[1]).hook(|frame| {
        // An instruction breakpoint is a fault: its handler lets the instruction execute.
        if frame.vector == DB.into() {
            frame.rflags |= RESUME;
        }
    });
    let mut places = [(DB, 0); 8];
    let count = places.iter_mut().zip(wanted).map(|(place, (offset, _))| *place = (DB, *offset)).count();
    let run = checks.events(what, run, &places[..count]);
    registers::set_dr7(0);
    for (event, (_, bits)) in run.events().zip(wanted) {
        checks.equal(what, event.dr6 ^ DR6_CLEAR, *bits);
    }
    run
}

fn on_instructions(checks: &mut Checks) {
    for (what, code) in [
        ("breakpoint on NOP", code!("xor eax, eax"; "nop", "nop")),
        ("breakpoint on CPUID", code!("xor eax, eax"; "cpuid", "nop")),
        ("breakpoint on a device read", code!("xor eax, eax"; "mov eax, [rdi]", "nop")),
        ("breakpoint on OUT", code!("xor eax, eax"; "out 0x80, al", "nop")),
    ] {
        registers::set_dr0(code.mark);
        let run = Run::new(code).with(RDI, APIC + 0x380);
        let run = hits(checks, what, run, enable(0, Kind::Execute, 1), &[(0, 1)]);
        checks.equal("RF in the flags that it saved", run.event(0).rflags & RESUME, 0);
    }
    // RF is for one instruction: in a loop the breakpoint strikes each time.
    let code = code!("mov esi, 3", "nop"; "cpuid", "dec esi", "jnz 773b");
    registers::set_dr3(code.mark);
    hits(checks, "breakpoint in a loop", Run::new(code), enable(3, Kind::Execute, 1), &[(0, 8), (0, 8), (0, 8)]);
    // Step and breakpoint meet: the trap of the instruction before comes first, with both bits.
    let code = code!("nop"; "nop");
    registers::set_dr1(code.mark);
    let run = Run::new(code).flags(TRAP);
    let end = run.distance_of_end();
    hits(checks, "step to a breakpoint", run, enable(1, Kind::Execute, 1), &[(0, BS | 2), (1, BS), (end, BS)]);
    // A breakpoint that is not enabled.
    hits(checks, "disabled", Run::new(code), 0, &[]);
}

fn data(code: Code, address: u64) -> Run {
    Run::new(code).with(RDI, address).with(RSI, memory::frame(1)).with(RCX, 4).with(RDX, 0x80)
}

fn on_data(checks: &mut Checks) {
    let ram = memory::frame(0);
    registers::set_dr1(ram + 8);
    let writes = enable(1, Kind::Write, 4);
    let accesses = enable(1, Kind::Access, 4);
    let write = code!("nop"; "mov [rdi], eax", "nop");
    let read = code!("nop"; "mov eax, [rdi]", "nop");
    hits(checks, "write", data(write, ram + 8), writes, &[(2, 2)]);
    hits(checks, "write of some of the bytes", data(write, ram + 6), writes, &[(2, 2)]);
    hits(checks, "write beside it", data(write, ram + 12), writes, &[]);
    hits(checks, "write before it", data(write, ram + 4), writes, &[]);
    hits(checks, "read, for writes", data(read, ram + 8), writes, &[]);
    hits(checks, "read, for accesses", data(read, ram + 8), accesses, &[(2, 2)]);
    hits(checks, "read-modify-write", data(code!("nop"; "add [rdi], eax", "nop"), ram + 8), writes, &[(2, 2)]);
    hits(checks, "8 bytes", data(write, ram + 15), enable(1, Kind::Write, 8), &[(2, 2)]);
    // The third of four iterations reaches the breakpoint; the trap comes between it and the fourth.
    let run = hits(checks, "REP STOSD", data(code!("nop"; "rep stosd", "nop"), ram), writes, &[(0, 2)]);
    checks.equal("RCX at the trap", run.event(0).rcx, 1);
    // MOV SS puts the trap off until the next instruction has ended.
    memory::write_u64(ram + 8, 0x10);
    let code = code!("nop"; "mov ss, [rdi]", "cpuid", "nop");
    hits(checks, "MOV SS from it", data(code, ram + 8), accesses, &[(4, 2)]);
    // Access to RAM by an instruction that is completed in software.
    let run = data(code!("nop"; "outsb", "nop"), 0).with(RSI, ram + 8);
    hits(checks, "OUTS from it", run, accesses, &[(1, 2)]);
    hits(checks, "INS to it", data(code!("nop"; "insb", "nop"), ram + 8), writes, &[(1, 2)]);
    let run = hits(
        checks,
        "REP INSB to it",
        data(code!("nop"; "rep insb", "nop"), ram + 5),
        enable(1, Kind::Write, 1),
        &[(2, 2)],
    );
    checks.equal("RCX at the end of it", run.registers[RCX], 0);
}

fn on_devices(checks: &mut Checks) {
    let register = APIC + 0x380;
    registers::set_dr2(register);
    let writes = enable(2, Kind::Write, 4);
    let accesses = enable(2, Kind::Access, 4);
    hits(checks, "device write", data(code!("nop"; "mov [rdi], eax", "nop"), register), writes, &[(2, 4)]);
    hits(checks, "device read, for writes", data(code!("nop"; "mov eax, [rdi]", "nop"), register), writes, &[]);
    hits(
        checks,
        "device read, for accesses",
        data(code!("nop"; "mov eax, [rdi]", "nop"), register),
        accesses,
        &[(2, 4)],
    );
    hits(checks, "another register", data(code!("nop"; "mov eax, [rdi]", "nop"), register + 16), accesses, &[]);
    let run = data(code!("nop"; "mov eax, [rdi]", "nop"), register).flags(TRAP);
    let end = run.distance_of_end();
    hits(checks, "device read, stepped", run, accesses, &[(0, BS), (2, BS | 4), (3, BS), (end, BS)]);
}

fn on_ports(checks: &mut Checks) {
    let cr4 = registers::cr4();
    registers::set_cr4(cr4 | CR4_DE);
    registers::set_dr3(0x80);
    let port = enable(3, Kind::Port, 1);
    hits(checks, "OUT", data(code!("nop"; "out dx, al", "nop"), 0), port, &[(1, 8)]);
    hits(checks, "IN", data(code!("nop"; "in al, 0x80", "nop"), 0), port, &[(2, 8)]);
    hits(checks, "four ports", data(code!("nop"; "in eax, dx", "nop"), 0).with(RDX, 0x7e), port, &[(1, 8)]);
    hits(checks, "another port", data(code!("nop"; "in al, 0x81", "nop"), 0), port, &[]);
    hits(checks, "OUTS", data(code!("nop"; "outsb", "nop"), 0), port, &[(1, 8)]);
    registers::set_cr4(cr4);
}

fn general_detect(checks: &mut Checks) {
    for (what, code) in [("MOV from DR0", code!("nop"; "mov rax, dr0")), ("MOV to DR7", code!("nop"; "mov dr7, rbx"))] {
        let enable_first = Run::new(code).with(RBX, DR7_CLEAR);
        registers::set_dr6(DR6_CLEAR);
        registers::set_dr7(GD | DR7_CLEAR);
        // The handler reads DR6: entering it has switched the detection off.
        let run = checks.raises(what, enable_first, DB, 0);
        checks.equal("DR6", run.end().dr6 ^ DR6_CLEAR, BD);
        checks.equal("GD after it", registers::dr7(), DR7_CLEAR);
    }
}
