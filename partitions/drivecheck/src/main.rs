//! A program that tries a disk driver on its device, without a service; or disks of a block service, as their client.
//!
//! Its environment names one storage controller on the PCI bus and memory for DMA, `dma`; or disks with their channels and memory. With a
//! text `seconds` it goes on for so long. It overwrites the disks. It must never touch anything but its own devices and memory.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

mod check;
mod client;
mod pattern;

use bulkhead_ahci::AhciDrive;
use bulkhead_driver::{DmaMemory, Drive};
use bulkhead_nvme::NvmeDrive;
use bulkhead_runtime::plan::StatusReport;
use bulkhead_runtime::program::DeviceInterrupt;
use bulkhead_runtime::time::Tsc;
use bulkhead_runtime::{Program, entry, println, time};
use bulkhead_virtio_driver::{Structures, VirtioBlk};
use check::Check;
use core::fmt::Debug;

entry!(main);

/// Name of the memory for DMA.
const DMA: &str = "dma";
/// Classes of the controllers that there are drivers for (PCI Code and ID Assignment Specification 1.11).
const CLASS_AHCI: u32 = 0x01_06_01;
const CLASS_NVME: u32 = 0x01_08_02;

fn main(program: Program) {
    match run(&program) {
        Ok(()) => program.report(StatusReport::Finished, 0, "all sectors are as they were written"),
        Err(text) => {
            println!("{text}");
            program.report(StatusReport::Failed, 0, text);
        }
    }
}

fn run(program: &Program) -> Result<(), &'static str> {
    if program.environment().disks().next().is_some() {
        return client::run(program);
    }
    let device = program.first_device().ok_or("there is no device")?;
    let (memory, entry) = program.memory(DMA).ok_or("there is no memory for DMA")?;
    let words = memory.atomics(0, memory.len() / 8).map_err(|_| "the memory for DMA is not whole")?;
    if entry.physical == 0 || !entry.writable {
        return Err("the memory for DMA has no physical address");
    }
    let mut memory = DmaMemory::new(words, entry.physical);
    let interrupt = device.enable_message(0).map_err(|_| "the device has no message interrupt")?;
    let seconds: u64 = program.environment().text("seconds").and_then(|text| text.parse().ok()).unwrap_or(0);
    let end = time::now().saturating_add(time::milliseconds(seconds.saturating_mul(1000)));
    let registers = |bar| device.registers(bar).ok_or("the controller has no registers");
    match device.function.class {
        CLASS_AHCI => {
            let registers = registers(bulkhead_ahci::REGISTERS_BAR)?;
            try_drive(AhciDrive::start(registers, Tsc, &mut memory), interrupt, memory, end)
        }
        CLASS_NVME => {
            let registers = registers(bulkhead_nvme::REGISTERS_BAR)?;
            try_drive(NvmeDrive::start(registers, Tsc, &mut memory), interrupt, memory, end)
        }
        _ if device.virtio_structures().is_some() => {
            let found = device.virtio_structures().ok_or("the device has no structures")?;
            let structures = Structures::from(found);
            let registers = registers(found.bar)?;
            try_drive(
                VirtioBlk::start(registers, registers.len(), &structures, Tsc, &mut memory),
                interrupt,
                memory,
                end,
            )
        }
        _ => Err("there is no driver for the device"),
    }
}

fn try_drive<D: Drive, E: Debug>(
    started: Result<D, E>,
    interrupt: DeviceInterrupt,
    memory: DmaMemory<'static>,
    end: u64,
) -> Result<(), &'static str> {
    let drive = started.map_err(|error| {
        println!("{error:?}");
        "the drive does not start"
    })?;
    let information = drive.information();
    println!(
        "drive {}: {} sectors, blocks of {} bytes, depth {}, {} queues",
        information.model(),
        information.sectors,
        information.logical_block_size,
        information.depth,
        information.queues
    );
    let serial = core::str::from_utf8(&information.serial).unwrap_or_default().trim();
    let firmware = core::str::from_utf8(&information.firmware).unwrap_or_default().trim();
    println!("serial {serial}, firmware {firmware}, write cache {}", information.write_cache);
    println!("discard {:?}, write zeroes {:?}", information.discard, information.write_zeroes);
    Check::new(drive, interrupt, memory).ok_or("there is too little memory for DMA")?.run(end)
}
