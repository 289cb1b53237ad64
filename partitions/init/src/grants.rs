//! What the entries of an environment stand for: each is carried out with the slot, bit and address that it names.

use crate::construct::{Built, Construction};
use crate::failure::{Cause, During, Failure};
use bulkhead_runtime::abi::{Error, Rights, init_slot};
use bulkhead_runtime::channel::{AtomicU64, Side, TextChannel};
use bulkhead_runtime::console;
use bulkhead_runtime::events;
use bulkhead_runtime::object::{Capability, GuestSpace, Interrupt, IoPorts, NewObject, Notification, Table, Vcpu};
use bulkhead_runtime::plan::{self, ChannelEnd, ChannelKind, EndpointSide, EntryKind, Grant, Resource, Role};
use bulkhead_runtime::program::{CONSOLE, mask};
use bulkhead_runtime::status::Status;
use bulkhead_runtime::syscall::Slot;

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
        Resource::Channel { region, other, .. } => {
            construction.map_region(built.handle, region, entry.address, READ_WRITE, false)?;
            signal_capability(construction, other, Slot(entry.slot), table)
        }
        Resource::Region { index, writable, physical, uncached } => {
            let rights = if writable { READ_WRITE } else { Rights::READ };
            let region = construction.map_region(built.handle, index, entry.address, rights, uncached)?;
            if entry.slot != 0 {
                let rights = READ_WRITE | Rights::EXECUTE | Rights::GRANT;
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
        Resource::IoPorts(ports) => {
            let slot = construction.allocator.slot()?;
            let root = IoPorts(Slot(init_slot::IO_PORTS));
            let rights = Rights::READ | Rights::WRITE | Rights::GRANT;
            let first = u64::from(ports.first);
            let derive = || {
                let relative = from_first(root, first)?;
                root.derive_range(slot, rights, relative, u64::from(ports.count))?;
                IoPorts(slot).derive(Slot(entry.slot), Rights::READ | Rights::WRITE, 0, table)?;
                built.handle.map_ports(IoPorts(slot))
            };
            derive().map_err(Cause::Kernel)
        }
        Resource::Interrupt(interrupt) => {
            let slot = construction.allocator.slot()?;
            let signal = construction.allocator.slot()?;
            let cpu = built.plan.threads().first().map_or(0, |thread| u64::from(thread.cpu));
            let root = Interrupt(Slot(init_slot::INTERRUPTS));
            let derive = || {
                let rights = Rights::CONTROL | Rights::GRANT;
                let relative = from_first(root, u64::from(interrupt.line))?;
                root.derive_range(slot, rights, relative, 1)?;
                built.notification.derive(signal, Rights::SIGNAL | Rights::GRANT, mask(interrupt.bit), Table::Own)?;
                let (level, active_low) = (interrupt.flags & 1 != 0, interrupt.flags & 2 != 0);
                Interrupt(slot).bind(Notification(signal), cpu, level, active_low)?;
                Interrupt(slot).derive(Slot(entry.slot), Rights::CONTROL, 0, table)
            };
            derive().map_err(Cause::Kernel)
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

/// A unit of a range, counted from the range's first one.
fn from_first(range: impl Capability, unit: u64) -> Result<u64, Error> {
    unit.checked_sub(range.inspect()?.first).ok_or(Error::OutOfRange)
}

/// Derives the capability by which one end of a channel signals the other.
fn signal_capability(
    construction: &Construction<'_>,
    other: &ChannelEnd,
    slot: Slot,
    table: Table,
) -> Result<(), Cause> {
    let peer = construction.notifications.get(other.partition as usize);
    let peer = peer.ok_or(Cause::Contradiction("a channel to nobody"))?;
    peer.derive(slot, Rights::SIGNAL, mask(other.bit), table).map_err(Cause::Kernel)
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
        Resource::Channel { region, other, .. } => {
            let memory = construction.map_own(region, entry.address)?;
            signal_capability(construction, other, Slot(entry.slot), Table::Own)?;
            let [role, kind, _, _] = entry.parameters;
            let is_console = entry.name.as_str() == CONSOLE && kind == ChannelKind::Text as u64;
            let side = if role == Role::First as u64 { Side::First } else { Side::Second };
            let words = memory.atomics::<AtomicU64>(0, memory.len() / size_of::<AtomicU64>());
            let text = words.ok().and_then(|words| TextChannel::attach(words, side).ok());
            if let Some(text) = text.filter(|_| is_console) {
                console::attach(text, Notification(Slot(entry.slot)));
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
        Resource::Region { index, .. } => construction.map_own(index, entry.address).map(|_| ()),
        Resource::None => Ok(()),
        _ => Err(Cause::Contradiction("init can have only channels, memory and status pages")),
    }
}
