//! Processes and threads, each pinned to a processor.

#![allow(unsafe_code)]

use core::{
    arch::asm,
    convert::Infallible,
    ffi::{CStr, c_char},
    ptr,
    time::Duration,
};

use super::{
    Failure,
    call::{CLONE, EXECVE, EXIT, EXIT_GROUP, FORK, MMAP, NANOSLEEP, SCHED_YIELD, WAIT4, call, call_with_numbers},
    processors::pin,
};

/// CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND, and SIGCHLD (17) at its end: a thread that can be waited for like a
/// process.
const THREAD: usize = 0x100 | 0x200 | 0x400 | 0x800 | 17;
/// PROT_READ | PROT_WRITE.
const READ_WRITE: usize = 3;
/// MAP_PRIVATE | MAP_ANONYMOUS.
const PRIVATE_ANONYMOUS: usize = 0x2 | 0x20;
const STACK_SIZE: usize = 64 << 10;
/// Any process (`__WALL`: of whatever kind).
const ANY: usize = usize::MAX;
const WAIT_ALL: usize = 0x4000_0000;
/// Status of a process that could not be pinned to its processor.
const NOT_PINNED: u8 = 255;

/// A process that runs `work` on a processor and ends with its result as status. Returns its number.
pub fn start_process(processor: u32, work: impl FnOnce() -> u8) -> Result<usize, Failure> {
    match call_with_numbers("fork", FORK, [])? {
        0 => exit(if pin(processor).is_ok() { work() } else { NOT_PINNED }),
        process => Ok(process),
    }
}

/// A thread that runs `work` on a processor and ends with its result as status; it ends with the program at the latest, so
/// its stack stays. Returns its number.
pub fn start_thread(processor: u32, work: extern "C" fn(usize) -> u8, argument: usize) -> Result<usize, Failure> {
    let mapping = [0, STACK_SIZE, READ_WRITE, PRIVATE_ANONYMOUS, usize::MAX, 0];
    // SAFETY: the new memory is nobody else's.
    let stack = unsafe { call("mmap", MMAP, mapping) }?;
    // Three words that the thread begins with; below its end the stack is aligned as a call wants it.
    let words = [work as usize, argument, processor as usize];
    let start = stack + STACK_SIZE - size_of_val(&words);
    // SAFETY: the words lie inside the stack, which is aligned and nobody else's.
    unsafe { core::ptr::with_exposed_provenance_mut::<[usize; 3]>(start).write(words) };
    let result: usize;
    // SAFETY: the thread has a stack of its own with what it takes from there, and never returns here; the program goes on
    // as after any system call.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "pop rdi",
            "pop rsi",
            "pop rdx",
            "xor ebp, ebp",
            "call {thread}",
            "ud2",
            "2:",
            thread = sym thread,
            inlateout("rax") CLONE => result,
            in("rdi") THREAD,
            in("rsi") start,
            in("rdx") 0,
            in("r10") 0,
            in("r8") 0,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    match result.wrapping_neg() {
        error @ 1..4096 => Err(Failure::Call("clone", error)),
        _ => Ok(result),
    }
}

/// Where a thread begins.
extern "C" fn thread(work: extern "C" fn(usize) -> u8, argument: usize, processor: usize) -> ! {
    let status = if pin(processor as u32).is_ok() { work(argument) } else { NOT_PINNED };
    let _ = call_with_numbers("exit", EXIT, [status.into()]);
    unreachable!("exit does not return")
}

/// The status of a process that has been started, once it has ended.
pub fn exit_status(process: usize) -> Result<u8, Failure> {
    let mut status = 0u32;
    // SAFETY: the kernel writes the status.
    unsafe { call("wait4", WAIT4, [process, core::ptr::from_mut(&mut status).addr(), WAIT_ALL, 0, 0, 0]) }?;
    // Bits 8 to 15 hold the status of one that ended by itself, the lower ones the signal that ended another.
    if status & 0xff == 0 { Ok((status >> 8) as u8) } else { Err(Failure::Process(status)) }
}

/// Waits until this many processes and threads have ended, each with the status 0.
pub fn wait_for(processes: usize) -> Result<(), Failure> {
    for _ in 0..processes {
        match exit_status(ANY)? {
            0 => {}
            status => return Err(Failure::wrong("exit status of a process:", status.into())),
        }
    }
    Ok(())
}

/// Lets another process run on this processor.
pub fn yield_processor() {
    // It cannot fail.
    let _ = call_with_numbers("sched_yield", SCHED_YIELD, []);
}

/// Goes on with another program, without arguments and environment.
pub fn execute(path: &'static CStr) -> Result<Infallible, Failure> {
    let (arguments, environment) = ([path.as_ptr(), ptr::null()], [ptr::null::<c_char>()]);
    let addresses = [path.as_ptr().addr(), arguments.as_ptr().addr(), environment.as_ptr().addr(), 0, 0, 0];
    // SAFETY: the kernel reads the path and both lists.
    unsafe { call("execve", EXECVE, addresses) }?;
    unreachable!("execve does not return")
}

/// Ends this process.
pub fn exit(status: u8) -> ! {
    let _ = call_with_numbers("exit_group", EXIT_GROUP, [status.into()]);
    unreachable!("exit_group does not return")
}

/// Waits.
pub fn sleep(time: Duration) -> Result<(), Failure> {
    let time = [time.as_secs(), time.subsec_nanos().into()];
    // SAFETY: the kernel reads the time.
    unsafe { call("nanosleep", NANOSLEEP, [time.as_ptr().addr(), 0, 0, 0, 0, 0]) }.map(drop)
}
