//! Time, in ticks of the time-stamp counter.

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};

static TICKS_A_SECOND: AtomicU64 = AtomicU64::new(1_000_000_000);

/// Sets the frequency, once: at the entry from the environment, in init from the boot information.
pub fn set_frequency(hz: u64) {
    if hz != 0 {
        TICKS_A_SECOND.store(hz, Ordering::Relaxed);
    }
}

/// The time-stamp counter now. Processors' counters are synchronous.
#[inline(always)]
pub fn now() -> u64 {
    let (low, high): (u64, u64);
    // SAFETY: the kernel leaves RDTSC to user mode; it touches nothing but the two registers.
    unsafe { asm!("rdtsc", out("rax") low, out("rdx") high, options(nomem, nostack, preserves_flags)) };
    high << 32 | low
}

/// The lower half of the time-stamp counter, for measuring short times at the least cost.
#[inline(always)]
pub fn now_low() -> u32 {
    let low: u32;
    // SAFETY: as in `now`.
    unsafe { asm!("rdtsc", out("eax") low, out("edx") _, options(nomem, nostack, preserves_flags)) };
    low
}

/// Ticks a second.
pub fn frequency() -> u64 {
    TICKS_A_SECOND.load(Ordering::Relaxed)
}

/// So many milliseconds in ticks, as far as a tick count can hold.
pub fn milliseconds(count: u64) -> u64 {
    u64::try_from(u128::from(count) * u128::from(frequency()) / 1000).unwrap_or(u64::MAX)
}

/// So many microseconds in ticks, as far as a tick count can hold.
pub fn microseconds(count: u64) -> u64 {
    u64::try_from(u128::from(count) * u128::from(frequency()) / 1_000_000).unwrap_or(u64::MAX)
}

/// Ticks in microseconds.
pub fn to_microseconds(ticks: u64) -> u64 {
    u64::try_from(u128::from(ticks) * 1_000_000 / u128::from(frequency())).unwrap_or(u64::MAX)
}
