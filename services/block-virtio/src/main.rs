//! The block service of a virtio block device.
//!
//! Its environment names the device on the PCI bus, memory for DMA (`dma`: the driver's part, the rest to bounce data), and each disk
//! with its channel and its guest's memory.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

use bulkhead_block_program::serve_pci_drive;
use bulkhead_runtime::device::Device;
use bulkhead_runtime::time::Tsc;
use bulkhead_runtime::{Program, entry};
use bulkhead_virtio_driver::{BLK_MEMORY_BYTES, Structures, Unusable, VirtioBlk};

entry!(main);

fn main(program: Program) {
    let bar = |device: &Device| device.virtio_structures().map(|structures| structures.bar);
    serve_pci_drive(&program, bar, BLK_MEMORY_BYTES, |device, registers, memory| {
        let found = device.virtio_structures().ok_or(Unusable::Structures)?;
        let structures = Structures::from(found);
        VirtioBlk::start(registers, registers.len(), &structures, Tsc, memory)
    });
}
