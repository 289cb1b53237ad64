//! The kernel's algorithms, free of hardware: they run on the host under property tests.
//!
//! Owns: physical-memory references, frame accounting, capabilities, page-table building, scheduler queues. Must never:
//! execute a privileged instruction, or know a device.
#![no_std]

pub mod phys;
