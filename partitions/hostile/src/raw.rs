//! A system call with any registers: what the runtime's handles do not let a program do.
#![allow(unsafe_code, reason = "the instruction that enters the kernel")]

use bulkhead_runtime::abi::{Error, Syscall};
use core::arch::asm;

/// What a system call returned in `rdi`, `rsi`, `rdx`, `r10`, `r8`, `r9`, or the error.
pub type Answer = Result<[u64; 6], Error>;

/// Any system call: `rax`, and `rdi`, `rsi`, `rdx`, `r10`, `r8`, `r9`. A number that is no error of the kernel's is reported as
/// `Unsupported`, which no caller here expects without a reason.
pub fn any(number: u64, registers: [u64; 6]) -> Answer {
    let code: u64;
    let [mut rdi, mut rsi, mut rdx, mut r10, mut r8, mut r9] = registers;
    // SAFETY: the program has no capability by which the kernel would take away or write memory that Rust uses: its own partition only
    // takes more memory at addresses that are free, and its memory capabilities are to memory that no Rust object lies in.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => code,
            inlateout("rdi") rdi,
            inlateout("rsi") rsi,
            inlateout("rdx") rdx,
            inlateout("r10") r10,
            inlateout("r8") r8,
            inlateout("r9") r9,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    match code {
        0 => Ok([rdi, rsi, rdx, r10, r8, r9]),
        code => Err(Error::from_number(code).unwrap_or(Error::Unsupported)),
    }
}

/// A method.
pub fn invoke(slot: u64, method: u64, [a, b, c, d]: [u64; 4]) -> Answer {
    any(Syscall::Invoke as u64, [slot, method, a, b, c, d])
}
