//! A share of a CPU: a priority and, optionally, a budget in each period, or slots of a cyclic major frame.

use bulkhead_core::frame::MajorFrame;
use bulkhead_core::object::ObjectHeader;
use bulkhead_core::phys::KernelObject;
use bulkhead_core::queue::Priority;
use core::cell::Cell;

/// A window. Zero is one of CPU 0 with the lowest priority and no limit.
#[repr(C)]
pub struct Window {
    /// Common to all objects.
    pub header: ObjectHeader,
    /// The CPU it is a share of.
    pub cpu: Cell<u32>,
    /// It may be sealed with (a root window).
    pub root: Cell<bool>,
    /// Priority of the threads that it pays for.
    pub priority: Cell<Priority>,
    /// TSC ticks per period.
    pub budget: Cell<u64>,
    /// TSC ticks; 0 for no limit.
    pub period: Cell<u64>,
    /// What is left of the budget; it does not matter without a limit.
    pub remaining: Cell<u64>,
    /// When the budget is made full again.
    pub refill_at: Cell<u64>,
    /// When it is open.
    pub frame: MajorFrame,
    /// Device interrupts wait until its slot is over.
    pub quiet: Cell<bool>,
}

// SAFETY: cells of numbers.
unsafe impl KernelObject for Window {}

impl Window {
    /// Sets the parameters and fills the budget.
    pub fn configure(&self, cpu: u32, priority: Priority, budget: u64, period: u64) {
        self.cpu.set(cpu);
        self.priority.set(priority);
        self.budget.set(budget);
        self.period.set(period);
        self.remaining.set(budget);
        self.refill_at.set(0);
    }

    /// Charges `ticks`.
    #[inline]
    pub fn charge(&self, ticks: u64) {
        self.remaining.set(self.remaining.get().saturating_sub(ticks));
    }

    /// Fills the budget when its time has come. Returns the ticks that may be used now, `u64::MAX` without a limit; if they are 0,
    /// also when to ask again.
    #[inline]
    pub fn available(&self, now: u64) -> (u64, u64) {
        let period = self.period.get();
        let (left, opens) = self.frame.look(now);
        if left == 0 || period == 0 {
            return (left, opens);
        }
        if now >= self.refill_at.get() {
            self.remaining.set(self.budget.get());
            self.refill_at.set(now.saturating_add(period));
        }
        (self.remaining.get().min(left), self.refill_at.get())
    }
}
