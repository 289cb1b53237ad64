//! `Run`: a thread goes into a guest processor, as into a function.

use super::{caller, refuse};
use crate::arch::cpu::{self, Cpu};
use crate::arch::traps;
use crate::lock::kernel_lock;
use crate::object::notification::Notification;
use crate::object::thread::{Resume, Thread};
use crate::object::{bound, lookup};
use crate::vmx::{self, Duty, Outcome, Vcpu};
use crate::{schedule, time, trace};
use bulkhead_abi::{EXIT_KEPT, EXIT_TIMED, Error, ExitReason, Rights, TraceKind};
use bulkhead_core::phys::Ref;

/// `Run`.
pub extern "C" fn run(slot: u64, _: u64, _: u64, _: u64, _: u64, _: u64) -> Ref<Thread> {
    let cpu = cpu::this();
    let thread = caller(cpu);
    let lock = kernel_lock();
    let begun = lookup::<Vcpu>(thread, slot, Rights::RUN).and_then(|(vcpu, _)| vmx::begin_run(thread, vcpu));
    let vcpu = match begun {
        Ok(vcpu) => vcpu,
        Err(error) => return refuse(thread, error),
    };
    if let Some(thread) = pending(cpu, thread, vcpu) {
        return thread;
    }
    drop(lock);
    go(cpu, thread, vcpu)
}

/// Goes on with a run that was interrupted for another thread.
#[unsafe(no_mangle)]
extern "C" fn resume_guest(thread: Ref<Thread>) -> Ref<Thread> {
    let cpu = cpu::this();
    let lock = kernel_lock();
    let Some(vcpu) = thread.vcpu.get() else {
        // The vCPU went away meanwhile.
        thread.resume.set(Resume::Syscall);
        return refuse(thread, Error::Gone);
    };
    if let Some(thread) = pending(cpu, thread, vcpu) {
        return thread;
    }
    vmx::resume_run(vcpu);
    trace::record(cpu, TraceKind::Enter, || [0; 2]);
    drop(lock);
    go(cpu, thread, vcpu)
}

/// If the thread's bound notification has been signalled, the run ends with that, unless the signals are interrupts of the guest.
#[inline(always)]
fn pending(cpu: &'static Cpu, thread: Ref<Thread>, vcpu: Ref<Vcpu>) -> Option<Ref<Thread>> {
    let notification = thread.bound_notification().filter(|notification| notification.bits.get() != 0)?;
    signalled(cpu, thread, vcpu, notification)
}

#[cold]
fn signalled(
    cpu: &'static Cpu,
    thread: Ref<Thread>,
    vcpu: Ref<Vcpu>,
    notification: Ref<Notification>,
) -> Option<Ref<Thread>> {
    let signals = vcpu.post_signals(notification.bits.take());
    if signals == 0 {
        return None;
    }
    vcpu.deliver_signals(&cpu.vmx, signals);
    end(thread, ExitReason::Signal);
    Some(schedule::next(cpu))
}

/// The run ends; the thread sees the reason.
#[inline(always)]
fn end(thread: Ref<Thread>, reason: ExitReason) {
    vmx::end_run(thread);
    thread.set_exit(reason as u64);
}

/// Runs the guest until there is something for the monitor or for another thread. The kernel lock is free while the guest runs.
#[inline(always)]
fn go(cpu: &'static Cpu, thread: Ref<Thread>, vcpu: Ref<Vcpu>) -> Ref<Thread> {
    loop {
        let outcome = vcpu.run(&cpu.vmx, cpu.armed.get());
        if let Outcome::Vmm(reason) = outcome {
            let _lock = kernel_lock();
            // The vCPU may have been destroyed just now, and the thread been told so.
            if thread.vcpu.get().is_some() {
                trace::record(cpu, TraceKind::Exit, || vcpu.traced(reason as u64));
                end(thread, reason);
            }
            return thread;
        }
        let is_served = match outcome {
            Outcome::Paging(Duty::Fault) => serve_paging::<true>(thread, Duty::Fault),
            Outcome::Paging(duty) => serve_paging::<false>(thread, duty),
            _ => false,
        };
        if is_served {
            continue;
        }
        if let Some(next) = interlude(cpu, thread, vcpu, outcome) {
            return next;
        }
    }
}

/// The commonest of what the kernel does by itself, without a look at what other threads want: signals interrupt the guest. Answers
/// whether the guest can go on.
#[inline(never)]
fn serve_paging<const IS_FAULT: bool>(thread: Ref<Thread>, duty: Duty) -> bool {
    let _lock = kernel_lock();
    // The vCPU may have been destroyed while the lock was another's.
    let Some(vcpu) = thread.vcpu.get() else { return false };
    if let Some(Outcome::Vmm(reason)) = vcpu.serve_paging::<IS_FAULT>(duty) {
        trace::record(cpu::this(), TraceKind::Exit, || vcpu.traced(reason as u64));
        end(thread, reason);
        return false;
    }
    trace::record(cpu::this(), TraceKind::Exit, || vcpu.traced(EXIT_KEPT));
    true
}

/// The guest wrote to a port that is a doorbell.
fn ring(vcpu: Ref<Vcpu>, port: u16) {
    let space = vcpu.space.get();
    if let Some(slot) = space.as_ref().and_then(|space| space.doorbell(port))
        && let Some(notification) = bound::<Notification>(slot)
    {
        notification.signal(slot.badge());
    }
}

/// What the kernel does between an exit and the next entry by itself. Returns the thread to go on with, unless the guest can.
#[inline(never)]
fn interlude(cpu: &'static Cpu, thread: Ref<Thread>, vcpu: Ref<Vcpu>, outcome: Outcome) -> Option<Ref<Thread>> {
    let _lock = kernel_lock();
    match outcome {
        Outcome::Interrupt(number) => traps::interrupt(number),
        Outcome::Nmi => crate::panic::stop_if_asked(),
        Outcome::MachineCheck => crate::panic::fatal("machine check while a guest ran"),
        Outcome::Doorbell(port) => ring(vcpu, port),
        Outcome::Timer => time::expire(cpu),
        Outcome::Again | Outcome::Paging(_) | Outcome::Vmm(_) => {}
    }
    if thread.vcpu.get().is_none() {
        return Some(schedule::next(cpu));
    }
    let end = if outcome == Outcome::Timer { EXIT_TIMED } else { EXIT_KEPT };
    trace::record(cpu, TraceKind::Exit, || vcpu.traced(end));
    if let Some(thread) = pending(cpu, thread, vcpu) {
        return Some(thread);
    }
    if cpu.reschedule.get() || thread.stopping.get() {
        thread.resume.set(Resume::Guest);
        let next = schedule::next(cpu);
        if next == thread && thread.resume.get() == Resume::Guest {
            // The processor may have slept meanwhile, and not been inside.
            vmx::resume_run(vcpu);
            return None;
        }
        return Some(next);
    }
    None
}
