//! A rendezvous for call and reply between threads of one CPU.

use crate::object::thread::{Queued, State, Thread};
use crate::schedule;
use bulkhead_abi::Error;
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

    /// Sends everybody away with an error, a bounded number at a time; the endpoint is being destroyed. Returns whether
    /// nobody is left.
    pub fn dissolve(&self) -> bool {
        const AT_ONCE: usize = 8;
        if let Some(thread) = self.receiver.replace(None) {
            dismiss(thread);
        }
        for _ in 0..AT_ONCE {
            let Some(thread) = self.callers.pop_front() else {
                return true;
            };
            dismiss(thread);
        }
        self.callers.is_empty()
    }
}

fn dismiss(thread: Ref<Thread>) {
    debug_assert!(matches!(thread.state.get(), State::Calling | State::Receiving));
    thread.endpoint.set(None);
    thread.set_status(Err(Error::Gone));
    schedule::wake(thread);
}
