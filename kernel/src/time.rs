//! Time: the TSC as clock, and one local timer interrupt for the nearest of all deadlines.

use crate::arch::cpu::{self, Cpu};
use crate::arch::{apic, msr};
use crate::object::thread::State;
use crate::schedule;
use bulkhead_abi::Error;
use core::sync::atomic::{AtomicU64, Ordering};

static FREQUENCY: AtomicU64 = AtomicU64::new(0);

/// TSC ticks a second.
pub fn frequency() -> u64 {
    FREQUENCY.load(Ordering::Relaxed)
}

/// Keeps the calibrated frequency.
pub fn set_frequency(hertz: u64) {
    FREQUENCY.store(hertz, Ordering::Relaxed);
}

/// Arms the timer for the nearest deadline, of sleeping threads or of the running one (`budget_end`: its slice or its budget).
pub fn arm_for(cpu: &Cpu, budget_end: u64) {
    cpu.budget_end.set(budget_end);
    arm(cpu);
}

/// Arms the timer for the nearest deadline.
pub fn arm(cpu: &Cpu) {
    let earliest = [&cpu.soon, &cpu.timers].map(|queue| queue.earliest().unwrap_or(u64::MAX));
    let deadline = earliest.into_iter().fold(cpu.budget_end.get(), u64::min);
    if deadline != cpu.armed.get() {
        cpu.armed.set(deadline);
        apic::arm_timer(deadline, msr::tsc());
    }
}

/// Has the timer interrupt at `deadline` at the latest, for this once: a run in a guest ends then.
pub fn arm_by(deadline: u64) {
    let cpu = cpu::this();
    if deadline < cpu.armed.get() {
        cpu.armed.set(deadline);
        apic::arm_timer(deadline, msr::tsc());
    }
}

/// The timer has fired: wakes whose time has come, and notices a used-up budget.
pub fn expire(cpu: &'static Cpu) {
    let now = msr::tsc();
    cpu.armed.set(u64::MAX);
    while let Some(thread) = cpu.soon.pop_expired(now).or_else(|| cpu.timers.pop_expired(now)) {
        match thread.state.get() {
            State::Waiting => {
                thread.end_wait();
                thread.set_status(Err(Error::TimedOut));
                schedule::wake(thread);
            }
            State::Throttled => schedule::wake(thread),
            _ => {}
        }
    }
    if cpu.budget_end.get() <= now {
        cpu.reschedule.set(true);
        cpu.budget_end.set(u64::MAX);
    }
    arm(cpu);
}
