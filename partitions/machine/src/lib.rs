//! The virtual PC of a guest, hardware-free: device models, loaders, instruction emulation, CPUID and MSR policy.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

/// Atomics of what threads share without a lock: loom's where it explores their interleavings.
mod atomics {
    #[cfg(not(loom))]
    pub use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
    #[cfg(loom)]
    pub use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};
}

pub mod acpi;
pub mod arbitration;
pub mod bus;
pub mod devices;
pub mod emulate;
pub mod interconnect;
pub mod interpret;
pub mod layout;
pub mod loader;
pub mod machine;
pub mod mailbox;
pub mod memory;
pub mod policy;
pub mod posted;
pub mod processor;
pub mod virtio;
pub mod virtual_apic;
