//! Atomics, and cells that the kernel lock protects: those of loom where its tests explore the orders of access.

#[cfg(not(loom))]
pub use core::{
    cell::Cell,
    hint::spin_loop as relax,
    sync::atomic::{AtomicU32, AtomicU64, Ordering, fence},
};
#[cfg(loom)]
pub use loom::{
    cell::Cell,
    sync::atomic::{AtomicU32, AtomicU64, Ordering, fence},
    thread::yield_now as relax,
};
