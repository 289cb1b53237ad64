//! Virtqueues as the device sees them, over hostile guest memory.
//!
//! Owns: the split virtqueue ([`Queue`], virtio 1.2, 2.7), descriptor chains ([`Chain`]) and block requests ([`Request`], 5.2.6).
//! Must never: read the same guest field twice and expect the same value, follow a chain without bound, let an address leave the
//! guest's memory, or touch a device.
//!
//! A driver that breaks the queue's own rules gets a [`QueueError`]: the emulator stops the queue and says that the device needs a
//! reset. A request that is merely wrong is answered with a status, as block devices do.
#![no_std]
#![forbid(unsafe_code)]

mod block;
mod chain;
mod configuration;
mod memory;
mod queue;

pub use block::*;
pub use chain::*;
pub use configuration::*;
pub use memory::*;
pub use queue::*;

/// Feature bits, by their number in virtio 1.2 (5.2.3 and 6).
pub mod feature {
    /// Block device: `seg_max` in the configuration is valid.
    pub const BLOCK_SEGMENTS: u64 = 1 << 2;
    /// Block device: it cannot be written.
    pub const BLOCK_READ_ONLY: u64 = 1 << 5;
    /// Block device: `blk_size` in the configuration is valid.
    pub const BLOCK_SIZE: u64 = 1 << 6;
    /// Block device: the flush command is there.
    pub const BLOCK_FLUSH: u64 = 1 << 9;
    /// Block device: `topology` in the configuration is valid.
    pub const BLOCK_TOPOLOGY: u64 = 1 << 10;
    /// Block device: `num_queues` in the configuration is valid.
    pub const BLOCK_QUEUES: u64 = 1 << 12;
    /// Block device: the discard command is there.
    pub const BLOCK_DISCARD: u64 = 1 << 13;
    /// Block device: the write-zeroes command is there.
    pub const BLOCK_WRITE_ZEROES: u64 = 1 << 14;
    /// Indirect descriptors.
    pub const INDIRECT_DESCRIPTORS: u64 = 1 << 28;
    /// Event indexes instead of flags for the suppression of notifications.
    pub const EVENT_INDEX: u64 = 1 << 29;
    /// The device follows virtio 1.0 and later.
    pub const VERSION_1: u64 = 1 << 32;
}
