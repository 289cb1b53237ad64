//! The kernel lock: one processor at a time changes kernel objects. Kernel paths are short and bounded, so that fairness
//! (tickets) is all it needs. A processor that waits still answers flush requests, since the holder may wait for it.

use crate::arch::cpu;
use crate::schedule::flush_if_wanted;
use core::sync::atomic::{AtomicU32, Ordering};

#[repr(C, align(64))]
struct Line(AtomicU32);

static NEXT: Line = Line(AtomicU32::new(0));
static SERVING: Line = Line(AtomicU32::new(0));

/// Proof that the kernel lock is held; dropping it releases the lock.
pub struct KernelLock(());

/// Takes the kernel lock.
#[inline(always)]
pub fn kernel_lock() -> KernelLock {
    let ticket = NEXT.0.fetch_add(1, Ordering::Relaxed);
    if SERVING.0.load(Ordering::Acquire) != ticket {
        wait(ticket);
    }
    KernelLock(())
}

/// Runs `action` with the lock released, for a caller that holds it, and takes it again.
pub fn release_while(action: impl FnOnce()) {
    drop(KernelLock(()));
    action();
    core::mem::forget(kernel_lock());
}

#[cold]
#[inline(never)]
fn wait(ticket: u32) {
    while SERVING.0.load(Ordering::Acquire) != ticket {
        flush_if_wanted(cpu::this());
        core::hint::spin_loop();
    }
}

impl Drop for KernelLock {
    #[inline(always)]
    fn drop(&mut self) {
        // Only the holder writes, so a plain addition is enough.
        let next = SERVING.0.load(Ordering::Relaxed).wrapping_add(1);
        SERVING.0.store(next, Ordering::Release);
    }
}
