//! A process that counts whenever no other wants the processor.

#![allow(unsafe_code)]

use core::{
    arch::{asm, x86_64::_rdtsc},
    sync::atomic::{AtomicU64, Ordering},
};

use super::{
    Failure,
    call::{KILL, MMAP, SCHED_SETSCHEDULER, call, call_with_numbers},
    process::exit_status,
};

/// PROT_READ | PROT_WRITE.
const READ_WRITE: usize = 3;
/// MAP_SHARED | MAP_ANONYMOUS.
const SHARED_ANONYMOUS: usize = 0x1 | 0x20;
const SIZE: usize = 4096;
/// SCHED_IDLE.
const IDLE: usize = 5;
/// SIGKILL.
const KILLED: usize = 9;
/// Instructions for each count.
pub const LOOP_INSTRUCTIONS: u64 = 2;

/// A number that processes share.
#[derive(Clone, Copy)]
pub struct SharedCounter(&'static AtomicU64);

impl SharedCounter {
    /// In memory that processes started from now on share with this one.
    pub fn new() -> Result<Self, Failure> {
        // SAFETY: the new memory is nobody else's.
        let page = unsafe { call("mmap", MMAP, [0, SIZE, READ_WRITE, SHARED_ANONYMOUS, usize::MAX, 0]) }?;
        // SAFETY: it is mapped for good, aligned, and used as an atomic only.
        Ok(Self(unsafe { &*core::ptr::with_exposed_provenance::<AtomicU64>(page) }))
    }

    /// The number.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Adds one with every [`LOOP_INSTRUCTIONS`] instructions.
    pub fn count_for_ever(&self) -> ! {
        // SAFETY: the loop changes the counter alone.
        unsafe { asm!("2:", "inc qword ptr [{}]", "jmp 2b", in(reg) self.0.as_ptr(), options(noreturn)) }
    }
}

/// Puts this process into the class that runs when no other process wants to.
pub fn become_idle() -> Result<(), Failure> {
    let priority = 0u32;
    let arguments = [0, IDLE, core::ptr::from_ref(&priority).addr(), 0, 0, 0];
    // SAFETY: the kernel reads the priority.
    unsafe { call("sched_setscheduler", SCHED_SETSCHEDULER, arguments) }.map(drop)
}

/// Ends a process that was started, and waits for its end.
pub fn stop_process(process: usize) -> Result<(), Failure> {
    call_with_numbers("kill", KILL, [process, KILLED])?;
    match exit_status(process) {
        Err(Failure::Process(status)) if status == KILLED as u32 => Ok(()),
        Ok(status) => Err(Failure::wrong("exit status of a process:", status.into())),
        Err(failure) => Err(failure),
    }
}

/// The time-stamp counter.
pub fn ticks() -> u64 {
    // SAFETY: every processor with 64 bits has it, and Linux allows it to programs.
    unsafe { _rdtsc() }
}
