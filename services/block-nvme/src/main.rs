//! The block service of an NVMe drive.
//!
//! Its environment names the controller on the PCI bus, memory for DMA (`dma`: the driver's part, the rest to bounce data), and each disk
//! with its channel and its guest's memory.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

use bulkhead_block_program::{Buffer, Tsc, dma_memory, pci_device, serve};
use bulkhead_nvme::{MEMORY_BYTES, NvmeDrive};
use bulkhead_runtime::abi::PAGE_SIZE;
use bulkhead_runtime::device::DeviceRegisters;
use bulkhead_runtime::plan::StatusReport;
use bulkhead_runtime::program::DeviceInterrupt;
use bulkhead_runtime::{Program, entry, println};

entry!(main);

/// The BAR of the controller's registers (NVMe 1.4, 2.1.10).
const BAR: u8 = 0;
/// Bytes of memory for DMA that the driver has, in whole pages.
const DRIVERS_PART: usize = MEMORY_BYTES.next_multiple_of(PAGE_SIZE as usize);

fn main(program: Program) {
    match start(&program) {
        Ok((drive, buffer, interrupt)) => serve(&program, drive, buffer, Some(interrupt)),
        Err(reason) => {
            println!("{reason}");
            program.report(StatusReport::Failed, 0, "no drive to serve");
        }
    }
}

type Started = (NvmeDrive<'static, DeviceRegisters, Tsc>, Buffer, DeviceInterrupt);

/// Starts the drive of the first controller.
fn start(program: &Program) -> Result<Started, &'static str> {
    let device = pci_device(program).ok_or("there is no controller")?;
    let registers = device.registers(BAR).ok_or("the controller has no registers")?;
    let (mut own, buffer) = dma_memory(program, DRIVERS_PART).ok_or("there is too little memory for DMA")?;
    let interrupt = device.enable_message(0).map_err(|_| "the controller has no message interrupt")?;
    match NvmeDrive::start(registers, Tsc, &mut own) {
        Ok(drive) => Ok((drive, buffer, interrupt)),
        Err(error) => {
            println!("NVMe: {error:?}");
            Err("the drive does not start")
        }
    }
}
