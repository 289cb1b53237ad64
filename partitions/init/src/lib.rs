//! What init decides without hardware: whether a partition has failed, when it is started anew, and whom that concerns.
//!
//! Owns: the arithmetic of restarts ([`Restarts`]) and of signs of life ([`Watchdog`]), who learns of whose lives ([`links`]), and how
//! init repeats a partition's words ([`on_one_line`]). Must never: call the kernel; know what a partition consists of.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod links;
mod restarts;
mod text;
mod watchdog;

pub use links::{Link, links};
pub use restarts::{Decision, Restarts, Waits};
pub use text::on_one_line;
pub use watchdog::{Look, Watchdog, Watchdogs};
