//! Instructions that only the kernel may execute, and such that end with an exception of the program's own.
#![allow(unsafe_code, reason = "each is one instruction, which must fault")]

use core::arch::asm;

const DIVIDE_ERROR: u64 = 0;
const DEBUG: u64 = 1;
const INVALID_OPCODE: u64 = 6;
const GENERAL_PROTECTION: u64 = 13;
const PAGE_FAULT: u64 = 14;

/// An instruction, the exceptions with one of which it must end, and how to execute it.
pub type Trial = (&'static str, &'static [u64], fn());

/// Processors differ: of Intel's and of AMD's, and emulated ones.
const FAST_CALL: &[u64] = &[GENERAL_PROTECTION, INVALID_OPCODE];
/// QEMU 7.2 reads the stack for these as the kernel would, which SMAP refuses; a processor looks at what is read first.
const STACK: &[u64] = &[GENERAL_PROTECTION, PAGE_FAULT];

macro_rules! trials {
    ($($name:literal, $vector:expr, $($text:literal),*;)*) => {
        /// All of them.
        pub const TRIALS: &[Trial] = &[$(($name, $vector, || {
            // SAFETY: the instruction faults, which ends the program; where the processor lets it pass, all registers that it may have
            // changed are outputs, and the program says so and ends.
            unsafe {
                asm!($($text),*, inout("rax") 0u64 => _, inout("rcx") 0u64 => _, inout("rdx") 0u64 => _, out("rsi") _, out("rdi") _,
                    out("r8") _, out("r9") _, out("r10") _, out("r11") _);
            }
        }),)*];
    };
}

trials! {
    "cli", &[GENERAL_PROTECTION], "cli";
    "sti", &[GENERAL_PROTECTION], "sti";
    "hlt", &[GENERAL_PROTECTION], "hlt";
    "clts", &[GENERAL_PROTECTION], "clts";
    "lmsw", &[GENERAL_PROTECTION], "lmsw ax";
    "invlpg", &[GENERAL_PROTECTION], "invlpg [rsp]";
    "invd", &[GENERAL_PROTECTION], "invd";
    "wbinvd", &[GENERAL_PROTECTION], "wbinvd";
    "lgdt", &[GENERAL_PROTECTION], "lgdt [rsp]";
    "lidt", &[GENERAL_PROTECTION], "lidt [rsp]";
    "lldt", &[GENERAL_PROTECTION], "lldt ax";
    "ltr", &[GENERAL_PROTECTION], "ltr ax";
    "swapgs", &[GENERAL_PROTECTION], "swapgs";
    "sysretq", &[GENERAL_PROTECTION], "sysretq";
    "sysexit", FAST_CALL, "sysexit";
    "sysenter", FAST_CALL, "sysenter";
    "rdpmc", &[GENERAL_PROTECTION], "rdpmc";
    "mov rax, cr0", &[GENERAL_PROTECTION], "mov rax, cr0";
    "mov rax, cr2", &[GENERAL_PROTECTION], "mov rax, cr2";
    "mov rax, cr3", &[GENERAL_PROTECTION], "mov rax, cr3";
    "mov rax, cr4", &[GENERAL_PROTECTION], "mov rax, cr4";
    "mov rax, cr8", &[GENERAL_PROTECTION], "mov rax, cr8";
    "mov cr0, rax", &[GENERAL_PROTECTION], "mov cr0, rax";
    "mov cr2, rax", &[GENERAL_PROTECTION], "mov cr2, rax";
    "mov cr3, rax", &[GENERAL_PROTECTION], "mov cr3, rax";
    "mov cr4, rax", &[GENERAL_PROTECTION], "mov cr4, rax";
    "mov cr8, rax", &[GENERAL_PROTECTION], "mov cr8, rax";
    "mov rax, dr0", &[GENERAL_PROTECTION], "mov rax, dr0";
    "mov rax, dr6", &[GENERAL_PROTECTION], "mov rax, dr6";
    "mov rax, dr7", &[GENERAL_PROTECTION], "mov rax, dr7";
    "mov dr0, rax", &[GENERAL_PROTECTION], "mov dr0, rax";
    "mov dr7, rax", &[GENERAL_PROTECTION], "mov dr7, rax";
    "int 2, the NMI", &[GENERAL_PROTECTION], "int 2";
    "int 3", &[GENERAL_PROTECTION], "int3";
    "int 8, the double fault", &[GENERAL_PROTECTION], "int 8";
    "int 14, the page fault", &[GENERAL_PROTECTION], "int 14";
    "int 18, the machine check", &[GENERAL_PROTECTION], "int 18";
    "int 0x34, com1's interrupt", &[GENERAL_PROTECTION], "int 0x34";
    "int 0x80", &[GENERAL_PROTECTION], "int 0x80";
    "int 0xf0, the timer", &[GENERAL_PROTECTION], "int 0xf0";
    "int 0xf2, the mailbox", &[GENERAL_PROTECTION], "int 0xf2";
    "int 0xff", &[GENERAL_PROTECTION], "int 0xff";
    "the kernel's data segment in DS", &[GENERAL_PROTECTION], "mov eax, 0x10", "mov ds, ax";
    "the kernel's data segment in SS", &[GENERAL_PROTECTION], "mov eax, 0x10", "mov ss, ax";
    "the kernel's data segment in FS", &[GENERAL_PROTECTION], "mov eax, 0x10", "mov fs, ax";
    "no segment in SS", &[GENERAL_PROTECTION], "mov ss, ax";
    "a segment behind the table in ES", &[GENERAL_PROTECTION], "mov eax, 0xfffb", "mov es, ax";
    "iret to the kernel's code segment", STACK,
        "mov rax, rsp", "push 0x10", "push rax", "pushfq", "push 8", "lea rax, [rip]", "push rax", "iretq";
    "far return to the kernel's code segment", STACK, "push 8", "lea rax, [rip]", "push rax", "retfq";
    "iret to an address that is none", STACK,
        "mov rax, rsp", "mov ecx, ss", "push rcx", "push rax", "pushfq", "mov ecx, cs", "push rcx",
        "mov rcx, 0x800000000000", "push rcx", "iretq";
    "insb", &[GENERAL_PROTECTION], "mov dx, 0x60", "mov rdi, rsp", "insb";
    "outsb", &[GENERAL_PROTECTION], "mov dx, 0x60", "mov rsi, rsp", "outsb";
    "rep outsd to PCI configuration space", &[GENERAL_PROTECTION],
        "mov dx, 0xcf8", "mov rsi, rsp", "mov ecx, 2", "rep outsd";
    "rdfsbase", &[INVALID_OPCODE], ".byte 0xf3, 0x48, 0x0f, 0xae, 0xc0";
    "wrgsbase", &[INVALID_OPCODE], ".byte 0xf3, 0x48, 0x0f, 0xae, 0xd8";
    "ud2", &[INVALID_OPCODE], "ud2";
    "rsm", &[INVALID_OPCODE], "rsm";
    "lock nop", &[INVALID_OPCODE], ".byte 0xf0, 0x90";
    "mov rax, cr1", FAST_CALL, ".byte 0x0f, 0x20, 0xc8";
    "a division by zero", &[DIVIDE_ERROR], "div rcx";
    "icebp", &[DEBUG, INVALID_OPCODE], ".byte 0xf1";
    "a single step", &[DEBUG], "pushfq", "or qword ptr [rsp], 0x100", "popfq", "nop", "nop";
    "a single step into a system call", &[DEBUG],
        "pushfq", "or qword ptr [rsp], 0x100", "mov eax, 5", "popfq", "syscall", "nop", "nop";
}

/// Reads so many bytes from a port.
pub fn port_in(port: u16, bytes: u64) {
    // SAFETY: a port of a device that has nothing to do with memory; the value is thrown away.
    unsafe {
        match bytes {
            1 => asm!("in al, dx", in("dx") port, out("al") _, options(nostack)),
            2 => asm!("in ax, dx", in("dx") port, out("ax") _, options(nostack)),
            _ => asm!("in eax, dx", in("dx") port, out("eax") _, options(nostack)),
        }
    }
}

/// Writes so many zero bytes to a port.
pub fn port_out(port: u16, bytes: u64) {
    // SAFETY: it must fault: none of the ports that this is called for is the program's.
    unsafe {
        match bytes {
            1 => asm!("out dx, al", in("dx") port, in("al") 0u8, options(nostack)),
            2 => asm!("out dx, ax", in("dx") port, in("ax") 0u16, options(nostack)),
            _ => asm!("out dx, eax", in("dx") port, in("eax") 0u32, options(nostack)),
        }
    }
}

/// Reads a model-specific register.
pub fn read_msr(number: u32) {
    // SAFETY: it must fault.
    unsafe { asm!("rdmsr", in("ecx") number, out("eax") _, out("edx") _, options(nostack)) }
}

/// Writes 0 to a model-specific register.
pub fn write_msr(number: u32) {
    // SAFETY: it must fault.
    unsafe { asm!("wrmsr", in("ecx") number, in("eax") 0, in("edx") 0, options(nostack)) }
}
