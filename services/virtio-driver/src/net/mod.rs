//! A network card (virtio 1.2, 5.1).

mod configuration;
mod header;
mod memory;
mod nic;
mod receive;
mod transmit;

pub use memory::NET_MEMORY_BYTES;
pub use nic::VirtioNet;
