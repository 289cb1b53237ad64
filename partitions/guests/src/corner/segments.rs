//! Device registers by way of 32-bit code: segments with bases and limits, which 64-bit code has not, and addresses of 16 bits
//! (SDM vol. 1, 3.3.7 and 3.7.5; vol. 3, 6.3).

use super::apic::{self, INITIAL_COUNT};
use super::bits::GP;
use super::checks::Checks;
use super::descriptors::{APIC_DATA, KERNEL_DATA};
use super::memory::{APIC, NOTHING};
use super::registers;
use super::run::Run;
use super::run::register::{RAX, RBX, RCX, RDI, RDX, RSI};
use crate::code;

const VALUE: u32 = 0x89ab_cdef;

/// Code of a 32-bit segment (descriptors.rs has its selector, too), with DS, ES and FS from CX; the mark is at its start.
macro_rules! code_32 {
    ($($line:expr),*) => {
        code!(
            "mov ds, ecx", "mov es, edx", "mov fs, ecx", "mov ecx, ebx",
            "push 0x70", "lea r15, [rip + 3f]", "push r15", "retfq", ".code32", "3:";
            $($line,)* ".byte 0xea", ".long 4f", ".word 8", ".code64", "4:"
        )
    };
}

pub fn run(checks: &mut Checks) {
    apic::write(INITIAL_COUNT, VALUE);
    let register = APIC + u64::from(INITIAL_COUNT);
    let flat = u64::from(KERNEL_DATA);
    let based = u64::from(APIC_DATA);
    for (what, code, segment, address) in [
        ("flat segment", code_32!("mov eax, [edi]"), flat, register),
        ("displacement of 32 bits", code_32!("mov eax, dword ptr ds:[0xfee00380]"), flat, 0),
        ("a wrap at 32 bits", code_32!("mov eax, [edi + edi]"), flat, (1 << 31) + register / 2),
        ("base in DS", code_32!("mov eax, [edi]"), based, 0x380),
        ("base in DS and an index", code_32!("mov eax, [esi + edi * 4 + 0x10]"), based, 0x370 / 4),
        ("base in FS", code_32!("mov eax, fs:[edi]"), based, 0x380),
        ("address of 16 bits", code_32!("mov eax, dword ptr [di + 0x300]"), based, 0xffff_0080),
        ("address of 16 bits with a wrap", code_32!("mov eax, dword ptr [di + 0x7000]"), based, 0x9380),
        ("stack", code_32!("push dword ptr [edi]", "pop eax"), based, 0x380),
        ("LODSD", code_32!("mov esi, edi", "lodsd"), based, 0x380),
        ("CMOV, CMP", code_32!("cmp eax, [edi]", "cmovne eax, [edi]"), based, 0x380),
    ] {
        let run = checks.passes(what, Run::new(code).with(RCX, segment).with(RDX, flat).with(RDI, address));
        checks.equal(what, run.registers[RAX], VALUE.into());
    }
    // Limits: the last byte of the register is the last of the segment.
    let beyond = Run::new(code_32!("mov eax, [edi]")).with(RCX, based).with(RDX, flat);
    checks.raises("last byte beyond the limit", beyond.with(RDI, 0x381), GP, 0);
    checks.raises("beyond the limit", beyond.with(RDI, 0x384), GP, 0);
    // An operand of RAM's side of MOVS is judged by whoever reads the device: the second iteration is beyond the limit of ES.
    let copy = Run::new(code_32!("rep movsd")).with(RCX, flat).with(RDX, based);
    let run = copy.with(RSI, NOTHING).with(RDI, 0x380).with(RBX, 2);
    let run = checks.raises("REP MOVSD from a device, beyond the limit of ES", run, GP, 0);
    checks.equal("ECX of it", run.registers[RCX], 1);
    checks.equal("EDI of it", run.registers[RDI], 0x384);
    apic::stop_timer();
    registers::set_msr(0xc000_0100, 0);
}
