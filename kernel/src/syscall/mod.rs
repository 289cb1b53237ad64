//! System calls: the handlers that the entry assembly calls, by number.
//!
//! Each takes the argument registers and returns the thread to resume; `current` is the thread that called.

pub mod guest;
pub mod invoke;
pub mod ipc;

use crate::arch::cpu::{self, Cpu};
use crate::lock::kernel_lock;
use crate::object::thread::{Resume, Thread};
use crate::schedule;
use bulkhead_abi::{Error, Syscall};
use bulkhead_core::phys::Ref;

/// What the entry assembly calls.
type Handler = extern "C" fn(u64, u64, u64, u64, u64, u64) -> Ref<Thread>;

/// Handlers by the numbers of [`Syscall`]; the assembly checks the bound.
#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
#[unsafe(no_mangle)]
static syscall_handlers: [Handler; 7] = {
    let mut handlers: [Handler; 7] = [yield_now; 7];
    handlers[Syscall::Call as usize] = ipc::call;
    handlers[Syscall::ReplyReceive as usize] = ipc::reply_receive;
    handlers[Syscall::Signal as usize] = ipc::signal;
    handlers[Syscall::Wait as usize] = ipc::wait;
    handlers[Syscall::Run as usize] = guest::run;
    handlers[Syscall::Invoke as usize] = invoke::invoke;
    handlers
};

/// The thread that made the system call.
#[inline(always)]
fn caller(cpu: &Cpu) -> Ref<Thread> {
    // SAFETY: user mode is entered with a current thread only, and an interrupt that takes it away does not return there.
    let thread = unsafe { cpu.current.get().unwrap_unchecked() };
    thread.resume.set(Resume::Syscall);
    thread
}

/// What most system calls have in common: done under the kernel lock, an error goes to the caller and it goes on.
#[inline(always)]
fn serve(action: impl FnOnce(&'static Cpu, Ref<Thread>) -> Result<Ref<Thread>, Error>) -> Ref<Thread> {
    let _lock = kernel_lock();
    let cpu = cpu::this();
    let thread = caller(cpu);
    action(cpu, thread).unwrap_or_else(|error| refuse(thread, error))
}

/// Ends a system call with an error, and goes on with the caller.
#[inline(always)]
fn refuse(thread: Ref<Thread>, error: Error) -> Ref<Thread> {
    thread.set_status(Err(error));
    thread
}

extern "C" fn yield_now(_: u64, _: u64, _: u64, _: u64, _: u64, _: u64) -> Ref<Thread> {
    serve(|cpu, thread| {
        thread.set_status(Ok(()));
        Ok(schedule::yield_now(cpu, thread))
    })
}

#[unsafe(no_mangle)]
extern "C" fn syscall_unknown() -> Ref<Thread> {
    serve(|_, _| Err(Error::UnknownSyscall))
}
