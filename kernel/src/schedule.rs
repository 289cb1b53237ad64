//! Which thread a processor runs next, and the switch to it.
//!
//! Each processor has its own ready queue; the kernel lock lets others insert into it. Threads are bound to their
//! processor, so nothing ever migrates.

use crate::arch::cpu::{self, Cpu};
use crate::arch::{apic, msr, traps::vector};
use crate::lock::kernel_lock;
use crate::memory::{kernel_space, load_space};
use crate::object::engine;
use crate::object::hooks::KernelHooks;
use crate::object::thread::{Resume, State, Thread};
use crate::{time, trace};
use bulkhead_abi::TraceKind;
use bulkhead_core::phys::Ref;
use bulkhead_core::queue::Priority;
use core::arch::asm;

/// The processor that a thread belongs to.
fn home(thread: Ref<Thread>) -> Option<&'static Cpu> {
    cpu::by_number(thread.cpu.get())
}

/// Has a processor choose its thread anew.
fn prompt(home: &Cpu) {
    home.reschedule.set(true);
    if !core::ptr::eq(home, cpu::this()) {
        apic::send(home.apic_id.get(), vector::RESCHEDULE);
    }
}

/// Makes a blocked thread ready, on its own processor.
pub fn wake(thread: Ref<Thread>) {
    disarm(thread);
    // Whoever has slept begins a turn of its own: what it sees of time does not depend on turns before.
    thread.slice.set(0);
    thread.state.set(State::Ready);
    make_ready(thread);
}

/// Takes a thread out of its processor's timer queue.
fn disarm(thread: Ref<Thread>) {
    if thread.timer.is_armed()
        && let Some(home) = home(thread)
    {
        let queue = if thread.is_soon.get() { &home.soon } else { &home.timers };
        queue.disarm(thread);
    }
}

/// Puts a thread that is `Ready` and not on its processor into the ready queue.
pub fn make_ready(thread: Ref<Thread>) {
    if let Some(home) = home(thread)
        && let Some(own) = enqueue(home, thread, false)
        && (home.current.get().is_none() || home.priority.get() < own)
    {
        prompt(home);
    }
}

/// Puts a ready thread before or behind its equals. Answers its priority, that of the window that pays for it; nothing if that is not
/// open, or there is none, or the thread was told to stop: then it stops.
fn enqueue(home: &Cpu, thread: Ref<Thread>, first: bool) -> Option<Priority> {
    let stopping = thread.stopping.replace(false);
    let Some(window) = thread.paying_window().filter(|_| !stopping) else {
        thread.state.set(State::Stopped);
        return None;
    };
    let (left, opens) = window.frame.look(msr::tsc());
    if left == 0 {
        // In another's slot it is not seen: the timer has a deadline in its own.
        thread.state.set(State::Throttled);
        arm(home, thread, opens);
        return None;
    }
    let own = window.priority.get();
    home.ready.push(thread, own, first);
    Some(own)
}

/// Interrupts a thread that runs a guest on another processor.
pub fn interrupt_guest(thread: Ref<Thread>, number: u8) {
    if thread.cpu.get() != cpu::this().number.get()
        && let Some(home) = home(thread)
        && home.current.get() == Some(thread)
    {
        apic::send(home.apic_id.get(), number);
    }
}

/// Has the timer wake a thread of this or another processor at `deadline`, or later, when its window opens.
pub fn set_timer(thread: Ref<Thread>, deadline: u64) {
    if let Some(home) = home(thread) {
        let (left, opens) = thread.paying_window().map_or((1, 0), |window| window.frame.look(deadline));
        arm(home, thread, if left == 0 { opens } else { deadline });
    }
}

/// Puts a thread into its processor's timer queue, and has that processor look at it if it would be late.
fn arm(home: &Cpu, thread: Ref<Thread>, deadline: u64) {
    disarm(thread);
    let is_soon = deadline < home.quiet_until.get();
    thread.is_soon.set(is_soon);
    let queue = if is_soon { &home.soon } else { &home.timers };
    queue.arm(thread, deadline);
    if core::ptr::eq(home, cpu::this()) {
        time::arm(home);
    } else if deadline < home.budget_end.get() {
        apic::send(home.apic_id.get(), vector::TIMER);
    }
}

/// Has a thread that is in no queue wait for the next slot of its window, if fewer than `ticks` are left of the one that is open. (While
/// none is, whatever it pays for waits for the next one anyway.)
#[cold]
pub fn await_room(thread: Ref<Thread>, ticks: u64) -> bool {
    let now = msr::tsc();
    let frame = thread.paying_window();
    let frame = frame.as_ref().map(|window| &window.frame);
    let Some((left, _)) = frame.map(|frame| frame.look(now)).filter(|(left, _)| (1..ticks).contains(left)) else {
        return false;
    };
    thread.state.set(State::Throttled);
    set_timer(thread, now.saturating_add(left));
    true
}

/// Time slices among threads of one priority, per second.
const SLICES_PER_SECOND: u64 = 100;

/// Charges the current thread's slice and window for the time since the last charge.
fn charge(cpu: &Cpu, now: u64) {
    let since = cpu.window_since.replace(now);
    let Some(thread) = cpu.current.get() else {
        return;
    };
    let ticks = now.saturating_sub(since);
    thread.slice.set(thread.slice.get().saturating_sub(ticks));
    if let Some(window) = thread.paying_window() {
        window.charge(ticks);
    }
}

/// Has somebody else pay for what a thread does from here on. If it has its processor, that chooses anew: the window that pays now may
/// be closed.
pub fn set_payer(thread: Ref<Thread>, payer: Option<Ref<Thread>>) {
    if thread.payer.get() != payer
        && let Some(home) = home(thread).filter(|home| home.current.get() == Some(thread))
    {
        charge(home, msr::tsc());
        prompt(home);
    }
    thread.payer.set(payer);
}

/// Sets the address space and port rights of the thread that is about to run.
#[inline(always)]
pub fn enter_space(cpu: &Cpu, thread: Ref<Thread>) {
    let space = thread.address_space.get();
    if cpu.address_space.get() != space {
        cpu.address_space.set(space);
        let partition = thread.partition.get().map_or(1, |partition| partition.address());
        cpu.task.enable_ports(cpu.ports_of.get() == partition);
        // SAFETY: a thread's address space maps the kernel half like every other.
        unsafe { load_space(space) }
    }
}

/// The thread to go on with after a system call or interrupt of the current one. Every kernel exit passes here or through
/// the hand-over of `call` and `reply`.
#[inline]
pub fn next(cpu: &'static Cpu) -> Ref<Thread> {
    if let Some(thread) = cpu.current.get()
        && !cpu.reschedule.get()
        && thread.state.get() == State::Ready
        && !thread.stopping.get()
    {
        return thread;
    }
    choose(cpu)
}

#[inline(never)]
fn choose(cpu: &'static Cpu) -> Ref<Thread> {
    let now = msr::tsc();
    charge(cpu, now);
    cpu.reschedule.set(false);
    if let Some(thread) = cpu.current.replace(None)
        && thread.state.get() == State::Ready
    {
        // It goes on before its equals if it is preempted, and after them if its time slice is over.
        enqueue(cpu, thread, thread.slice.get() != 0);
    }
    pick(cpu, now).unwrap_or_else(|| idle(cpu))
}

/// Takes the first thread of the highest priority whose window may pay, and makes it current. Those before it sleep until their budget
/// is filled, or until their next slot.
fn pick(cpu: &'static Cpu, now: u64) -> Option<Ref<Thread>> {
    while let Some(thread) = cpu.ready.pop() {
        let Some(window) = thread.paying_window() else {
            thread.state.set(State::Stopped);
            continue;
        };
        let (available, again) = window.available(now);
        if available == 0 {
            if window.frame.look(now).0 != 0 {
                trace::record(cpu, TraceKind::Throttle, || {
                    [thread.header.generation(), window.priority.get().number()]
                });
            }
            thread.state.set(State::Throttled);
            arm(cpu, thread, again);
            continue;
        }
        let until = if window.quiet.get() { now.saturating_add(window.frame.look(now).0) } else { 0 };
        cpu.quiet_until.set(until);
        apic::hold_devices(cpu, until != 0);
        cpu.current.set(Some(thread));
        cpu.priority.set(window.priority.get());
        cpu.window_since.set(now);
        if thread.slice.get() == 0 {
            thread.slice.set(time::frequency() / SLICES_PER_SECOND);
        }
        let allowed = available.min(thread.slice.get());
        time::arm_for(cpu, now.saturating_add(allowed));
        enter_space(cpu, thread);
        trace::record(cpu, TraceKind::Switch, || [0; 2]);
        return Some(thread);
    }
    None
}

/// Sleeps, without the kernel lock, until there is a thread to run. Entered and left with the lock held.
fn idle(cpu: &'static Cpu) -> Ref<Thread> {
    trace::record(cpu, TraceKind::Switch, || [0; 2]);
    let space = kernel_space();
    cpu.address_space.set(space);
    // The space that was used last may be taken apart while this processor sleeps.
    // SAFETY: the kernel's own space maps the kernel half like every other.
    unsafe { load_space(space) }
    loop {
        let until = cpu.quiet_until.get();
        let quiet = until > msr::tsc();
        apic::hold_devices(cpu, quiet);
        time::arm_for(cpu, if quiet { until } else { u64::MAX });
        // The lock is held by a guard further up the stack; lend it to others while asleep.
        crate::lock::release_while(|| {
            // SAFETY: interrupts come between STI and the end of HLT only, on the kernel's stack, and return here.
            unsafe { asm!("sti", "hlt", "cli", options(nostack)) }
        });
        // What a partition that destroyed itself left unfinished is finished here.
        let _ = engine().destroy_step(&KernelHooks);
        cpu.reschedule.set(false);
        if let Some(thread) = pick(cpu, msr::tsc()) {
            return thread;
        }
    }
}

/// The first thread on a processor that has just come up.
#[unsafe(no_mangle)]
extern "C" fn first_thread() -> Ref<Thread> {
    let _lock = kernel_lock();
    choose(cpu::this())
}

/// Puts the current thread at the end of its priority's queue, if another one of that priority is ready.
#[inline(always)]
pub fn yield_now(cpu: &'static Cpu, thread: Ref<Thread>) -> Ref<Thread> {
    if cpu.ready.has_at_least(cpu.priority.get()) { give_way(cpu, thread) } else { thread }
}

#[inline(never)]
fn give_way(cpu: &'static Cpu, thread: Ref<Thread>) -> Ref<Thread> {
    charge(cpu, msr::tsc());
    thread.slice.set(0);
    cpu.current.set(None);
    make_ready(thread);
    next(cpu)
}

/// Makes `thread` the current one without asking the ready queue: the hand-over of a call or a reply. Its registers and state
/// must be set.
#[inline(always)]
pub fn hand_over(cpu: &Cpu, thread: Ref<Thread>) -> Ref<Thread> {
    thread.state.set(State::Ready);
    cpu.current.set(Some(thread));
    enter_space(cpu, thread);
    thread
}

/// Takes a thread off its processor for good or until it is started again. Returns whether it is off; if not, the processor has been told.
pub fn stop(thread: Ref<Thread>) -> bool {
    let Some(home) = home(thread) else {
        return true;
    };
    if home.current.get() == Some(thread) {
        thread.stopping.set(true);
        prompt(home);
        return false;
    }
    withdraw(home, thread);
    thread.state.set(State::Stopped);
    true
}

/// Removes a thread that is not on its processor from whatever it is queued in or waits for.
fn withdraw(home: &Cpu, thread: Ref<Thread>) {
    disarm(thread);
    match thread.state.get() {
        State::Ready => home.ready.remove(thread),
        State::Calling | State::Receiving => {
            if let Some(endpoint) = thread.endpoint.replace(None) {
                endpoint.remove(thread);
            }
        }
        State::AwaitingReply => {
            if let Some(server) = thread.server.replace(None) {
                crate::syscall::ipc::forget_caller(server, thread);
            }
        }
        State::Waiting => thread.end_wait(),
        State::Stopped | State::Throttled | State::Faulted => {}
    }
    crate::vmx::end_run(thread);
    if thread.resume.get() == Resume::Guest {
        thread.resume.set(Resume::Syscall);
    }
}
