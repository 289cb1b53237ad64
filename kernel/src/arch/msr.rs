//! Model-specific registers of the host.

use core::arch::asm;

/// Reads an MSR.
///
/// # Safety
/// The register must exist.
#[inline(always)]
pub unsafe fn read(register: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: the caller promises that the register exists; reading has no effect on memory.
    unsafe {
        asm!("rdmsr", in("ecx") register, out("eax") low, out("edx") high, options(nostack, nomem, preserves_flags))
    };
    u64::from(high) << 32 | u64::from(low)
}

/// Writes an MSR.
///
/// # Safety
/// The register must exist, accept the value, and the effect must be one that the caller wants.
#[inline(always)]
pub unsafe fn write(register: u32, value: u64) {
    // SAFETY: as the caller promises.
    unsafe {
        asm!("wrmsr", in("ecx") register, in("eax") value as u32, in("edx") (value >> 32) as u32, options(nostack, preserves_flags))
    };
}

/// The time-stamp counter.
#[inline(always)]
pub fn tsc() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: RDTSC reads a counter.
    unsafe { asm!("rdtsc", out("eax") low, out("edx") high, options(nostack, nomem, preserves_flags)) };
    u64::from(high) << 32 | u64::from(low)
}
