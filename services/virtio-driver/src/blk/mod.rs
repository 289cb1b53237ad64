//! A block device (virtio 1.2, 5.2).

mod configuration;
mod drive;
mod memory;
mod request;

pub use configuration::Configuration;
pub use drive::VirtioBlk;
pub use memory::{BLK_MEMORY_BYTES, RequestMemory, Slot};
pub use request::{Bounds, Written, write as write_request};
