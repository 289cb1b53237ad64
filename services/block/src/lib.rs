//! What the block service does, without the hardware, the channels and the memory that it does it with.
//!
//! Owns: the data plane of each guest's virtio disk ([`Disk`]), and whose turn it is at the drive ([`Service`]). Must never: let a
//! request leave its disk's range or its guest's memory, acknowledge a reset while the controller may still reach the guest's
//! memory, or let one guest's requests keep the others' waiting for more than one command.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod disk;
mod service;

pub use disk::{Disk, DiskRange, PublishError};
pub use service::{Bounce, MAX_DISKS, Service, TooManyDisks};

#[cfg(test)]
mod tests;
