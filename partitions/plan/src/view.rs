//! From an environment's entry to what it grants: the one place where its fields are checked.

use crate::{
    Channel, ChannelKind, ConfigurationSpace, DeviceMemory, Disk, Endpoint, EndpointSide, EntryKind, EnvironmentEntry,
    FrameSlot, GuestMemory, GuestSpace, Interrupt, IoPorts, Memory, Module, MsixTable, MsrRead, MsrRule, MsrWrite,
    NO_BIT, NetworkPort, OwnPartition, Paging, PciFunction, RemappingUnit, Role, StatusPage, Thread, Vcpu,
    VirtioStructures,
};

/// An entry is viewed as its kind, or not at all.
pub(crate) trait View<'a>: Sized {
    /// The entry as this view; `None` if it is of another kind or holds a value outside its documentation.
    fn view(entry: &'a EnvironmentEntry) -> Option<Self>;
}

fn bit(entry: &EnvironmentEntry) -> Option<u32> {
    (entry.bit < crate::layout::SIGNAL_BITS).then_some(entry.bit)
}

fn small(value: u64) -> Option<u32> {
    u32::try_from(value).ok()
}

fn has_range(entry: &EnvironmentEntry) -> Option<()> {
    let end = entry.address.checked_add(entry.size)?;
    let aligned = entry.address.is_multiple_of(bulkhead_abi::PAGE_SIZE);
    (entry.address != 0 && entry.size != 0 && aligned && end <= bulkhead_abi::USER_END).then_some(())
}

fn of_kind(entry: &EnvironmentEntry, kind: EntryKind) -> Option<()> {
    (entry.kind == kind as u32).then_some(())
}

fn has_slot(entry: &EnvironmentEntry) -> Option<()> {
    (entry.slot != 0).then_some(())
}

impl<'a> View<'a> for Channel<'a> {
    fn view(entry: &'a EnvironmentEntry) -> Option<Self> {
        of_kind(entry, EntryKind::Channel)?;
        has_range(entry)?;
        let [role, kind, peer_index, peer_bit] = entry.parameters;
        let (role, kind) = (Role::from_number(role)?, ChannelKind::from_number(kind)?);
        let fits = (entry.slot != 0) == kind.signals(role)
            && match kind.bits(role) {
                0 => entry.bit == NO_BIT,
                bits => entry.bit.checked_add(bits).is_some_and(|last| last <= crate::layout::SIGNAL_BITS),
            };
        fits.then_some(())?;
        Some(Self {
            name: entry.name.as_str(),
            peer: entry.peer.as_str(),
            slot: entry.slot,
            bit: entry.bit,
            address: entry.address,
            size: entry.size,
            role,
            kind,
            peer_index: small(peer_index)?,
            peer_bit: small(peer_bit)?,
        })
    }
}

impl<'a> View<'a> for FrameSlot {
    fn view(entry: &'a EnvironmentEntry) -> Option<Self> {
        of_kind(entry, EntryKind::FrameSlot)?;
        let [frame_us, start_us, end_us, cpu] = entry.parameters;
        (start_us < end_us && end_us <= frame_us).then_some(())?;
        Some(Self { cpu: small(cpu)?, frame_us, start_us, end_us })
    }
}

impl<'a> View<'a> for Memory<'a> {
    fn view(entry: &'a EnvironmentEntry) -> Option<Self> {
        of_kind(entry, EntryKind::Memory).or(of_kind(entry, EntryKind::Heap))?;
        has_range(entry)?;
        let writable = entry.kind == EntryKind::Heap as u32 || entry.parameters[0] & 1 != 0;
        let (name, address) = (entry.name.as_str(), entry.address);
        Some(Self { name, address, size: entry.size, physical: entry.physical, writable, slot: entry.slot })
    }
}

impl View<'_> for OwnPartition {
    fn view(entry: &EnvironmentEntry) -> Option<Self> {
        of_kind(entry, EntryKind::OwnPartition)?;
        has_slot(entry)?;
        let window = entry.parameters[0];
        (window != 0 && window != entry.slot).then_some(Self { slot: entry.slot, window })
    }
}

impl<'a> View<'a> for IoPorts<'a> {
    fn view(entry: &'a EnvironmentEntry) -> Option<Self> {
        of_kind(entry, EntryKind::IoPorts)?;
        has_slot(entry)?;
        let [first, count, index, _] = entry.parameters;
        let inside = count >= 1 && first.checked_add(count)? <= 0x1_0000;
        inside.then_some(())?;
        let first = u16::try_from(first).ok()?;
        Some(Self { name: entry.name.as_str(), slot: entry.slot, first, count: small(count)?, index })
    }
}

impl<'a> View<'a> for Interrupt<'a> {
    fn view(entry: &'a EnvironmentEntry) -> Option<Self> {
        of_kind(entry, EntryKind::Interrupt)?;
        interrupt(entry)
    }
}

/// The interrupt that an entry of whatever kind describes.
fn interrupt(entry: &EnvironmentEntry) -> Option<Interrupt<'_>> {
    has_slot(entry)?;
    let [line, flags, index, data] = entry.parameters;
    let (name, slot, message_address) = (entry.name.as_str(), entry.slot, entry.physical);
    (flags <= 3).then_some(())?;
    let (line, message_data) = (small(line)?, small(data)?);
    Some(Interrupt { name, slot, bit: bit(entry)?, line, flags, message_address, message_data, index })
}

impl<'a> View<'a> for PciFunction<'a> {
    fn view(entry: &'a EnvironmentEntry) -> Option<Self> {
        of_kind(entry, EntryKind::PciFunction)?;
        let [address, identity, table, offset] = entry.parameters;
        let table = MsixTable { bar: table as u8, offset: small(offset)?, entries: u16::try_from(table >> 32).ok()? };
        (usize::from(table.bar) < crate::layout::BARS && table.offset.is_multiple_of(8)).then_some(())?;
        Some(Self {
            name: entry.name.as_str(),
            address: u16::try_from(address).ok()?,
            vendor: identity as u16,
            device: (identity >> 16) as u16,
            class: small(identity >> 32)?,
            msix: (table.entries != 0).then_some(table),
        })
    }
}

impl View<'_> for ConfigurationSpace {
    fn view(entry: &EnvironmentEntry) -> Option<Self> {
        of_kind(entry, EntryKind::ConfigurationSpace)?;
        has_range(entry)?;
        (entry.size <= crate::layout::CONFIGURATION_BYTES).then_some(())?;
        Some(Self { address: entry.address, size: entry.size, first_bus: u8::try_from(entry.parameters[0]).ok()? })
    }
}

impl<'a> View<'a> for VirtioStructures<'a> {
    fn view(entry: &'a EnvironmentEntry) -> Option<Self> {
        of_kind(entry, EntryKind::VirtioStructures)?;
        let [bar, common, notify, device] = entry.parameters;
        let place = |value: u64| (value as u32, (value >> 32) as u32);
        let (bar, notify_multiplier) = place(bar);
        let bar = u8::try_from(bar).ok().filter(|bar| usize::from(*bar) < crate::layout::BARS)?;
        let (common, notify, device) = (place(common), place(notify), place(device));
        Some(Self { name: entry.name.as_str(), bar, notify_multiplier, common, notify, device })
    }
}

impl<'a> View<'a> for RemappingUnit<'a> {
    fn view(entry: &'a EnvironmentEntry) -> Option<Self> {
        of_kind(entry, EntryKind::RemappingUnit)?;
        has_range(entry)?;
        let interrupt = interrupt(entry)?;
        (interrupt.index < crate::layout::MAX_UNITS as u64).then_some(())?;
        Some(Self { address: entry.address, size: entry.size, interrupt })
    }
}

impl<'a> View<'a> for DeviceMemory<'a> {
    fn view(entry: &'a EnvironmentEntry) -> Option<Self> {
        of_kind(entry, EntryKind::DeviceMemory)?;
        has_range(entry)?;
        let [bar, bar_size, _, _] = entry.parameters;
        let bar = u8::try_from(bar).ok().filter(|bar| usize::from(*bar) < crate::layout::BARS)?;
        (entry.size <= crate::layout::DEVICE_WINDOW).then_some(())?;
        Some(Self { name: entry.name.as_str(), bar, address: entry.address, size: entry.size, bar_size })
    }
}

impl<'a> View<'a> for GuestMemory<'a> {
    fn view(entry: &'a EnvironmentEntry) -> Option<Self> {
        of_kind(entry, EntryKind::GuestMemory)?;
        has_range(entry)?;
        let guest_physical = entry.parameters[0];
        guest_physical.checked_add(entry.size)?;
        Some(Self {
            guest: entry.peer.as_str(),
            address: entry.address,
            size: entry.size,
            physical: entry.physical,
            guest_physical,
            slot: entry.slot,
        })
    }
}

impl View<'_> for GuestSpace {
    fn view(entry: &EnvironmentEntry) -> Option<Self> {
        of_kind(entry, EntryKind::GuestSpace)?;
        has_slot(entry)?;
        let [paging, memory, facilities, withheld] = entry.parameters;
        let [hpet, statistics] = [Self::HPET, Self::STATISTICS].map(|bit| facilities & bit != 0);
        Some(Self { slot: entry.slot, paging: Paging::from_number(paging)?, memory, hpet, statistics, withheld })
    }
}

impl View<'_> for MsrRule {
    fn view(entry: &EnvironmentEntry) -> Option<Self> {
        of_kind(entry, EntryKind::MsrRule)?;
        let [number, read, value, write] = entry.parameters;
        let (read, write) = (MsrRead::from_number(read)?, MsrWrite::from_number(write)?);
        Some(Self { number: small(number)?, read, value, write })
    }
}

impl View<'_> for Vcpu {
    fn view(entry: &EnvironmentEntry) -> Option<Self> {
        of_kind(entry, EntryKind::Vcpu)?;
        has_slot(entry)?;
        has_range(entry)?;
        let [index, cpu, thread, _] = entry.parameters;
        let (index, cpu, thread) = (small(index)?, small(cpu)?, small(thread)?);
        Some(Self { slot: entry.slot, state: entry.address, index, cpu, thread })
    }
}

impl View<'_> for Thread {
    fn view(entry: &EnvironmentEntry) -> Option<Self> {
        of_kind(entry, EntryKind::Thread)?;
        has_slot(entry)?;
        let stack_top = entry.address;
        let bottom = stack_top.checked_sub(entry.size)?;
        let [index, notification, cpu, _] = entry.parameters;
        (bottom != 0 && stack_top.is_multiple_of(bulkhead_abi::PAGE_SIZE) && notification != 0).then_some(())?;
        let (index, cpu) = (small(index)?, small(cpu)?);
        Some(Self { slot: entry.slot, notification, index, cpu, stack_top, stack_bytes: entry.size })
    }
}

impl<'a> View<'a> for Module<'a> {
    fn view(entry: &'a EnvironmentEntry) -> Option<Self> {
        of_kind(entry, EntryKind::Module)?;
        has_range(entry)?;
        Some(Self { name: entry.name.as_str(), address: entry.address, size: entry.size })
    }
}

impl<'a> View<'a> for Disk<'a> {
    fn view(entry: &'a EnvironmentEntry) -> Option<Self> {
        of_kind(entry, EntryKind::Disk)?;
        let [first_sector, sectors, flags, index] = entry.parameters;
        first_sector.checked_add(sectors)?.checked_mul(512)?;
        Some(Self {
            name: entry.name.as_str(),
            peer: entry.peer.as_str(),
            first_sector,
            sectors,
            read_only: flags & Self::READ_ONLY != 0,
            withheld: flags & !Self::READ_ONLY,
            index: small(index)?,
        })
    }
}

impl<'a> View<'a> for NetworkPort<'a> {
    fn view(entry: &'a EnvironmentEntry) -> Option<Self> {
        of_kind(entry, EntryKind::NetworkPort)?;
        let [card, flags, rate, index] = entry.parameters;
        let [m0, m1, m2, m3, m4, m5, low, high] = card.to_le_bytes();
        Some(Self {
            name: entry.name.as_str(),
            peer: entry.peer.as_str(),
            mac: [m0, m1, m2, m3, m4, m5],
            mtu: u16::from_le_bytes([low, high]),
            peers: flags as u16,
            checksum: flags & Self::CHECKSUM != 0,
            segmentation: flags & Self::SEGMENTATION != 0,
            uplink: flags & Self::UPLINK != 0,
            rate,
            vlan: (flags >> Self::VLAN) as u16,
            index: small(index)?,
        })
    }
}

impl<'a> View<'a> for StatusPage<'a> {
    fn view(entry: &'a EnvironmentEntry) -> Option<Self> {
        of_kind(entry, EntryKind::Status)?;
        has_range(entry)?;
        let (peer, slot, [watchdog_us, ..]) = (entry.peer.as_str(), entry.slot, entry.parameters);
        Some(Self { peer, slot, bit: bit(entry), address: entry.address, size: entry.size, watchdog_us })
    }
}

impl<'a> View<'a> for Endpoint<'a> {
    fn view(entry: &'a EnvironmentEntry) -> Option<Self> {
        of_kind(entry, EntryKind::Endpoint)?;
        has_slot(entry)?;
        let [side, badge, server, _] = entry.parameters;
        let (name, peer) = (entry.name.as_str(), entry.peer.as_str());
        Some(Self {
            name,
            peer,
            slot: entry.slot,
            side: EndpointSide::from_number(side)?,
            badge,
            server: small(server)?,
        })
    }
}
