//! Devices on the PCI bus: init and the bus service agree on what each is and has, before any owner of one is built.
//!
//! What the service says is checked here: no device gets RAM, or the interrupt controllers, or what another one has. Nothing is
//! handed out but by what this module keeps.

use crate::construct::{Built, Construction};
use crate::failure::Cause;
use crate::grants::bound_line;
use crate::remapping;
use crate::supervise;
use alloc::vec::Vec;
use bulkhead_pci::exchange::{
    self, AllowedInterrupt, DmaRange, Found, Grant, MAX_INTERRUPTS, MAX_RANGES, Remapping, Step, VirtioRecord, Wanted,
};
use bulkhead_pci::{Address, Bar};
use bulkhead_runtime::abi::{BIND_REMAPPED, BootInfo, PAGE_SIZE, Rights, init_slot};
use bulkhead_runtime::object::{Bound, Capability, Interrupt, Memory, Notification, Table};
use bulkhead_runtime::plan::layout::{self, BARS, DEVICE_WINDOW};
use bulkhead_runtime::plan::{MsixTable, Resource};
use bulkhead_runtime::program::mask;
use bulkhead_runtime::shared::SharedMemory;
use bulkhead_runtime::syscall::Slot;
use bulkhead_runtime::{events, println, time};
use core::sync::atomic::{AtomicU32, Ordering};
use zerocopy::{FromZeros, IntoBytes};

/// How long the bus service has for each of its two steps.
const PATIENCE_MS: u64 = 10_000;
/// Ports of configuration space and of the interrupt controllers, which are no device's.
const CHIPSET_PORTS: [(u16, u16); 4] = [(0x20, 0x21), (0xa0, 0xa1), (0x4d0, 0x4d1), (0xcf8, 0xcff)];

/// A device that the bus has, or why it is not handed out.
pub type Device = Result<PciDevice, &'static str>;

/// What a device has, checked.
#[derive(Debug)]
pub struct PciDevice {
    /// Its place on the bus.
    pub address: Address,
    /// Vendor | device << 16.
    pub identifier: u32,
    /// Class.
    pub class: u32,
    /// BARs.
    pub bars: [Option<Bar>; BARS],
    /// Its MSI-X table.
    pub table: Option<MsixTable>,
    /// Structures of virtio.
    pub virtio: VirtioRecord,
    /// Message interrupts that it can have.
    most_messages: usize,
    /// The interrupt line of a device without messages, where nobody else has it.
    line: Option<u64>,
    /// Its interrupts: messages, or the line.
    pub interrupts: Vec<Signal>,
}

/// An interrupt that is bound to the device's owner.
#[derive(Clone, Copy, Debug)]
pub struct Signal {
    /// The interrupt.
    pub interrupt: Interrupt,
    /// Its number.
    pub number: u64,
    /// Flags as for `InterruptMethod::Bind`.
    pub flags: u64,
    /// What the device writes, and where; 0 for a line.
    pub address: u32,
    /// See `address`.
    pub data: u32,
    /// How it reaches its processor.
    pub bound: Bound,
}

/// Starts the bus service, and has it find the plan's devices and make them ready.
pub fn discover(construction: &mut Construction<'_>, bus: &Built) -> Vec<Device> {
    let count = construction.plan.devices().len();
    let failed = |reason| (0..count).map(|_| Err(reason)).collect();
    let Some(memory) = construction.exchange else {
        return failed("init shares no memory with the bus service");
    };
    for (index, device) in construction.plan.devices().iter().enumerate() {
        let wanted = Wanted { selector: device.selector, vectors: device.vectors, values: device.values };
        // Records lie in the memory, whose size is the plan's; so below.
        let _ = memory.write(exchange::wanted(index), wanted.as_bytes());
    }
    let _ = memory.write(exchange::COUNT, &(count as u32).to_le_bytes());
    if supervise::start_first_thread(bus, layout::ENVIRONMENT).is_err() {
        return failed("the bus service cannot be started");
    }
    if !exchange_step(memory, bus, Step::Wanted, Step::Found) {
        return failed("the bus service does not answer");
    }
    let mut devices: Vec<Device> = Vec::new();
    for index in 0..count {
        let mut found = Found::new_zeroed();
        let read = memory.read(exchange::found(index), found.as_mut_bytes());
        let device = match read {
            Ok(()) => check(construction, &found, &devices),
            Err(_) => Err("the bus service says nothing about it"),
        };
        devices.push(device);
    }
    let mut offered = [0; 4];
    let _ = memory.read(exchange::REMAPPING, &mut offered);
    let offered = Remapping::from(u32::from_le_bytes(offered));
    match construction.units.choose(offered, construction.plan.counts_on_iommu()) {
        Ok(remapping) => construction.remapping = remapping,
        Err(reason) => return failed(reason),
    }
    tell_ranges(construction, memory, &mut devices);
    for (index, device) in devices.iter_mut().enumerate() {
        let Ok(found) = device else { continue };
        if let Err(cause) = bind(construction, index, found) {
            println!("bulkhead: device {}: no interrupts: {cause:?}", found.address);
        }
        let first = found.interrupts.first();
        let is_line = found.line.is_some() && first.is_some();
        let grant = Grant {
            granted: 1,
            messages: if is_line { 0 } else { found.interrupts.len() as u32 },
            pin: u32::from(is_line),
            address: first.map_or(0, |message| message.address),
            data: first.map_or(0, |message| message.data),
        };
        let _ = memory.write(exchange::grant(index), grant.as_bytes());
    }
    if construction.remapping.interrupts {
        tell_interrupts(construction, memory, &devices);
    }
    let _ = memory.write(exchange::REMAPPING, &u32::from(construction.remapping).to_le_bytes());
    if !exchange_step(memory, bus, Step::Granted, Step::Ready) {
        return failed("the bus service is stuck");
    }
    println!(
        "bulkhead: devices are {}confined to their memory, and {}to their interrupts",
        if construction.remapping.memory { "" } else { "not " },
        if construction.remapping.interrupts { "" } else { "not " }
    );
    devices
}

/// Tells which interrupts may come: those of devices, and all lines, which an I/O APIC signals.
fn tell_interrupts(construction: &mut Construction<'_>, memory: SharedMemory<'static>, devices: &[Device]) {
    let mut allowed = Vec::new();
    let io_apic = construction.units.description().and_then(|units| units.io_apics.first().copied());
    let io_apic = io_apic.map_or(0, |io_apic| io_apic.requester);
    for device in devices.iter().flatten() {
        for signal in &device.interrupts {
            let requester = if signal.bound.is_message { device.address.0 } else { io_apic };
            allowed.push((signal.bound, requester, signal.flags));
        }
    }
    let plan = construction.plan;
    for owner in plan.partitions() {
        for grant in owner.grants() {
            let Resource::Interrupt(line) = grant.resource else { continue };
            match bound_line(construction, &owner, line) {
                Ok((_, bound)) => allowed.push((bound, io_apic, line.flags)),
                // Whoever builds its owner is told once more.
                Err(cause) => println!("bulkhead: interrupt {} of {}: {cause:?}", line.line, owner.name()),
            }
        }
    }
    let mut count = 0;
    for (bound, requester, flags) in allowed.into_iter().take(MAX_INTERRUPTS) {
        let (vector, requester, level) = (u32::from(bound.vector), u32::from(requester), (flags & 1) as u32);
        let record = AllowedInterrupt { vector, apic_id: bound.apic_id, requester, level };
        let _ = memory.write(exchange::interrupt(count), record.as_bytes());
        count += 1;
    }
    let _ = memory.write(exchange::INTERRUPT_COUNT, &(count as u32).to_le_bytes());
}

/// Tells what memory each device may reach: all that its owner has with a physical address. A device with too many pieces of it is not
/// handed out.
fn tell_ranges(construction: &Construction<'_>, memory: SharedMemory<'static>, devices: &mut [Device]) {
    let mut count = 0;
    for (index, (record, place)) in construction.plan.devices().iter().zip(devices.iter_mut()).enumerate() {
        let owner = construction.plan.partition(record.partition as usize).filter(|_| place.is_ok());
        for grant in owner.iter().flat_map(|owner| owner.grants()) {
            let Resource::Region { index: region, writable, physical: true, .. } = grant.resource else {
                continue;
            };
            let Some(block) = construction.regions.get(region).map(|region| region.block) else {
                continue;
            };
            let (device, writable) = (index as u32, u32::from(writable));
            let range = DmaRange { device, writable, address: block.physical, length: block.length };
            if count == MAX_RANGES {
                *place = Err("its owner has too many pieces of memory for DMA");
                break;
            }
            let _ = memory.write(exchange::range(count), range.as_bytes());
            count += 1;
        }
    }
    let _ = memory.write(exchange::RANGE_COUNT, &(count as u32).to_le_bytes());
}

/// Says that a step of init's is done, and waits for the service's. Whether it came.
fn exchange_step(memory: SharedMemory<'static>, bus: &Built, done: Step, awaited: Step) -> bool {
    let Ok(step) = memory.atomic::<AtomicU32>(exchange::STEP) else {
        return false;
    };
    step.store(done as u32, Ordering::Release);
    // Its notification has room for every signal.
    let _ = bus.notification.signal(1);
    let deadline = time::now().saturating_add(time::milliseconds(PATIENCE_MS));
    while step.load(Ordering::Acquire) != awaited as u32 {
        if events::wait(deadline) == 0 {
            // What it may have faulted for is looked at after the start.
            events::keep(mask(bus.plan.record.init_bit));
            return false;
        }
    }
    true
}

/// The device, if all that it says can be.
fn check(construction: &Construction<'_>, found: &Found, others: &[Device]) -> Device {
    if found.present != 1 {
        return Err("there is no such device on the bus");
    }
    let address = u16::try_from(found.address).map_err(|_| "it has no place on the bus")?;
    let bars = found.bars.each_ref().map(|bar| bar.bar());
    for (index, bar) in bars.iter().enumerate() {
        let Some(bar) = bar else { continue };
        if !is_free(construction, *bar) {
            return Err("one of its BARs lies in RAM, or on what is the chipset's or another device's");
        }
        let own = bars.iter().take(index).flatten();
        let taken = others.iter().flatten().flat_map(|other| other.bars.iter().flatten());
        if own.chain(taken).any(|other| overlap(*bar, *other)) {
            return Err("two BARs overlap");
        }
    }
    let table = table(found, &bars);
    let most_messages = match table {
        Some(table) => usize::from(table.entries),
        None => usize::from(found.messages != 0),
    };
    let line = Some(u64::from(found.line)).filter(|line| most_messages == 0 && (1..16).contains(line));
    Ok(PciDevice {
        address: Address(address),
        identifier: found.identifier,
        class: found.class,
        bars,
        table,
        virtio: found.virtio,
        most_messages,
        line: line.filter(|line| is_unshared(construction, *line, others)),
        interrupts: Vec::new(),
    })
}

/// Whether nobody else has an interrupt line. Devices that are not handed out do not use theirs.
fn is_unshared(construction: &Construction<'_>, line: u64, others: &[Device]) -> bool {
    let mut fixed = construction.plan.partitions().flat_map(|partition| partition.grants());
    let is_fixed = fixed.any(|grant| match grant.resource {
        Resource::Interrupt(interrupt) => u64::from(interrupt.line) == line,
        _ => false,
    });
    !is_fixed && !others.iter().flatten().any(|other| other.line == Some(line))
}

/// The MSI-X table, if it lies in one of the BARs.
fn table(found: &Found, bars: &[Option<Bar>; BARS]) -> Option<MsixTable> {
    let table = found.table()?;
    let end = u64::from(table.offset) + u64::from(table.entries) * 16;
    match bars.get(usize::from(table.bar)) {
        Some(Some(Bar::Memory { size, .. })) if end <= *size => Some(table),
        _ => None,
    }
}

/// The pages that a BAR in memory lies in, or its ports: first and end.
fn extent(bar: Bar) -> Option<(u64, u64)> {
    match bar {
        Bar::Memory { address, size } => {
            Some((address & !(PAGE_SIZE - 1), address.checked_add(size)?.checked_next_multiple_of(PAGE_SIZE)?))
        }
        Bar::Ports { first, count } => Some((u64::from(first), u64::from(first) + u64::from(count))),
    }
}

fn is_free(construction: &Construction<'_>, bar: Bar) -> bool {
    let Some((start, end)) = extent(bar).filter(|(start, end)| start < end) else {
        return false;
    };
    match bar {
        Bar::Memory { .. } => {
            let is_configuration = |(first, last)| first < end && start < last;
            device_range(construction.boot, start, end).is_some()
                && !construction.units.overlap(start, end)
                && !construction.configuration.is_some_and(is_configuration)
        }
        Bar::Ports { .. } => {
            !is_fixed(construction, start, end)
                && !CHIPSET_PORTS.iter().any(|(first, last)| start <= u64::from(*last) && u64::from(*first) < end)
        }
    }
}

/// Whether a device with fixed ports has one of these.
fn is_fixed(construction: &Construction<'_>, start: u64, end: u64) -> bool {
    let mut grants = construction.plan.partitions().flat_map(|partition| partition.grants());
    grants.any(|grant| match grant.resource {
        Resource::IoPorts(ports) => {
            u64::from(ports.first) < end && start < u64::from(ports.first) + u64::from(ports.count)
        }
        _ => false,
    })
}

/// Number of the root capability that covers a range, and its first address.
pub fn device_range(boot: &BootInfo, start: u64, end: u64) -> Option<(u64, u64)> {
    (0..)
        .zip(&boot.device_memory)
        .find(|(_, range)| range.base <= start && range.base.checked_add(range.length).is_some_and(|last| end <= last))
        .map(|(number, range)| (number, range.base))
}

fn overlap(one: Bar, two: Bar) -> bool {
    if matches!(one, Bar::Memory { .. }) != matches!(two, Bar::Memory { .. }) {
        return false;
    }
    match (extent(one), extent(two)) {
        (Some((start, end)), Some((other_start, other_end))) => start < other_end && other_start < end,
        _ => true,
    }
}

/// Binds as many messages as the plan wants and the device has to its owner's notification.
fn bind(construction: &mut Construction<'_>, index: usize, device: &mut PciDevice) -> Result<(), Cause> {
    let plan = construction.plan;
    let record = plan.devices().get(index).ok_or(Cause::Contradiction("a device that is not there"))?;
    let owner = plan.partition(record.partition as usize).ok_or(Cause::Contradiction("a device of nobody"))?;
    let notification = construction.notifications.get(owner.index).copied();
    let notification = notification.ok_or(Cause::Contradiction("a partition without a notification"))?;
    let cpu = owner.threads().first().map_or(0, |thread| u64::from(thread.cpu));
    let most = device.most_messages.max(usize::from(device.line.is_some()));
    let root = Interrupt(Slot(init_slot::INTERRUPTS));
    for grant in owner.grants() {
        let Resource::Message { device: of, index: number } = grant.resource else {
            continue;
        };
        if of != index || number >= most {
            continue;
        }
        let (slot, signal) = (construction.allocator.slot()?, construction.allocator.slot()?);
        let interrupt_number = match device.line {
            Some(line) => line,
            None => construction.next_message()?,
        };
        let rights = Rights::CONTROL | Rights::GRANT;
        root.derive_range(slot, rights, interrupt_number, 1).map_err(Cause::Kernel)?;
        let badge = mask(grant.entry.bit);
        notification.derive(signal, Rights::SIGNAL | Rights::GRANT, badge, Table::Own).map_err(Cause::Kernel)?;
        let interrupt = Interrupt(slot);
        // As a PC's firmware describes the lines that its PCI interrupts are routed to: level, high.
        let flags = u64::from(device.line.is_some());
        let remapped = construction.remapping.interrupts;
        let bind_flags = flags | if remapped { BIND_REMAPPED } else { 0 };
        let bound = interrupt.bind(Notification(signal), cpu, bind_flags).map_err(Cause::Kernel)?;
        if bound.is_message == device.line.is_some() {
            return Err(Cause::NoMessages);
        }
        let (address, data) = if bound.is_message { remapping::message(bound, remapped) } else { (0, 0) };
        device.interrupts.push(Signal { interrupt, number: interrupt_number, flags, address, data, bound });
    }
    Ok(())
}

/// A capability to the beginning of a BAR in memory, and its bytes: at most what an owner sees.
pub fn memory(construction: &mut Construction<'_>, bar: Bar) -> Result<Option<(Memory, u64)>, Cause> {
    let (Bar::Memory { size, .. }, Some((start, end))) = (bar, extent(bar)) else {
        return Ok(None);
    };
    // A BAR of less than a page may lie anywhere in its page; its owner would look for it at the beginning.
    if size < PAGE_SIZE && start != address_of(bar) {
        return Ok(None);
    }
    let (number, base) = device_range(construction.boot, start, end).ok_or(Cause::NotFree(start))?;
    let length = (end - start).min(DEVICE_WINDOW);
    let root = Memory(Slot(init_slot::FIRST_DEVICE_MEMORY + number));
    let part = construction.allocator.child(root, Rights::READ | Rights::WRITE, start - base, length)?;
    Ok(Some((part, length)))
}

const fn address_of(bar: Bar) -> u64 {
    match bar {
        Bar::Memory { address, .. } => address,
        Bar::Ports { first, .. } => first as u64,
    }
}
