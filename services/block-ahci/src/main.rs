//! The block service of an AHCI drive.
//!
//! Its environment names the controller on the PCI bus, memory for DMA (`dma`: the driver's part, the rest to bounce data), and each disk
//! with its channel and its guest's memory.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

use bulkhead_ahci::{AhciDrive, MEMORY_BYTES, REGISTERS_BAR};
use bulkhead_block_program::serve_pci_drive;
use bulkhead_runtime::time::Tsc;
use bulkhead_runtime::{Program, entry};

entry!(main);

fn main(program: Program) {
    serve_pci_drive(
        &program,
        |_| Some(REGISTERS_BAR),
        MEMORY_BYTES,
        |_, registers, memory| AhciDrive::start(registers, Tsc, memory),
    );
}
