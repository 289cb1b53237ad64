//! Model-specific registers of the host.

pub use x86::msr::{rdmsr as read, wrmsr as write};

/// The time-stamp counter.
pub fn tsc() -> u64 {
    // SAFETY: the kernel may read it.
    unsafe { core::arch::x86_64::_rdtsc() }
}
