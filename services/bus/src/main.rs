//! The bus service.
//!
//! Owns: PCI configuration space. Its environment names the ports of configuration mechanism 1, configuration space in memory where
//! the machine has it, and the pages that it shares with init. It must never hand out anything itself: it tells init what the bus
//! has, and init, which checks that, hands it out.
//!
//! It runs before all others. Where the machine has an IOMMU it programs that too: a device then reaches only the memory that init names.
//! From the seal on it reports what the IOMMU refuses ([`faults`]): a device's owner programs the device, not its place on the bus.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

mod configuration;
mod faults;
mod translation;

use bulkhead_pci::capability::{self, Message, Messages};
use bulkhead_pci::exchange::{self, Found, Grant, Step, VirtioRecord, Wanted};
use bulkhead_pci::function::{self, COMMAND_BUS_MASTER, COMMAND_MEMORY, COMMAND_NO_PIN, COMMAND_PORTS};
use bulkhead_pci::{Address, Bar, ConfigurationSpace, Identity, bar, matching, scan};
use bulkhead_runtime::abi::NO_DEADLINE;
use bulkhead_runtime::plan::layout::MAX_DEVICES;
use bulkhead_runtime::plan::{DeviceSelector, StatusReport};
use bulkhead_runtime::shared::SharedMemory;
use bulkhead_runtime::{Program, entry, events, println};
use bulkhead_virtio_driver::Structures;
use configuration::Configuration;
use core::sync::atomic::{AtomicU32, Ordering};
use zerocopy::{FromZeros, IntoBytes};

entry!(main);

/// Most functions that are remembered; a machine with more has the others silenced, and none of them handed out.
const MAX_FUNCTIONS: usize = 256;

/// A description that no function fits.
const NOTHING: (DeviceSelector, [u32; 2]) = (DeviceSelector::Address, [u32::MAX; 2]);

/// A device that the plan wants and the bus has.
#[derive(Clone, Copy)]
struct Device {
    identity: Identity,
    messages: Option<Messages>,
    command: u32,
}

fn main(program: Program) {
    let space = Configuration::new(&program);
    let memory = program.memory(exchange::NAME).map(|(memory, _)| memory);
    let (Some(space), Some(memory)) = (space, memory) else {
        program.report(StatusReport::Failed, 0, "no configuration space, or no memory shared with init");
        return;
    };
    await_step(memory, Step::Wanted);
    let devices = find(&space, memory);
    let units = translation::units(&program, memory);
    answer(&program, memory, Step::Found);
    await_step(memory, Step::Granted);
    let translated = translation::turn_on(&program, &units, memory, &devices);
    if let Err(reason) = &translated {
        println!("{reason}");
        program.report(StatusReport::Failed, 0, reason);
        return;
    }
    for (index, device) in devices.iter().enumerate() {
        if let Some(device) = device {
            hand_out(&space, memory, index, device);
        }
    }
    answer(&program, memory, Step::Ready);
    faults::report(&space, &units);
}

fn step(memory: SharedMemory<'static>) -> Option<&'static AtomicU32> {
    memory.atomic(exchange::STEP).ok()
}

/// Waits until init has done a step.
fn await_step(memory: SharedMemory<'static>, wanted: Step) {
    while step(memory).is_some_and(|step| step.load(Ordering::Acquire) != wanted as u32) {
        events::wait(NO_DEADLINE);
    }
}

/// Tells init that a step is done.
fn answer(program: &Program, memory: SharedMemory<'static>, done: Step) {
    if let Some(step) = step(memory) {
        step.store(done as u32, Ordering::Release);
    }
    program.report(StatusReport::Running, 0, "");
}

/// Silences everything on the bus, and describes the devices that are wanted.
fn find(space: &Configuration, memory: SharedMemory<'static>) -> [Option<Device>; MAX_DEVICES] {
    let mut functions = heapless::Vec::<Identity, MAX_FUNCTIONS>::new();
    scan::functions(space, |identity| {
        function::silence(space, &identity);
        // See `MAX_FUNCTIONS`.
        let _ = functions.push(identity);
    });
    let mut wanted = heapless::Vec::<_, MAX_DEVICES>::new();
    let mut count = [0; 4];
    // The offset lies in the memory, whose size is the plan's.
    let _ = memory.read(exchange::COUNT, &mut count);
    for index in 0..(u32::from_le_bytes(count) as usize).min(MAX_DEVICES) {
        let mut record = Wanted::new_zeroed();
        let read = memory.read(exchange::wanted(index), record.as_mut_bytes()).ok();
        // There are as many places as devices. A record that is none must not move those behind it: no function fits.
        let _ = wanted.push(read.and_then(|()| record.description()).unwrap_or(NOTHING));
    }
    let way = if space.is_in_memory() { "memory" } else { "ports" };
    println!("{} functions on the bus (by {way}), {} devices wanted", functions.len(), wanted.len());
    let chosen: [_; MAX_DEVICES] = matching::choose(&functions, &wanted);
    let mut devices = [None; MAX_DEVICES];
    for (index, (device, identity)) in devices.iter_mut().zip(chosen).enumerate() {
        if let Some(identity) = identity {
            *device = Some(describe(space, memory, index, identity));
        }
    }
    devices
}

/// Where a virtio device has its structures, if it is one, and they lie in one BAR.
fn virtio(space: &Configuration, address: Address) -> Option<VirtioRecord> {
    let first = capability::first(space, address)?;
    let Structures { common, notify, notify_multiplier, device, .. } =
        Structures::parse(|register| space.read(address, register), first)?;
    let together = notify.bar == common.bar && device.bar == common.bar;
    let places = [common, notify, device].map(|place| [place.offset, place.length]);
    let bar = u32::from(common.bar);
    together.then_some(VirtioRecord { present: 1, bar, notify_multiplier, reserved: 0, places })
}

/// Writes what there is of a device to the shared memory.
fn describe(space: &Configuration, memory: SharedMemory<'static>, index: usize, identity: Identity) -> Device {
    let address = identity.address;
    capability::disable(space, address);
    let bars = bar::read(space, address);
    let messages = capability::messages(space, address, &bars);
    let table = match messages {
        Some(Messages::Msix { table, .. }) => Some(table),
        Some(Messages::Msi { .. }) | None => None,
    };
    let found = Found {
        present: 1,
        address: u32::from(address.0),
        identifier: identity.identifier,
        class: identity.class,
        messages: messages.map_or(0, |messages| u32::from(messages.count())),
        table_entries: table.map_or(0, |table| u32::from(table.entries)),
        table_bar: table.map_or(0, |table| u32::from(table.bar)),
        table_offset: table.map_or(0, |table| table.offset),
        line: if messages.is_some() { 0 } else { function::interrupt_line(space, address).map_or(0, u32::from) },
        reserved: 0,
        bars: bars.map(Into::into),
        virtio: virtio(space, address).unwrap_or_default(),
    };
    // The record lies in the memory, whose size is the plan's.
    let _ = memory.write(exchange::found(index), found.as_bytes());
    let command = bars.iter().flatten().fold(0, |command, bar| {
        command
            | match bar {
                Bar::Memory { .. } => COMMAND_MEMORY,
                Bar::Ports { .. } => COMMAND_PORTS,
            }
    });
    println!("{address}: {:04x}:{:04x}", identity.identifier as u16, identity.identifier >> 16);
    Device { identity, messages, command }
}

/// Lets a device answer, master the bus and signal, if init hands it out.
fn hand_out(space: &Configuration, memory: SharedMemory<'static>, index: usize, device: &Device) {
    let mut grant = Grant::new_zeroed();
    if memory.read(exchange::grant(index), grant.as_mut_bytes()).is_err() || grant.granted != 1 {
        return;
    }
    let address = device.identity.address;
    let (pin, no_pin) = if grant.pin == 1 { (COMMAND_NO_PIN, 0) } else { (0, COMMAND_NO_PIN) };
    let set = device.command | COMMAND_BUS_MASTER | no_pin;
    if let Some(messages) = device.messages.filter(|_| grant.messages != 0) {
        messages.enable(space, address, Message { address: grant.address, data: grant.data as u16 });
    }
    function::change_command(space, address, set, pin);
}
