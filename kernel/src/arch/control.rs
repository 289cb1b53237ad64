//! Control registers that are read in more than one place.

use core::arch::asm;

/// CR2: the address of the last page fault.
#[inline(always)]
pub fn fault_address() -> u64 {
    let value;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, cr2", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}
