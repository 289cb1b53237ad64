//! Time, in ticks of the time-stamp counter.

use bulkhead_abi::NO_DEADLINE;
use bulkhead_driver::Clock;
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
    microseconds(count.saturating_mul(1000))
}

/// So many microseconds in ticks, as far as a tick count can hold.
pub fn microseconds(count: u64) -> u64 {
    u64::try_from(u128::from(count) * u128::from(frequency()) / 1_000_000).unwrap_or(u64::MAX)
}

/// Ticks in microseconds.
pub fn to_microseconds(ticks: u64) -> u64 {
    u64::try_from(u128::from(ticks) * 1_000_000 / u128::from(frequency())).unwrap_or(u64::MAX)
}

/// The time-stamp counter as the clock of a driver or an emulator.
#[derive(Clone, Copy, Debug)]
pub struct Tsc;

impl Clock for Tsc {
    fn milliseconds(&self) -> u64 {
        to_microseconds(now()) / 1000
    }
}

impl Tsc {
    /// The time in ticks at which the clock has reached this one, for [`crate::events::wait`]; [`NO_DEADLINE`] for none.
    pub fn deadline(self, milliseconds: Option<u64>) -> u64 {
        // Rounded up, so that the time has come when the wait ends.
        milliseconds.map_or(NO_DEADLINE, |time| self::milliseconds(time.saturating_add(1)))
    }
}
