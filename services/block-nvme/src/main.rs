//! The block service of an NVMe drive.
//!
//! Its environment names the controller on the PCI bus, memory for DMA (`dma`: the driver's part, the rest to bounce data), and each disk
//! with its channel and its guest's memory.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

use bulkhead_block_program::serve_pci_drive;
use bulkhead_nvme::{MEMORY_BYTES, NvmeDrive, REGISTERS_BAR};
use bulkhead_runtime::time::Tsc;
use bulkhead_runtime::{Program, entry};

entry!(main);

fn main(program: Program) {
    serve_pci_drive(
        &program,
        |_| Some(REGISTERS_BAR),
        MEMORY_BYTES,
        |_, registers, memory| NvmeDrive::start(registers, Tsc, memory),
    );
}
