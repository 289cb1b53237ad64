//! System calls: numbers of x86-64, the instruction, and the program's start.

#![allow(unsafe_code)]

use core::{
    arch::{asm, global_asm},
    ffi::CStr,
};

use super::Failure;

pub const READ: usize = 0;
pub const WRITE: usize = 1;
pub const CLOSE: usize = 3;
pub const OPEN: usize = 2;
pub const MMAP: usize = 9;
pub const PREAD64: usize = 17;
pub const PWRITE64: usize = 18;
pub const SCHED_YIELD: usize = 24;
pub const NANOSLEEP: usize = 35;
pub const SOCKET: usize = 41;
pub const CONNECT: usize = 42;
pub const ACCEPT: usize = 43;
pub const BIND: usize = 49;
pub const LISTEN: usize = 50;
pub const SETSOCKOPT: usize = 54;
pub const CLONE: usize = 56;
pub const FORK: usize = 57;
pub const EXECVE: usize = 59;
pub const EXIT: usize = 60;
pub const WAIT4: usize = 61;
pub const KILL: usize = 62;
pub const FSYNC: usize = 74;
pub const SCHED_SETSCHEDULER: usize = 144;
pub const IOPERM: usize = 173;
pub const FUTEX: usize = 202;
pub const SCHED_SETAFFINITY: usize = 203;
pub const SCHED_GETAFFINITY: usize = 204;
pub const IO_SETUP: usize = 206;
pub const IO_GETEVENTS: usize = 208;
pub const IO_SUBMIT: usize = 209;
pub const EXIT_GROUP: usize = 231;
pub const PIPE2: usize = 293;
pub const GETCPU: usize = 309;

/// Largest error number; a result is one if it is between its negative and -1.
const MAX_ERROR: usize = 4095;

/// A system call, by its name for errors and its number.
///
/// # Safety
/// The call must not change memory but what its arguments give it, and those must be valid for that.
pub unsafe fn call(name: &'static str, number: usize, arguments: [usize; 6]) -> Result<usize, Failure> {
    let result: usize;
    // SAFETY: the caller vouches for what the call does to memory; the kernel keeps all registers but these.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") arguments[0],
            in("rsi") arguments[1],
            in("rdx") arguments[2],
            in("r10") arguments[3],
            in("r8") arguments[4],
            in("r9") arguments[5],
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    match result.wrapping_neg() {
        error @ 1..=MAX_ERROR => Err(Failure::Call(name, error)),
        _ => Ok(result),
    }
}

/// A system call that touches no memory of this program.
pub fn call_with_numbers<const COUNT: usize>(
    name: &'static str,
    number: usize,
    arguments: [usize; COUNT],
) -> Result<usize, Failure> {
    let mut all = [0; 6];
    for (place, argument) in all.iter_mut().zip(arguments) {
        *place = argument;
    }
    // SAFETY: numbers alone; the module's callers pass none that are addresses.
    unsafe { call(name, number, all) }
}

// The kernel starts a program with the stack pointer at the number of its arguments, and the arguments behind it.
global_asm!(".globl _start", "_start: mov rdi, rsp", "and rsp, -16", "call {start}", "ud2", start = sym start);

extern "C" fn start(arguments: *const usize) -> ! {
    // SAFETY: see above: the number of arguments, and then a pointer to each, the program's name first.
    let argument = |number| unsafe {
        (number < arguments.read()).then(|| text(core::ptr::with_exposed_provenance(arguments.add(1 + number).read())))
    };
    super::exit(crate::main([argument(1), argument(2), argument(3)]))
}

/// # Safety
/// A text that ends with 0 must be there for as long as the program runs.
unsafe fn text(start: *const u8) -> &'static CStr {
    let mut length = 0;
    // SAFETY: up to its end the text is there. Volatile, so that this does not become a call of a function that is not.
    while unsafe { start.add(length).read_volatile() } != 0 {
        length += 1;
    }
    // SAFETY: as above; the last of these bytes is the 0, and there is no other.
    unsafe { CStr::from_bytes_with_nul_unchecked(core::slice::from_raw_parts(start, length + 1)) }
}
