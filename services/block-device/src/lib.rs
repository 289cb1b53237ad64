//! What a block service does, without the hardware, the channels and the memory that it does it with.
//!
//! Owns: the data plane of each guest's virtio disk ([`Disk`]), and whose turn it is at the drive ([`Service`]), whichever drive that
//! is; and what is answered on a disk's control channel ([`Control`]). Must never: let a request leave its disk's range or its guest's memory, acknowledge a reset while the device may still reach
//! the guest's memory, let one guest's requests keep the others' waiting for more than one command, or lose a request when the
//! service ends and is started anew.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod control;
mod disk;
mod offer;
mod queue;
mod service;
mod transfer;

pub use control::{Answers, Control, Served};
pub use disk::Disk;
pub use offer::{DiskRange, PublishError, Withheld};
pub use service::{Bounce, MAX_DISKS, NoBounce, Service, TooManyDisks};

#[cfg(test)]
mod tests;
