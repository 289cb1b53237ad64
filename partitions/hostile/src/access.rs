//! Accesses to memory that must end with a fault.
#![allow(unsafe_code, reason = "each is one access, which must fault")]

use core::arch::asm;

/// Reads eight bytes.
pub fn read(address: u64) {
    // SAFETY: it must fault; otherwise what is read is thrown away.
    unsafe { asm!("mov {}, [{}]", out(reg) _, in(reg) address, options(nostack)) }
}

/// Writes eight bytes.
pub fn write(address: u64) {
    // SAFETY: it must fault: nothing of this program's is writable there.
    unsafe { asm!("mov qword ptr [{}], 0", in(reg) address, options(nostack)) }
}

/// Executes what is there.
pub fn execute(address: u64) {
    // SAFETY: it must fault: nothing of this program's is executable there.
    unsafe { asm!("call {}", in(reg) address, clobber_abi("sysv64")) }
}

/// Pushes a word with the stack pointer there.
pub fn push(address: u64) {
    // SAFETY: it must fault: the stack is nobody's there.
    unsafe { asm!("xchg rsp, {0}", "push 0", "xchg rsp, {0}", inout(reg) address => _) }
}
