//! Invalidation of translations that the processor caches for guests (SDM vol. 3, 29.4.3).

use core::arch::asm;

/// Type of INVEPT and INVVPID that names one context.
const SINGLE_CONTEXT: u64 = 1;

/// Forgets, on this processor, what was cached from the page tables of one guest space. VMX must be on.
pub fn invalidate_guest_space(ept_pointer: u64) {
    let descriptor = [ept_pointer, 0];
    // SAFETY: invalidating caches changes no memory; the descriptor is two words as the instruction wants.
    unsafe { asm!("invept {}, [{}]", in(reg) SINGLE_CONTEXT, in(reg) &descriptor, options(nostack, readonly)) };
}

/// Forgets, on this processor, what was cached for a virtual processor. VMX must be on; 0 is no such identifier.
pub fn invalidate_vpid(vpid: u16) {
    if vpid == 0 {
        return;
    }
    let descriptor = [u64::from(vpid), 0];
    // SAFETY: as above.
    unsafe { asm!("invvpid {}, [{}]", in(reg) SINGLE_CONTEXT, in(reg) &descriptor, options(nostack, readonly)) };
}
