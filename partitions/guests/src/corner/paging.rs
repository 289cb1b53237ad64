//! Page faults: error codes and CR2 (SDM vol. 3, 5.7), also where the access is to a device.

use super::bits::{CR0_WP, CR4_SMAP, CR4_SMEP};
use super::checks::Checks;
use super::memory::{self, APIC, NO_EXECUTE, NOTHING, PRESENT, USER, WRITABLE, page};
use super::registers::{self, EFER, NXE};
use super::run::register::{RAX, RCX, RDI, RSI};
use super::run::{ALIGNMENT, Code, RESUME, Run};
use crate::code;

/// Error code: a page was present.
const P: u32 = 1 << 0;
/// The access was a write.
const W: u32 = 1 << 1;
/// The access was of CPL 3.
const U: u32 = 1 << 2;
/// A reserved bit was set.
const RSVD: u32 = 1 << 3;
/// The access was a fetch.
const I: u32 = 1 << 4;

pub fn run(checks: &mut Checks) {
    let (cr0, cr4, efer) = (registers::cr0(), registers::cr4(), registers::msr(EFER));
    registers::set_cr0(cr0 | CR0_WP);
    registers::set_msr(EFER, efer | NXE);
    rights(checks, "RAM", memory::frame(0));
    rights(checks, "device", APIC);
    reserved(checks);
    fetches(checks);
    supervisor_mode(checks);
    emulated(checks);
    for index in 0..4 {
        memory::map(index, 0);
    }
    registers::set_msr(EFER, efer);
    registers::set_cr4(cr4);
    registers::set_cr0(cr0);
}

fn read() -> Code {
    code!("nop"; "mov eax, [rdi]")
}

fn write() -> Code {
    code!("nop"; "mov [rdi], eax")
}

/// An interesting place in page 0: the timer's initial count, if it is the local APIC's.
fn place() -> u64 {
    page(0) + 0x380
}

fn rights(checks: &mut Checks, what: &str, frame: u64) {
    let reading = Run::new(read()).with(RDI, place());
    let writing = Run::new(write()).with(RDI, place());
    memory::map(0, frame);
    checks.page_fault(what, reading, 0, place());
    checks.page_fault(what, writing, W, place());
    checks.page_fault(what, reading.user(), U, place());
    checks.page_fault(what, writing.user(), U | W, place());
    memory::map(0, frame | PRESENT);
    checks.passes(what, reading);
    checks.page_fault(what, writing, P | W, place());
    checks.page_fault(what, reading.user(), P | U, place());
    checks.page_fault(what, writing.user(), P | U | W, place());
    memory::map(0, frame | PRESENT | USER);
    checks.passes(what, reading.user());
    checks.page_fault(what, writing.user(), P | U | W, place());
    registers::set_cr0(registers::cr0() & !CR0_WP);
    memory::map(0, frame | PRESENT);
    checks.passes(what, writing);
    checks.equal("accessed and dirty flags", memory::entry(0) >> 5 & 3, 3);
    registers::set_cr0(registers::cr0() | CR0_WP);
    // A read-modify-write asks for the right to write at once.
    memory::map(0, frame | PRESENT);
    checks.page_fault(what, Run::new(code!("nop"; "or [rdi], eax")).with(RDI, place()), P | W, place());
    checks.equal("dirty flag of a page that was not written", memory::entry(0) >> 6 & 1, 0);
}

fn reserved(checks: &mut Checks) {
    // The highest bit that an address may have in an entry, where the processor has fewer.
    if registers::cpuid(0x8000_0008, 0, 0) & 0xff < 52 {
        memory::map(0, memory::frame(0) | PRESENT | WRITABLE | USER | 1 << 51);
        checks.page_fault("reserved bit", Run::new(read()).with(RDI, place()), P | RSVD, place());
        checks.page_fault("reserved bit", Run::new(write()).with(RDI, place()).user(), P | W | U | RSVD, place());
        memory::map(0, 1 << 51);
        checks.page_fault("reserved bit of an absent page", Run::new(read()).with(RDI, place()), 0, place());
    }
    let efer = registers::msr(EFER);
    registers::set_msr(EFER, efer & !NXE);
    memory::map(0, memory::frame(0) | PRESENT | NO_EXECUTE);
    checks.page_fault("NX without NXE", Run::new(read()).with(RDI, place()), P | RSVD, place());
    memory::map(0, 0);
    let jump = Run::new(code!("nop"; "jmp rdi")).with(RDI, place());
    // Without NXE and SMEP the error code does not tell fetches apart.
    let run = jump.go();
    checks.equal("fetch without NXE", u64::from(run.end().error), 0);
    registers::set_msr(EFER, efer);
}

/// A jump to page 0; what it raises has the target as RIP, too.
fn fetches(checks: &mut Checks) {
    memory::fill(memory::frame(0), 4096, 0xc3);
    let mut attempt = |what: &str, entry: u64, user: bool, error: u32| {
        memory::map(0, entry);
        let run = Run::new(code!("jmp rdi")).with(RDI, place());
        let run = if user { run.user() } else { run }.go();
        let end = run.end();
        checks.equal(what, u64::from(end.vector), 14);
        checks.equal(what, u64::from(end.error), u64::from(error));
        checks.equal(what, end.cr2, place());
    };
    attempt("fetch from an absent page", 0, false, I);
    attempt("fetch from an absent page at CPL 3", 0, true, I | U);
    attempt("fetch from NX", memory::frame(0) | PRESENT | NO_EXECUTE, false, P | I);
    attempt("fetch from NX at CPL 3", memory::frame(0) | PRESENT | NO_EXECUTE | USER, true, P | I | U);
    attempt("fetch from a page of CPL 0", memory::frame(0) | PRESENT, true, P | I | U);
    memory::map(0, memory::frame(0) | PRESENT);
    checks.passes("fetch", Run::new(code!("jmp rdi")).with(RDI, place()));
}

fn supervisor_mode(checks: &mut Checks) {
    let features = registers::cpuid(7, 0, 1);
    let cr4 = registers::cr4();
    if features & 1 << 7 != 0 {
        memory::fill(memory::frame(0), 4096, 0xc3);
        memory::map(0, memory::frame(0) | PRESENT | USER);
        let jump = Run::new(code!("jmp rdi")).with(RDI, place());
        checks.passes("fetch from a page of CPL 3", jump);
        registers::set_cr4(cr4 | CR4_SMEP);
        checks.equal("the same with SMEP", jump.go().end().error.into(), u64::from(P | I));
        registers::set_cr4(cr4);
    }
    if features & 1 << 20 != 0 {
        for (what, frame) in [("SMAP, RAM", memory::frame(0)), ("SMAP, device", APIC)] {
            memory::map(0, frame | PRESENT | WRITABLE | USER);
            registers::set_cr4(cr4 | CR4_SMAP);
            checks.page_fault(what, Run::new(read()).with(RDI, place()), P, place());
            checks.page_fault(what, Run::new(write()).with(RDI, place()), P | W, place());
            checks.passes(what, Run::new(read()).with(RDI, place()).flags(ALIGNMENT));
            checks.passes(what, Run::new(read()).with(RDI, place()).user());
            registers::set_cr4(cr4);
        }
    }
}

/// An instruction with two memory operands, one a device, of which the other one faults; and operands across two pages.
fn emulated(checks: &mut Checks) {
    memory::map(0, NOTHING | PRESENT | WRITABLE);
    memory::map(1, 0);
    let device = place();
    let absent = page(1) + 0x10;
    let run = Run::new(code!("nop"; "movsd")).with(RSI, device).with(RDI, absent);
    let run = checks.page_fault("MOVS from a device to an absent page", run, W, absent);
    checks.equal("RSI", run.registers[RSI], device);
    checks.equal("RDI", run.registers[RDI], absent);
    let run = Run::new(code!("nop"; "movsd")).with(RDI, device).with(RSI, absent);
    checks.page_fault("MOVS from an absent page to a device", run, 0, absent);
    let run = Run::new(code!("nop"; "cmpsd")).with(RSI, device).with(RDI, absent);
    checks.page_fault("CMPS of a device and an absent page", run, 0, absent);
    memory::map(1, memory::frame(1) | PRESENT);
    let run = Run::new(code!("nop"; "movsd")).with(RSI, device).with(RDI, absent);
    checks.page_fault("MOVS from a device to a read-only page", run, P | W, absent);
    let run = Run::new(code!("nop", "mov ecx, 0x12345"; "rdmsr"));
    let run = checks.raises("RDMSR of nothing", run, 13, 0);
    checks.equal("RF in the flags that it saves", run.end().rflags & RESUME, RESUME);
    let run = Run::new(code!("nop"; "movsd")).with(RSI, device).with(RDI, 1 << 47);
    let run = checks.raises("MOVS from a device to nowhere", run, 13, 0);
    checks.equal("RF in the flags that it saves", run.end().rflags & RESUME, RESUME);
    // Repeated: what was done before stays done.
    memory::map_ram(1);
    memory::map(2, 0);
    let last = page(2) - 8;
    let run = Run::new(code!("nop"; "rep movsd")).with(RSI, device).with(RDI, last).with(RCX, 5);
    let run = checks.page_fault("REP MOVS from a device to an absent page", run, W, page(2));
    checks.equal("RCX", run.registers[RCX], 3);
    checks.equal("RDI", run.registers[RDI], page(2));
    checks.equal("RSI", run.registers[RSI], device + 8);
    // PUSH of a register and POP to one, with a stack that faults while the other operand is a device.
    memory::map(1, 0);
    let run = Run::new(code!("nop", "mov rsp, rsi"; "push [rdi]")).with(RDI, page(0)).with(RSI, page(1) + 0x100);
    // The exception cannot be pushed to that stack either.
    checks.raises("PUSH of a device to an absent page", run, 8, 0);
    memory::map(1, memory::frame(1) | PRESENT);
    let run = Run::new(code!("nop"; "pop [rsi]")).with(RSI, page(1));
    checks.page_fault("POP to a read-only page", run, P | W, page(1));

    // Four bytes of which two are a device's and two in an absent page; the other way about.
    memory::map(1, 0);
    checks.page_fault("device, then absent", Run::new(read()).with(RDI, page(1) - 2), 0, page(1));
    checks.page_fault("device, then absent", Run::new(write()).with(RDI, page(1) - 2), W, page(1));
    memory::map(2, NOTHING | PRESENT | WRITABLE);
    checks.page_fault("absent, then device", Run::new(read()).with(RDI, page(2) - 2), 0, page(2) - 2);
    memory::map(1, memory::frame(1) | PRESENT);
    checks.page_fault("read-only, then device", Run::new(write()).with(RDI, page(2) - 2), P | W, page(2) - 2);
    memory::map(2, 0);
    let run = Run::new(code!("nop"; "xchg [rdi], eax")).with(RDI, page(1) - 2).with(RAX, 7);
    let run = checks.page_fault("XCHG, device, then read-only", run, P | W, page(1));
    checks.equal("RAX", run.registers[RAX], 7);
}
