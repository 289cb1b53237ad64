//! The block service: IDE driver and virtio-blk device emulators.
//!
//! Its environment names the IDE controller's ports and interrupt, memory for DMA, and each disk with its channel and its guest's
//! memory. It must never do anything with a guest's memory but move the data of that guest's own requests.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

mod hardware;

use bulkhead_block::{Disk, DiskRange, Service, TooManyDisks};
use bulkhead_ide::{IdeDrive, Position, pci};
use bulkhead_runtime::abi::NO_DEADLINE;
use bulkhead_runtime::plan::{self, StatusReport};
use bulkhead_runtime::program::{Channel, DeviceInterrupt};
use bulkhead_runtime::{Program, entry, events, println, time};
use hardware::{DmaMemory, IdePorts, Ram, Tsc};

entry!(main);

type BlockService = Service<'static, IdePorts, Tsc, Ram, DmaMemory>;

fn main(program: Program) {
    let ports = IdePorts::new(&program);
    let interrupt = program.interrupt(ports.device());
    let Some(mut service) = start(&program, ports) else {
        program.report(StatusReport::Failed, 0, "no drive to serve");
        return;
    };
    let channels = publish(&program, &mut service);
    serve(&mut service, interrupt, &channels)
}

/// Finds the controller and starts its drive; says what is wrong if it cannot.
fn start(program: &Program, ports: IdePorts) -> Option<BlockService> {
    if let Some(base) = ports.configurable() {
        let enabled = pci::find(&ports).and_then(|controller| pci::enable(&ports, controller, base));
        if let Err(error) = enabled {
            println!("the IDE controller cannot be used: {error:?}");
            return None;
        }
    }
    let Some((memory, table)) = DmaMemory::new(program) else {
        println!("there is no memory for DMA of at least two pages, with a physical address");
        return None;
    };
    match IdeDrive::start(ports, Tsc, table, Position::First) {
        Ok(drive) => {
            let information = bulkhead_driver::Drive::information(&drive);
            println!("drive {}: {} sectors", information.model(), information.sectors);
            Some(Service::new(drive, memory))
        }
        Err(error) => {
            println!("the IDE drive cannot be used: {error:?}");
            None
        }
    }
}

/// The channels of the disks that were published, by the service's number for the disk.
type Channels = heapless::Vec<Channel, { bulkhead_block::MAX_DISKS }>;

/// Offers all disks to their monitors.
fn publish(program: &Program, service: &mut BlockService) -> Channels {
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

fn publish_one(
    program: &Program,
    service: &mut BlockService,
    entry: &plan::Disk<'static>,
) -> Result<Channel, &'static str> {
    let channel = program.channel(entry.name).ok_or("it has no channel")?;
    let ram = Ram::new(program, entry.peer).ok_or("its guest's memory is not mapped")?;
    let range = DiskRange {
        name: entry.name,
        first_sector: entry.first_sector,
        sectors: entry.sectors,
        read_only: entry.read_only,
    };
    let disk = Disk::publish(channel.words(), ram, range, service.information()).map_err(|error| match error {
        bulkhead_block::PublishError::Range { .. } => "it does not lie on the drive",
        bulkhead_block::PublishError::Channel(_) => "its channel is too small",
    })?;
    service.add(disk).map_err(|TooManyDisks| "there are too many disks")?;
    Ok(channel)
}

fn serve(service: &mut BlockService, interrupt: Option<DeviceInterrupt>, channels: &Channels) {
    loop {
        let more = service.work();
        service.take_signals(|index| {
            if let Some(channel) = channels.get(index) {
                channel.signal_peer();
            }
        });
        // Rounded up, so that the deadline has come when the wait ends.
        let deadline = match service.deadline() {
            _ if more => 0,
            Some(deadline) => time::milliseconds(deadline.saturating_add(1)),
            None => NO_DEADLINE,
        };
        let signals = events::wait(deadline);
        service.on_time();
        if let Some(interrupt) = &interrupt
            && signals & interrupt.signal != 0
        {
            // An edge that comes while the controller is being served must not be lost; a level would come again at once.
            let level = interrupt.entry.flags & 1 != 0;
            if !level {
                let _ = interrupt.interrupt.acknowledge();
            }
            service.on_interrupt();
            if level {
                let _ = interrupt.interrupt.acknowledge();
            }
        }
    }
}
