//! Virtio PCI devices: the drivers of a block device and of a network card, over register and memory traits.
//!
//! Owns: where the device's structures are ([`Structures`]), the device from reset to running, split virtqueues as the driver's side
//! has them, and each request ([`VirtioBlk`]) and frame ([`VirtioNet`]) from submission to its end. Must never: wait without a bound,
//! use a number of the device's as an index, or tell the end of a command while the device may still reach its memory.
//!
//! Source: Virtual I/O Device (VIRTIO) Version 1.2, whose sections are named where they are used. Only devices that follow it are
//! driven (VIRTIO_F_VERSION_1): what is older has other structures.
#![no_std]
#![forbid(unsafe_code)]

mod blk;
mod net;
mod structures;
mod transport;
mod unusable;
mod virtqueue;

pub use blk::{BLK_MEMORY_BYTES, VirtioBlk};
pub use net::{NET_MEMORY_BYTES, VirtioNet};
pub use structures::{Place, Structures};
pub use unusable::Unusable;

/// What a driver of a block device is made of, for one whose device is found and set going in another way than on the PCI bus.
pub mod parts {
    pub use crate::blk::{Bounds, Configuration, RequestMemory, Slot, Written, write_request};
    pub use crate::virtqueue::{Broken, INDIRECT, QUEUE_BYTES, QueueMemory, Used, Virtqueue};
}
