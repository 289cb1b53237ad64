//! The kernel lock: one processor at a time changes kernel objects. A processor that waits still does what others ask of it,
//! since the holder may wait for that.

use crate::arch::cpu;
use crate::shootdown::answer;
use bulkhead_core::lock::TicketLock;

static LOCK: TicketLock = TicketLock::new();

/// Proof that the kernel lock is held; dropping it releases the lock.
pub struct KernelLock(());

/// Takes the kernel lock.
#[inline(always)]
pub fn kernel_lock() -> KernelLock {
    LOCK.acquire(|| answer(cpu::this()));
    KernelLock(())
}

/// Runs `action` with the lock released, for a caller that holds it, and takes it again.
pub fn release_while(action: impl FnOnce()) {
    drop(KernelLock(()));
    action();
    core::mem::forget(kernel_lock());
}

impl Drop for KernelLock {
    #[inline(always)]
    fn drop(&mut self) {
        LOCK.release();
    }
}
