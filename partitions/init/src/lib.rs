//! What init decides without hardware: whether a partition has failed, when it is started anew, and whom that concerns.
//!
//! Owns: the arithmetic of restarts ([`Restarts`]) and of signs of life ([`Watchdog`]), and who learns of whose lives ([`links`]). Must never: call the kernel; know what a partition consists of.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod links;
mod restarts;
mod watchdog;

pub use links::{Link, links};
pub use restarts::{Decision, Restarts, Waits};
pub use watchdog::{Look, Watchdog, Watchdogs};
