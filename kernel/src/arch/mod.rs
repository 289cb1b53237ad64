//! The processor and its interrupt controllers.

pub mod apic;
pub mod clock;
pub mod control;
pub mod cpu;
pub mod descriptors;
pub mod ioapic;
pub mod msr;
pub mod serial;
pub mod traps;
