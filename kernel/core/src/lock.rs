//! The ticket lock: kernel paths are short and bounded, so that fairness is all that a lock needs.

use crate::sync::{AtomicU32, Ordering, relax};

/// A word on a cache line of its own: who waits for one word does not slow down who takes the other.
#[derive(Default)]
#[repr(align(64))]
struct Line(AtomicU32);

/// A lock that processors get in the order in which they asked for it.
#[derive(Default)]
pub struct TicketLock {
    next: Line,
    serving: Line,
}

impl TicketLock {
    /// A free lock.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self { next: Line(AtomicU32::new(0)), serving: Line(AtomicU32::new(0)) }
    }

    /// Takes the lock. While it is another's, `meanwhile` is done again and again: the holder may wait for that.
    #[inline(always)]
    pub fn acquire(&self, meanwhile: impl Fn()) {
        let ticket = self.next.0.fetch_add(1, Ordering::Relaxed);
        if self.serving.0.load(Ordering::Acquire) != ticket {
            self.wait(ticket, meanwhile);
        }
    }

    #[cold]
    fn wait(&self, ticket: u32, meanwhile: impl Fn()) {
        while self.serving.0.load(Ordering::Acquire) != ticket {
            meanwhile();
            relax();
        }
    }

    /// Gives the lock to the next; only for its holder.
    #[inline(always)]
    pub fn release(&self) {
        // Only the holder writes, so a plain addition is enough.
        let next = self.serving.0.load(Ordering::Relaxed).wrapping_add(1);
        self.serving.0.store(next, Ordering::Release);
    }
}
