//! What init decides without hardware: when a partition that has failed is started anew, and whom that concerns.
//!
//! Owns: the arithmetic of restarts ([`Restarts`]). Must never: call the kernel; know what a partition consists of.
#![no_std]
#![forbid(unsafe_code)]

mod restarts;

pub use restarts::{Decision, Restarts, Waits};
