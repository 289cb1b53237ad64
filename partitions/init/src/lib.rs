//! What init decides without hardware: when a partition that has failed is started anew, and whom that concerns.
//!
//! Owns: the arithmetic of restarts ([`Restarts`]), and who learns of whose lives ([`links`]). Must never: call the kernel; know what a partition consists of.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod links;
mod restarts;

pub use links::{Link, links};
pub use restarts::{Decision, Restarts, Waits};
