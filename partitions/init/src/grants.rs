//! What the entries of an environment stand for: each is carried out with the slot, bit and address that it names.

use crate::configuration;
use crate::construct::{Built, Construction};
use crate::devices::{self, PciDevice};
use crate::failure::{Cause, During, Failure};
use crate::remapping;
use bulkhead_pci::{Bar, exchange};
use bulkhead_runtime::abi::{BIND_REMAPPED, Error, MAP_UNCACHED, Rights, init_slot};
use bulkhead_runtime::channel::{AtomicU64, Side, TextChannel};
use bulkhead_runtime::console;
use bulkhead_runtime::events;
use bulkhead_runtime::object::{
    Bound, Capability, GuestSpace, Interrupt, IoPorts, NewObject, Notification, Table, Vcpu,
};
use bulkhead_runtime::plan::layout::BARS;
use bulkhead_runtime::plan::{
    self, ChannelEnd, ChannelKind, EndpointSide, EntryKind, EnvironmentEntry, Grant, NO_BIT, Resource, Role,
};
use bulkhead_runtime::program::{CONSOLE, mask};
use bulkhead_runtime::status::Status;
use bulkhead_runtime::syscall::Slot;

/// How long init waits for a console that does not read, in milliseconds.
const CONSOLE_PATIENCE: u64 = 200;

const READ_WRITE: Rights = Rights::READ.union(Rights::WRITE);

/// Carries out all entries of a partition's environment.
pub fn carry_out(
    construction: &mut Construction<'_>,
    built: &mut Built,
    space: Option<GuestSpace>,
) -> Result<(), Failure> {
    let partition = built.plan;
    for grant in partition.grants() {
        let outcome = one(construction, built, space, &grant);
        outcome
            .during("carry out an entry of partition", partition.name())
            .map_err(|failure| failure.with_entry(grant.entry.kind(), grant.entry.name.as_str()))?;
    }
    Ok(())
}

fn one(
    construction: &mut Construction<'_>,
    built: &mut Built,
    space: Option<GuestSpace>,
    grant: &Grant<'_>,
) -> Result<(), Cause> {
    let entry = grant.entry;
    let table = Table::Of(built.handle);
    match grant.resource {
        Resource::Channel { region, other, badge, sends, .. } => {
            let rights = if sends { READ_WRITE } else { Rights::READ };
            construction.map_region(built.handle, region, entry.address, rights, false)?;
            if sends { signal_capability(construction, other, badge, Slot(entry.slot), table) } else { Ok(()) }
        }
        Resource::Region { index, writable, physical, uncached } => {
            let rights = if writable { READ_WRITE } else { Rights::READ };
            let region = construction.map_region(built.handle, index, entry.address, rights, uncached)?;
            if entry.slot != 0 {
                let more = match entry.kind() {
                    Some(EntryKind::GuestMemory) => Rights::EXECUTE | Rights::GRANT,
                    // To derive parts of it, and to take them back.
                    _ => Rights::GRANT | Rights::REVOKE,
                };
                let rights = rights | more;
                region.memory.derive(Slot(entry.slot), rights, 0, table).map_err(Cause::Kernel)?;
            }
            if physical {
                built.physical.push((grant.index, region.block.physical));
            }
            if writable && region.users == 1 && entry.kind() != Some(EntryKind::GuestMemory) {
                built.private.push((region.memory, region.block.length));
            }
            Ok(())
        }
        // Its window was given to it with its first thread.
        Resource::OwnPartition(own) => {
            built.handle.derive(Slot(own.slot), Rights::CONTROL, 0, table).map_err(Cause::Kernel)
        }
        Resource::IoPorts(ports) => give_ports(construction, built, entry.slot, ports.first, ports.count),
        Resource::ConfigurationSpace
        | Resource::RemappingUnit { .. }
        | Resource::PciFunction { .. }
        | Resource::VirtioStructures { .. }
        | Resource::DeviceMemory { .. }
        | Resource::DevicePorts { .. }
        | Resource::Message { .. } => {
            let filled = of_device(construction, built, grant)?;
            built.filled.push((grant.index, filled));
            Ok(())
        }
        Resource::Interrupt(interrupt) => {
            let (line, _) = bound_line(construction, &built.plan, interrupt)?;
            line.derive(Slot(entry.slot), Rights::CONTROL | more_rights(built), 0, table).map_err(Cause::Kernel)
        }
        Resource::GuestSpace { .. } => {
            let space = space.ok_or(Cause::Contradiction("a guest space without a guest"))?;
            space.derive(Slot(entry.slot), Rights::CONTROL, 0, table).map_err(Cause::Kernel)
        }
        Resource::Vcpu { vcpu, .. } => {
            let space = space.ok_or(Cause::Contradiction("a vCPU without a guest"))?;
            let thread = built.threads.get(vcpu.thread as usize).copied();
            let thread = thread.ok_or(Cause::Contradiction("a vCPU without a thread"))?;
            let slot = construction.allocator.create(NewObject::Vcpu { space, thread })?;
            let rights = Rights::CONTROL | Rights::RUN | Rights::READ | Rights::WRITE;
            Vcpu(slot).derive(Slot(entry.slot), rights, 0, table).map_err(Cause::Kernel)
        }
        Resource::Module { index, .. } => {
            let module = construction.modules.get(index).copied();
            let module = module.ok_or(Cause::Contradiction("a module that is not there"))?;
            let slot = construction.allocator.slot()?;
            let derive = || {
                module.root.derive(slot, Rights::READ, 0, Table::Own)?;
                built.handle.map(bulkhead_runtime::object::Memory(slot), entry.address, Rights::READ, 0)
            };
            derive().map_err(Cause::Kernel)
        }
        Resource::Endpoint { index, side, badge } => {
            let endpoint = construction.endpoints.get(index).copied();
            let endpoint = endpoint.ok_or(Cause::Contradiction("an endpoint that is not there"))?;
            let (rights, badge) = match side {
                EndpointSide::Server => (Rights::RECEIVE, 0),
                EndpointSide::Client => (Rights::CALL, badge),
            };
            endpoint.derive(Slot(entry.slot), rights, badge, table).map_err(Cause::Kernel)
        }
        Resource::Status { region } => {
            construction.map_region(built.handle, region, entry.address, READ_WRITE, false)?;
            let signal = construction.fault_notification(&built.plan)?;
            signal.derive(Slot(entry.slot), Rights::SIGNAL, 0, table).map_err(Cause::Kernel)
        }
        // Threads are made with the partition; texts are in the environment itself.
        Resource::Thread { .. } | Resource::None => Ok(()),
    }
}

/// An interrupt line of a partition, bound to its notification: now, if it is not yet.
pub fn bound_line(
    construction: &mut Construction<'_>,
    owner: &plan::Partition<'static>,
    line: plan::Interrupt<'_>,
) -> Result<(Interrupt, Bound), Cause> {
    let is_this = |other: &&(usize, u32, Interrupt, Bound)| (other.0, other.1) == (owner.index, line.line);
    if let Some((_, _, interrupt, bound)) = construction.lines.iter().find(is_this) {
        return Ok((*interrupt, *bound));
    }
    let notification = construction.notifications.get(owner.index).copied();
    let notification = notification.ok_or(Cause::Contradiction("a partition without a notification"))?;
    let (slot, signal) = (construction.allocator.slot()?, construction.allocator.slot()?);
    let cpu = owner.threads().first().map_or(0, |thread| u64::from(thread.cpu));
    let root = Interrupt(Slot(init_slot::INTERRUPTS));
    let remapped = if construction.remapping.interrupts { BIND_REMAPPED } else { 0 };
    let bind = || {
        let relative = from_first(root, u64::from(line.line))?;
        root.derive_range(slot, Rights::CONTROL | Rights::GRANT, relative, 1)?;
        notification.derive(signal, Rights::SIGNAL | Rights::GRANT, mask(line.bit), Table::Own)?;
        Interrupt(slot).bind(Notification(signal), cpu, line.flags | remapped)
    };
    let bound = bind().map_err(Cause::Kernel)?;
    construction.lines.push((owner.index, line.line, Interrupt(slot), bound));
    Ok((Interrupt(slot), bound))
}

/// What a partition that has itself may try with its ports and lines: after the seal nothing is derived of those.
fn more_rights(built: &Built) -> Rights {
    if built.plan.environment.own_partition().is_some() { Rights::GRANT } else { Rights::empty() }
}

/// Gives ports to a partition: the capability in a slot of its table, and leave to use them.
fn give_ports(
    construction: &mut Construction<'_>,
    built: &Built,
    to: u64,
    first: u16,
    count: u32,
) -> Result<(), Cause> {
    let slot = construction.allocator.slot()?;
    let root = IoPorts(Slot(init_slot::IO_PORTS));
    let derive = || {
        let relative = from_first(root, u64::from(first))?;
        root.derive_range(slot, READ_WRITE | Rights::GRANT, relative, u64::from(count))?;
        IoPorts(slot).derive(Slot(to), READ_WRITE | more_rights(built), 0, Table::Of(built.handle))?;
        built.handle.map_ports(IoPorts(slot))
    };
    derive().map_err(Cause::Kernel)
}

/// Carries out an entry about a device on the PCI bus. Returns the entry as its owner finds it.
fn of_device(construction: &mut Construction<'_>, built: &Built, grant: &Grant<'_>) -> Result<EnvironmentEntry, Cause> {
    let mut entry = *grant.entry;
    // The plan left room for what any device may have.
    let absent = EnvironmentEntry { kind: EntryKind::Absent as u32, bit: NO_BIT, slot: 0, ..entry };
    match grant.resource {
        Resource::ConfigurationSpace => {
            let Some((memory, length, first_bus)) = configuration::memory(construction)? else {
                return Ok(absent);
            };
            built.handle.map(memory, entry.address, READ_WRITE, MAP_UNCACHED).map_err(Cause::Kernel)?;
            entry.size = length;
            entry.parameters[0] = u64::from(first_bus);
        }
        Resource::RemappingUnit { index, bit } => {
            return Ok(remapping::give(construction, built, &entry, index, bit)?.unwrap_or(absent));
        }
        Resource::PciFunction { device } => {
            let device = found(construction, device)?;
            let identity = u64::from(device.identifier) | u64::from(device.class) << 32;
            let (table, offset) = device.table.map_or((0, 0), |table| {
                (u64::from(table.bar) | u64::from(table.entries) << 32, u64::from(table.offset))
            });
            entry.parameters = [u64::from(device.address.0), identity, table, offset];
        }
        Resource::VirtioStructures { device } => {
            let virtio = found(construction, device)?.virtio;
            // Where in the BAR the structures are, their driver checks against what it sees of it.
            if virtio.present != 1 || virtio.bar as usize >= BARS {
                return Ok(absent);
            }
            let [common, notify, device] =
                virtio.places.map(|[offset, length]| u64::from(offset) | u64::from(length) << 32);
            let bar = u64::from(virtio.bar) | u64::from(virtio.notify_multiplier) << 32;
            entry.parameters = [bar, common, notify, device];
        }
        Resource::DeviceMemory { device, bar } => {
            let Some(bar @ Bar::Memory { size, .. }) = found(construction, device)?.bars.get(bar).copied().flatten()
            else {
                return Ok(absent);
            };
            let Some((memory, length)) = devices::memory(construction, bar)? else {
                return Ok(absent);
            };
            built.handle.map(memory, entry.address, READ_WRITE, MAP_UNCACHED).map_err(Cause::Kernel)?;
            entry.size = length;
            entry.parameters[1] = size;
        }
        Resource::DevicePorts { device, bar } => {
            let Some(Bar::Ports { first, count }) = found(construction, device)?.bars.get(bar).copied().flatten()
            else {
                return Ok(absent);
            };
            give_ports(construction, built, entry.slot, first, count)?;
            let [_, _, index, last] = entry.parameters;
            entry.parameters = [u64::from(first), u64::from(count), index, last];
        }
        Resource::Message { device, index } => {
            let Some(signal) = found(construction, device)?.interrupts.get(index).copied() else {
                return Ok(absent);
            };
            let table = Table::Of(built.handle);
            signal.interrupt.derive(Slot(entry.slot), Rights::CONTROL, 0, table).map_err(Cause::Kernel)?;
            let [_, _, index, _] = entry.parameters;
            entry.parameters = [signal.number, signal.flags, index, u64::from(signal.data)];
            entry.physical = u64::from(signal.address);
        }
        _ => {}
    }
    Ok(entry)
}

fn found<'a>(construction: &'a Construction<'_>, device: usize) -> Result<&'a PciDevice, Cause> {
    let device = construction.devices.get(device).and_then(|device| device.as_ref().ok());
    device.ok_or(Cause::Contradiction("a device that was not found"))
}

/// A unit of a range, counted from the range's first one.
fn from_first(range: impl Capability, unit: u64) -> Result<u64, Error> {
    unit.checked_sub(range.inspect()?.first).ok_or(Error::OutOfRange)
}

/// Derives the capability by which one end of a channel signals the other.
fn signal_capability(
    construction: &Construction<'_>,
    other: &ChannelEnd,
    badge: u64,
    slot: Slot,
    table: Table,
) -> Result<(), Cause> {
    let peer = construction.notifications.get(other.partition as usize);
    let peer = peer.ok_or(Cause::Contradiction("a channel to nobody"))?;
    peer.derive(slot, Rights::SIGNAL, badge, table).map_err(Cause::Kernel)
}

/// Carries out the entries of init's own environment: channels (its console among them) and status pages.
pub fn furnish_init(construction: &mut Construction<'_>, own: &plan::Partition<'static>) -> Result<(), Failure> {
    if let Some(notification) = construction.own_notification() {
        events::set_notification(notification);
    }
    for grant in own.grants() {
        let name = grant.entry.name.as_str();
        own_entry(construction, &grant).during("give init its", name)?;
    }
    Ok(())
}

fn own_entry(construction: &mut Construction<'_>, grant: &Grant<'static>) -> Result<(), Cause> {
    let entry = grant.entry;
    match grant.resource {
        Resource::Channel { region, other, badge, sends: true, .. } => {
            let memory = construction.map_own(region, entry.address)?;
            signal_capability(construction, other, badge, Slot(entry.slot), Table::Own)?;
            let [role, kind, _, _] = entry.parameters;
            let is_console = entry.name.as_str() == CONSOLE && kind == ChannelKind::Text as u64;
            let side = if role == Role::First as u64 { Side::First } else { Side::Second };
            let words = memory.atomics::<AtomicU64>(0, memory.len() / size_of::<AtomicU64>());
            let text = words.ok().and_then(|words| TextChannel::attach(words, side).ok());
            if let Some(text) = text.filter(|_| is_console) {
                console::attach_impatient(text, Notification(Slot(entry.slot)), CONSOLE_PATIENCE);
            }
            Ok(())
        }
        Resource::Status { region } => {
            let memory = construction.map_own(region, entry.address)?;
            let reporter = construction.plan.partitions().find(|partition| partition.record.init_bit == entry.bit);
            let place = reporter.and_then(|partition| construction.statuses.get_mut(partition.index));
            *place.ok_or(Cause::Contradiction("a status page of nobody"))? = Some(Status::new(memory));
            Ok(())
        }
        Resource::Region { index, .. } => {
            let memory = construction.map_own(index, entry.address)?;
            if entry.name.as_str() == exchange::NAME {
                construction.exchange = Some(memory);
            }
            Ok(())
        }
        Resource::None => Ok(()),
        _ => Err(Cause::Contradiction("init can have only channels, memory and status pages")),
    }
}
