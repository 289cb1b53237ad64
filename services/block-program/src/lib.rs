//! What the programs of all block services have in common.
//!
//! Owns: the disks and channels that the environment names, memory for DMA, and the loop that serves the disks and their control channels. Must never: know which
//! drive it is, or do anything with a guest's memory but move the data of that guest's own requests.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod controls;
mod memory;

pub use memory::{Buffer, dma_memory};

use bulkhead_block_device::{Disk, DiskRange, MAX_DISKS, PublishError, Service, TooManyDisks, Withheld};
use bulkhead_driver::{DmaMemory, Drive};
use bulkhead_guest_memory::Ram;
use bulkhead_runtime::abi::PAGE_SIZE;
use bulkhead_runtime::device::{Device, DeviceRegisters};
use bulkhead_runtime::plan::{self, StatusReport};
use bulkhead_runtime::program::{Channel, DeviceInterrupt};
use bulkhead_runtime::time::Tsc;
use bulkhead_runtime::{Program, events, println};
use controls::Controls;
use core::fmt::Debug;

/// The block service of a drive on the PCI bus: the program's main function. `bar` says in which BAR its registers are, and its driver
/// has `drivers_part` bytes of the memory for DMA; `start` starts it.
pub fn serve_pci_drive<D: Drive, E: Debug>(
    program: &Program,
    bar: impl FnOnce(&Device) -> Option<u8>,
    drivers_part: usize,
    start: impl FnOnce(&Device, DeviceRegisters, &mut DmaMemory<'static>) -> Result<D, E>,
) {
    match prepare(program, bar, drivers_part, start) {
        Ok((drive, buffer, interrupt)) => serve(program, drive, buffer, Some(interrupt)),
        Err(reason) => {
            println!("{reason}");
            program.report(StatusReport::Failed, 0, "no drive to serve");
        }
    }
}

fn prepare<D: Drive, E: Debug>(
    program: &Program,
    bar: impl FnOnce(&Device) -> Option<u8>,
    drivers_part: usize,
    start: impl FnOnce(&Device, DeviceRegisters, &mut DmaMemory<'static>) -> Result<D, E>,
) -> Result<(D, Buffer, DeviceInterrupt), &'static str> {
    let device = program.first_device().ok_or("there is no controller")?;
    let registers = bar(&device).and_then(|bar| device.registers(bar)).ok_or("the controller has no registers")?;
    let whole_pages = drivers_part.next_multiple_of(PAGE_SIZE as usize);
    let (mut own, buffer) = dma_memory(program, whole_pages).ok_or("there is too little memory for DMA")?;
    let interrupt = device.enable_message(0).map_err(|_| "the controller has no message interrupt")?;
    let drive = start(&device, registers, &mut own).map_err(|error| {
        println!("{error:?}");
        "the drive does not start"
    })?;
    Ok((drive, buffer, interrupt))
}

type DiskService<D> = Service<'static, D, Tsc, Ram, Buffer>;
/// The channels of the disks that were published, by the service's number for the disk.
type Channels = heapless::Vec<Channel, MAX_DISKS>;

/// Serves all disks of the environment with this drive, for ever. `buffer`: what the device reaches, for data that it does not.
pub fn serve<D: Drive>(program: &Program, drive: D, buffer: Buffer, interrupt: Option<DeviceInterrupt>) -> ! {
    let information = drive.information();
    println!("drive {}: {} sectors", information.model(), information.sectors);
    let mut service = Service::new(drive, Tsc, buffer);
    let channels = publish(program, &mut service);
    let mut controls = Controls::new(program, service.information());
    loop {
        let more = service.work() | controls.serve();
        service.take_signals(|index, signals| {
            if let Some(channel) = channels.get(index) {
                channel.signal_monitor(signals);
            }
        });
        let signals = events::wait(if more { 0 } else { Tsc.deadline(service.deadline()) });
        service.on_time();
        if let Some(interrupt) = &interrupt
            && signals & interrupt.signal != 0
        {
            interrupt.attend(|| service.on_interrupt());
        }
    }
}

/// Offers all disks to their monitors.
fn publish<D: Drive>(program: &Program, service: &mut DiskService<D>) -> Channels {
    let mut channels = Channels::new();
    for entry in program.environment().disks() {
        match publish_one(program, service, &entry) {
            Ok(channel) => {
                let mode = if entry.read_only { "read-only" } else { "read-write" };
                println!(
                    "disk {} of {}: {} sectors from {}, {mode}",
                    entry.name, entry.peer, entry.sectors, entry.first_sector
                );
                // There are as many places as disks.
                let _ = channels.push(channel);
            }
            Err(reason) => println!("disk {} of {} is not offered: {reason}", entry.name, entry.peer),
        }
    }
    channels
}

fn publish_one<D: Drive>(
    program: &Program,
    service: &mut DiskService<D>,
    entry: &plan::Disk<'static>,
) -> Result<Channel, &'static str> {
    let channel = program.channel(entry.name).ok_or("it has no channel")?;
    // Memory that is there for this disk alone has the disk's name.
    let ram = Ram::new(program, entry.name).or_else(|| Ram::new(program, entry.peer));
    let ram = ram.ok_or("there is no memory for its data")?;
    let range = range(entry);
    let disk = Disk::publish(channel.words(), ram, range, service.information()).map_err(|error| match error {
        PublishError::Range { .. } => "it does not lie on the drive",
        PublishError::Channel(_) => "its channel is too small",
    })?;
    service
        .add(disk.with_direct_interrupts(plan::DEVICE_INTERRUPTS))
        .map_err(|TooManyDisks| "there are too many disks")?;
    Ok(channel)
}

/// Where the disk lies, and what of the drive it has.
fn range<'e>(entry: &plan::Disk<'e>) -> DiskRange<'e> {
    DiskRange {
        name: entry.name,
        first_sector: entry.first_sector,
        sectors: entry.sectors,
        read_only: entry.read_only,
        withheld: withheld(entry.withheld),
    }
}

/// What the manifest withholds, as the emulator knows it.
fn withheld(bits: u64) -> Withheld {
    Withheld {
        discard: bits & plan::Disk::NO_DISCARD != 0,
        write_zeroes: bits & plan::Disk::NO_WRITE_ZEROES != 0,
        flush: bits & plan::Disk::NO_FLUSH != 0,
        queues: bits & plan::Disk::ONE_QUEUE != 0,
    }
}
