//! A word of signal bits; the only thing that crosses CPUs.

use crate::arch::{msr, traps::vector};
use crate::object::thread::{State, Thread};
use crate::schedule;
use bulkhead_abi::{Error, NO_DEADLINE, SIGNAL_BADGE};
use bulkhead_core::Progress;
use bulkhead_core::object::ObjectHeader;
use bulkhead_core::phys::{KernelObject, Ref};
use core::cell::Cell;

/// A notification. Zero is one without signals.
#[repr(C)]
pub struct Notification {
    /// Common to all objects.
    pub header: ObjectHeader,
    /// The signals that nobody has taken yet.
    pub bits: Cell<u64>,
    /// The thread that waits for it; one at most.
    pub waiter: Cell<Option<Ref<Thread>>>,
    /// The thread whose bound notification it is.
    pub bound_to: Cell<Option<Ref<Thread>>>,
}

// SAFETY: cells; `None` of a reference is zero.
unsafe impl KernelObject for Notification {}

impl Notification {
    /// Whether its bits should end what `thread` does.
    fn bound_thread(&self) -> Option<Ref<Thread>> {
        // Unbinding empties the thread's slot only; notice it here.
        let own = core::ptr::from_ref(self) as u64;
        self.bound_to.get().filter(|thread| thread.bound_notification().is_some_and(|bound| bound.address() == own))
    }

    /// Adds bits and wakes whom they concern.
    #[inline]
    pub fn signal(&self, bits: u64) {
        self.bits.set(self.bits.get() | bits);
        if let Some(thread) = self.waiter.get() {
            thread.end_wait();
            thread.set_bits(self.bits.take());
            schedule::wake(thread);
            return;
        }
        let Some(thread) = self.bound_thread() else { return };
        if let Some(vcpu) = thread.vcpu.get() {
            self.bits.set(vcpu.post_signals(self.bits.get()));
            if self.bits.get() == 0 {
                return;
            }
        }
        match thread.state.get() {
            State::Receiving => {
                if let Some(endpoint) = thread.endpoint.replace(None) {
                    endpoint.remove(thread);
                }
                thread.set_message(SIGNAL_BADGE, 0, [self.bits.take(), 0, 0, 0]);
                schedule::wake(thread);
            }
            // In a guest on another CPU: the interrupt makes it exit, and it looks at its notification before it re-enters.
            State::Ready if thread.vcpu.get().is_some() => schedule::interrupt_guest(thread, vector::LOOK),
            _ => {}
        }
    }

    /// Makes the calling thread wait, or gives it the bits at once.
    pub fn wait(own: Ref<Self>, thread: Ref<Thread>, deadline: u64) -> Result<(), Error> {
        if own.bits.get() != 0 {
            thread.set_bits(own.bits.take());
            return Ok(());
        }
        Error::TimedOut.when(deadline <= msr::tsc())?;
        Error::WrongState.when(own.waiter.get().is_some())?;
        own.waiter.set(Some(thread));
        thread.waits_for.set(Some(own));
        thread.state.set(State::Waiting);
        if deadline != NO_DEADLINE {
            schedule::set_timer(thread, deadline);
        }
        Ok(())
    }

    /// Ends everybody's interest; the notification is being destroyed.
    pub fn dissolve(&self) -> Progress {
        self.bound_to.set(None);
        if let Some(thread) = self.waiter.get() {
            thread.end_wait();
            thread.set_status(Err(Error::Gone));
            schedule::wake(thread);
        }
        Progress::Done
    }
}
