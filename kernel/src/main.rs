//! The Bulkhead kernel.
//!
//! # Principles
//! - **Authority is a capability.** Every system call names the slot of the capability that it uses; there are no global
//!   identifiers and nothing asks who the caller is.
//! - **Memory is somebody's.** After boot the kernel allocates nothing: every object is made of a Memory capability, and
//!   every page table comes from the pool that its partition was given.
//! - **One stack a processor.** A thread's registers lie in its object, so a blocked thread needs no kernel stack, and a switch
//!   is a load of another thread's registers. Long operations stop between bounded steps and happen again.
//! - **One lock.** Kernel paths are short; the lock makes them simple enough to read, and is never held while a partition or a
//!   guest runs.
//! - **No emulation, no policy, no devices** but interrupt controllers, and the UART until the system runs.
//!
//! Unsafe code lives in `arch`, `boot`, `memory` and `vmx`, where an object is found by its address (`object`, `syscall`), in the
//! switch of address spaces and the sleep of `schedule`, in the answers of `shootdown`, and in what the panic screen reads
//! (`panic`).
#![no_std]
#![no_main]
// A panic stops the machine, so no partition or device may cause one. The build looks for those that remain.
#![warn(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::unreachable,
    clippy::todo,
    clippy::unimplemented
)]

mod arch;
mod boot;
mod fault;
mod lock;
mod memory;
mod object;
mod panic;
mod schedule;
mod shootdown;
mod syscall;
mod time;
mod trace;
mod vmx;

// Compiled code calls its functions by name.
use bulkhead_intrinsics as _;
