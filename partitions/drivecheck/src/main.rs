//! A program that tries a disk driver on its device, without a service.
//!
//! Its environment names one storage controller on the PCI bus and memory for DMA, `dma`. It overwrites the disk. It must never
//! touch anything but its own device and memory.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

mod check;
mod pattern;

use bulkhead_ahci::AhciDrive;
use bulkhead_driver::{Clock, DmaMemory, Drive};
use bulkhead_nvme::NvmeDrive;
use bulkhead_runtime::plan::{EntryKind, StatusReport};
use bulkhead_runtime::program::DeviceInterrupt;
use bulkhead_runtime::{Program, entry, println, time};
use check::Check;

entry!(main);

/// Name of the memory for DMA.
const DMA: &str = "dma";
/// Classes of the controllers that there are drivers for (PCI Code and ID Assignment Specification 1.11).
const CLASS_AHCI: u32 = 0x01_06_01;
const CLASS_NVME: u32 = 0x01_08_02;
/// BARs of their registers: AHCI 1.3.1, 2.1.11; NVMe 1.4, 2.1.10.
const AHCI_BAR: u8 = 5;
const NVME_BAR: u8 = 0;

/// The time-stamp counter as a clock.
#[derive(Clone, Copy)]
pub struct Tsc;

impl Clock for Tsc {
    fn milliseconds(&self) -> u64 {
        time::to_microseconds(time::now()) / 1000
    }
}

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
    let mut entries = program.environment().entries().iter();
    let entry = entries.find(|entry| entry.kind() == Some(EntryKind::PciFunction)).ok_or("there is no device")?;
    let device = program.device(entry.name.as_str()).ok_or("the device was not found")?;
    let (memory, entry) = program.memory(DMA).ok_or("there is no memory for DMA")?;
    let words = memory.atomics(0, memory.len() / 8).map_err(|_| "the memory for DMA is not whole")?;
    if entry.physical == 0 || !entry.writable {
        return Err("the memory for DMA has no physical address");
    }
    let mut memory = DmaMemory::new(words, entry.physical);
    let interrupt = device.enable_message(0).map_err(|_| "the device has no message interrupt")?;
    match device.function.class {
        CLASS_AHCI => {
            let registers = device.registers(AHCI_BAR).ok_or("the controller has no registers")?;
            match AhciDrive::start(registers, Tsc, &mut memory) {
                Ok(drive) => try_drive(drive, interrupt, memory),
                Err(error) => {
                    println!("AHCI: {error:?}");
                    Err("the drive does not start")
                }
            }
        }
        CLASS_NVME => {
            let registers = device.registers(NVME_BAR).ok_or("the controller has no registers")?;
            match NvmeDrive::start(registers, Tsc, &mut memory) {
                Ok(drive) => try_drive(drive, interrupt, memory),
                Err(error) => {
                    println!("NVMe: {error:?}");
                    Err("the drive does not start")
                }
            }
        }
        _ => Err("there is no driver for the device"),
    }
}

fn try_drive<D: Drive>(drive: D, interrupt: DeviceInterrupt, memory: DmaMemory<'static>) -> Result<(), &'static str> {
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
    Check::new(drive, interrupt, memory).ok_or("there is too little memory for DMA")?.run()
}
