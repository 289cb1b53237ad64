//! Control registers, EFER and XCR0: reserved bits and combinations that are refused (SDM vol. 3, 2.5; vol. 2, MOV to CR).

use super::bits::{CR4_OSXSAVE, CR4_PAE, CR4_PCIDE, GP, UD};
use super::checks::Checks;
use super::registers::{self, EFER};
use super::run::register::{RAX, RBX, RCX, RDX};
use super::run::{Code, Run};
use crate::code;

pub fn run(checks: &mut Checks) {
    cr0(checks);
    cr3(checks);
    cr4(checks);
    efer(checks);
    xcr0(checks);
    machine_status(checks);
}

fn refused(checks: &mut Checks, what: &str, code: Code, value: u64) {
    checks.raises(what, Run::new(code).with(RAX, value), GP, 0);
}

fn cr0(checks: &mut Checks) {
    let write = code!("nop"; "mov cr0, rax");
    let value = registers::cr0();
    refused(checks, "CR0: PG without PE", write, value & !1);
    refused(checks, "CR0: NW without CD", write, value & !(1 << 30) | 1 << 29);
    refused(checks, "CR0: bit 32", write, value | 1 << 32);
    refused(checks, "CR0: bit 63", write, value | 1 << 63);
    refused(checks, "CR0: no paging in 64-bit code", write, value & !(1 << 31));
    checks.equal("CR0 is as it was", registers::cr0(), value);
    checks.passes("CR0: reserved bits below 32", Run::new(code!("mov cr0, rax")).with(RAX, value | 1 << 10 | 1 << 28));
    checks.equal("they stay 0", registers::cr0(), value);
    checks.passes("CR0: ET", Run::new(code!("mov cr0, rax")).with(RAX, value & !0x10));
    checks.equal("ET is always 1", registers::cr0() & 0x10, 0x10);
    registers::set_cr0(value | 1 << 30);
    checks.equal("CD can be set", registers::cr0(), value | 1 << 30);
    registers::set_cr0(value ^ 1 << 5);
    checks.equal("NE is what was written", registers::cr0(), value ^ 1 << 5);
    registers::set_cr0(value);
    checks.raises("CR1", Run::new(code!("nop"; ".byte 0x0f, 0x20, 0xc8")), UD, 0);
    checks.raises("CR7", Run::new(code!("nop"; ".byte 0x0f, 0x22, 0xf8")), UD, 0);
}

fn cr3(checks: &mut Checks) {
    let write = code!("nop"; "mov cr3, rax");
    let value = registers::cr3();
    let width = registers::cpuid(0x8000_0008, 0, 0) & 0xff;
    refused(checks, "CR3: bit 63", write, value | 1 << 63);
    refused(checks, "CR3: bit above the physical addresses", write, value | 1 << width);
    checks.passes("CR3: PWT and PCD", Run::new(write).with(RAX, value | 0x18));
    checks.equal("they are kept", registers::cr3(), value | 0x18);
    registers::set_cr3(value);
}

fn cr4(checks: &mut Checks) {
    let write = code!("nop"; "mov cr4, rax");
    let value = registers::cr4();
    for bit in [15, 19, 26, 31, 32, 63] {
        refused(checks, "CR4: a reserved bit", write, value | 1 << bit);
    }
    refused(checks, "CR4: no PAE in long mode", write, value & !CR4_PAE);
    let basic = registers::cpuid(1, 0, 2);
    let structured = registers::cpuid(7, 0, 1);
    for (what, bit, offered) in [
        ("CR4: VMXE", 13, basic & 1 << 5 != 0),
        ("CR4: SMXE", 14, basic & 1 << 6 != 0),
        ("CR4: UMIP", 11, registers::cpuid(7, 0, 2) & 1 << 2 != 0),
        ("CR4: FSGSBASE", 16, structured & 1 != 0),
        ("CR4: PCIDE", 17, basic & 1 << 17 != 0),
        ("CR4: OSXSAVE", 18, basic & 1 << 26 != 0),
        ("CR4: SMEP", 20, structured & 1 << 7 != 0),
        ("CR4: SMAP", 21, structured & 1 << 20 != 0),
        ("CR4: PKE", 22, registers::cpuid(7, 0, 2) & 1 << 3 != 0),
        ("CR4: LA57", 12, false),
    ] {
        if offered {
            registers::set_cr4(value | 1 << bit);
            checks.equal(what, registers::cr4(), value | 1 << bit);
            registers::set_cr4(value);
        } else {
            refused(checks, what, write, value | 1 << bit);
        }
    }
    // Everything that every processor of 64 bits has: VME, PVI, TSD, DE, PSE, PAE, MCE, PGE, PCE, OSFXSR, OSXMMEXCPT.
    registers::set_cr4(value | 0x7ff);
    checks.equal("CR4: all old bits", registers::cr4(), value | 0x7ff);
    checks.raises("RDTSC at CPL 3 with TSD", Run::new(code!("nop"; "rdtsc")).user(), GP, 0);
    registers::set_cr4(value);
    checks.passes("RDTSC at CPL 3", Run::new(code!("rdtsc")).user());
    if basic & 1 << 17 != 0 {
        registers::set_cr3(registers::cr3() | 8);
        refused(checks, "PCIDE with a context in CR3", write, value | CR4_PCIDE);
        registers::set_cr3(registers::cr3() & !8);
    }
}

fn efer(checks: &mut Checks) {
    let value = registers::msr(EFER);
    let write = |value: u64| {
        Run::new(code!("nop"; "wrmsr")).with(RCX, EFER.into()).with(RAX, value & 0xffff_ffff).with(RDX, value >> 32)
    };
    for bit in [1, 7, 9, 16, 32, 63] {
        checks.raises("EFER: a reserved bit", write(value | 1 << bit), GP, 0);
    }
    checks.raises("EFER: LME cleared with paging on", write(value & !(1 << 8)), GP, 0);
    checks.passes("EFER: SCE", write(value | 1));
    checks.equal("it is kept", registers::msr(EFER), value | 1);
    checks.passes("EFER: LMA is not written", write(value & !(1 << 10)));
    checks.equal("it stays", registers::msr(EFER), value & !1);
    registers::set_msr(EFER, value & !1);
    checks.raises("SYSCALL without SCE", Run::new(code!("nop"; "syscall")).user(), UD, 0);
    registers::set_msr(EFER, value);
}

fn xcr0(checks: &mut Checks) {
    let cr4 = registers::cr4();
    if registers::cpuid(1, 0, 2) & 1 << 26 == 0 {
        checks.raises("XSETBV without XSAVE", Run::new(code!("nop"; "xsetbv")), UD, 0);
        return;
    }
    checks.raises("XSETBV without OSXSAVE", Run::new(code!("nop"; "xsetbv")).with(RAX, 1), UD, 0);
    checks.raises("XGETBV without OSXSAVE", Run::new(code!("nop"; "xgetbv")), UD, 0);
    checks.equal("CPUID shows no OSXSAVE", u64::from(registers::cpuid(1, 0, 2) >> 27 & 1), 0);
    registers::set_cr4(cr4 | CR4_OSXSAVE);
    checks.equal("CPUID shows OSXSAVE", u64::from(registers::cpuid(1, 0, 2) >> 27 & 1), 1);
    let write = |value: u64| Run::new(code!("nop"; "xsetbv")).with(RAX, value & 0xffff_ffff).with(RDX, value >> 32);
    let offered = u64::from(registers::cpuid(0xd, 0, 3)) << 32 | u64::from(registers::cpuid(0xd, 0, 0));
    for value in [0, 2, 5, 0x23, 0x63, 0xc7, 0x61, 1 << 63 | 1, 1 << 8 | 3] {
        checks.raises("XCR0: an illegal combination", write(value), GP, 0);
    }
    for value in [1, 3, 7, 0xe7] {
        if value & !offered == 0 {
            checks.passes("XCR0: a legal combination", write(value));
            let run = checks.passes("XGETBV", Run::new(code!("xgetbv")));
            checks.equal("XCR0 reads back", run.registers[RAX] | run.registers[RDX] << 32, value);
        } else {
            checks.raises("XCR0: a component that is not offered", write(value), GP, 0);
        }
    }
    checks.raises("XCR1", write(1).with(RCX, 1), GP, 0);
    checks.raises("XSETBV at CPL 3", write(1).user(), GP, 0);
    checks.passes("XCR0 as after reset", write(1));
    registers::set_cr4(cr4);
}

fn machine_status(checks: &mut Checks) {
    let cr0 = registers::cr0();
    let run = checks.passes("LMSW cannot clear PE", Run::new(code!("lmsw ax", "smsw rbx")).with(RAX, 0xfff0));
    checks.equal("SMSW of it", run.registers[RBX], cr0 & !0xe);
    let run = checks.passes("LMSW sets TS", Run::new(code!("lmsw ax", "smsw rbx")).with(RAX, 0xfff8));
    checks.equal("SMSW of it", run.registers[RBX], cr0 & !0xe | 8);
    let run = checks.passes("CLTS", Run::new(code!("clts", "smsw rbx")));
    checks.equal("SMSW after CLTS", run.registers[RBX], cr0 & !0xe);
    let word = super::memory::frame(0);
    super::memory::write_u64(word, 0xffff_0000_fff6);
    let run = checks.passes("LMSW from memory", Run::new(code!("lmsw [rax]", "mov rbx, cr0")).with(RAX, word));
    checks.equal("CR0 of it", run.registers[RBX], cr0 & !0xe | 6);
    registers::set_cr0(cr0);
}
