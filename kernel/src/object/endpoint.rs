//! A rendezvous for call and reply between threads of one CPU.

use crate::object::thread::{Queued, State, Thread};
use crate::schedule;
use bulkhead_abi::Error;
use bulkhead_core::Progress;
use bulkhead_core::object::ObjectHeader;
use bulkhead_core::phys::{KernelObject, Ref};
use bulkhead_core::queue::List;
use core::cell::Cell;

/// An endpoint. Zero is one of CPU 0 where nobody waits.
#[repr(C)]
pub struct Endpoint {
    /// Common to all objects.
    pub header: ObjectHeader,
    /// The CPU of all threads that may use it.
    pub cpu: Cell<u32>,
    /// TSC ticks that its server takes for a call at most, as its maker says; 0: not said. No call begins with less left of a slot.
    pub worst_case: Cell<u32>,
    /// The server thread that waits for a message; one at most, which is what makes the hand-over short.
    pub receiver: Cell<Option<Ref<Thread>>>,
    /// Threads whose calls nobody has received yet.
    pub callers: List<Thread, Queued>,
}

// SAFETY: cells; `None` of a reference is zero, and so is an empty queue.
unsafe impl KernelObject for Endpoint {}

impl Endpoint {
    /// Forgets a thread that waits in it, as receiver or as caller, and gives up.
    pub fn remove(&self, thread: Ref<Thread>) {
        if self.receiver.get() == Some(thread) { self.receiver.set(None) } else { self.callers.remove(thread) }
    }

    /// Sends a thread that waits away with an error, if there is one; the endpoint is being destroyed.
    pub fn dissolve_step(&self) -> Progress {
        let Some(thread) = self.receiver.replace(None).or_else(|| self.callers.pop_front()) else {
            return Progress::Done;
        };
        debug_assert!(matches!(thread.state.get(), State::Calling | State::Receiving));
        thread.endpoint.set(None);
        thread.set_status(Err(Error::Gone));
        schedule::wake(thread);
        Progress::Again
    }
}
