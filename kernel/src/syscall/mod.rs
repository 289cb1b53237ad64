//! System calls: the handlers that the entry assembly calls, by number.
//!
//! Each takes the argument registers and returns the thread to resume; `current` is the thread that called.

pub mod guest;
pub mod invoke;
pub mod ipc;

use crate::arch::cpu::{self, Cpu};
use crate::lock::kernel_lock;
use crate::object::thread::{Resume, Thread};
use crate::{schedule, trace};
use bulkhead_abi::{Error, Syscall, TraceKind};
use bulkhead_core::phys::Ref;

/// What the entry assembly calls.
type Handler = extern "C" fn(u64, u64, u64, u64, u64, u64) -> Ref<Thread>;

/// Numbers of system calls are below.
pub const DIRECT: u64 = Syscall::Invoke as u64 + 1;

/// Handlers in the order of the numbers of [`Syscall`]; the assembly checks the bound.
#[unsafe(no_mangle)]
static syscall_handlers: [Handler; DIRECT as usize] =
    [ipc::call, ipc::reply_receive, ipc::signal, ipc::wait, guest::run, yield_now, invoke::invoke];

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

extern "C" fn unknown(_: u64, _: u64, _: u64, _: u64, _: u64, _: u64) -> Ref<Thread> {
    serve(|_, _| Err(Error::UnknownSyscall))
}

/// A system call that is recorded, or that there is none of this number.
#[unsafe(no_mangle)]
extern "C" fn syscall_slow(a: u64, b: u64, c: u64, d: u64, e: u64, f: u64, number: u64) -> Ref<Thread> {
    let cpu = cpu::this();
    let note = |kind| {
        let _lock = kernel_lock();
        trace::record(cpu, kind, || [number, a & 0xffff_ffff | b << 32]);
        trace::forget_gone(cpu);
    };
    note(TraceKind::Syscall);
    let next = syscall_handlers.get(number as usize).unwrap_or(&(unknown as Handler))(a, b, c, d, e, f);
    note(TraceKind::HandOver);
    next
}
