//! What partitions own or share beside channels: devices, endpoints, memory.

use super::{Compiler, number_of, plan_name, space::Space, without_target, writable};
use crate::{
    model::{TRACE, Trace},
    pci::{BUS, PciDevice},
};
use bulkhead_abi::PAGE_SIZE;
use bulkhead_block_client::MEMORY_BYTES;
use bulkhead_pci::exchange;
use bulkhead_plan::{
    BindingFlags, BindingRecord, DeviceRecord, EndpointRecord, EndpointSide, EntryKind, EnvironmentEntry, Name,
    RegionRecord, layout,
};

impl Compiler<'_> {
    pub(super) fn devices(&mut self) {
        for (index, partition) in (1..).zip(&self.manifest.partitions) {
            let Some(space) = self.spaces.get_mut(index) else {
                continue;
            };
            for device in partition.devices.iter().filter_map(|name| self.manifest.device(&name.value)) {
                let name = plan_name(&device.name);
                if let Some(pci) = &device.pci {
                    let target = self.writer.devices.len() as u32;
                    self.writer.devices.extend(record(index, name, pci));
                    pci_entries(space, name, pci, target);
                    continue;
                }
                for (number, range) in (0..).zip(&device.ports) {
                    let slot = space.slot();
                    let parameters = [range.first, range.count, number, 0];
                    let entry =
                        EnvironmentEntry { slot, parameters, ..EnvironmentEntry::new(EntryKind::IoPorts, name) };
                    space.push(entry, without_target());
                }
                for (number, interrupt) in (0..).zip(&device.interrupts) {
                    let (slot, bit) = (space.slot(), space.bit());
                    let flags = u64::from(interrupt.level) | u64::from(interrupt.active_low) << 1;
                    let parameters = [interrupt.line, flags, number, 0];
                    let new = EnvironmentEntry::new(EntryKind::Interrupt, name);
                    space.push(EnvironmentEntry { slot, bit, parameters, ..new }, without_target());
                }
            }
        }
    }

    /// The memory that init and the bus service share, and room for configuration space.
    pub(super) fn exchange(&mut self) {
        if self.manifest.pci_devices().next().is_none() {
            return;
        }
        let Some(bus) = self.index_of(BUS) else { return };
        self.writer.header.bus = bus as u32;
        let region = self.region(exchange::BYTES);
        for index in [0, bus] {
            if let Some(space) = self.spaces.get_mut(index) {
                let (address, size) = (space.address(exchange::BYTES), exchange::BYTES);
                let new = EnvironmentEntry::new(EntryKind::Memory, plan_name(exchange::NAME));
                space.push(EnvironmentEntry { address, size, parameters: [1, 0, 0, 0], ..new }, writable(region));
            }
        }
        let tables = self.tables_bytes();
        let region = self.region(tables);
        if let Some(space) = self.spaces.get_mut(bus) {
            let (address, size) = (space.address(tables), tables);
            let new = EnvironmentEntry::new(EntryKind::Memory, plan_name(exchange::TABLES));
            let binding = BindingRecord { target: region, flags: BindingFlags::WRITE | BindingFlags::PHYSICAL };
            space.push(EnvironmentEntry { address, size, parameters: [1, 0, 0, 0], ..new }, binding);
            for unit in 0..layout::MAX_UNITS as u64 {
                let (slot, bit, address) = (space.slot(), space.bit(), space.address(PAGE_SIZE));
                let new = EnvironmentEntry::new(EntryKind::RemappingUnit, plan_name(BUS));
                let entry =
                    EnvironmentEntry { slot, bit, address, size: PAGE_SIZE, parameters: [0, 0, unit, 0], ..new };
                space.push(entry, without_target());
            }
            let size = layout::CONFIGURATION_BYTES;
            let address = space.large_window(size);
            let new = EnvironmentEntry::new(EntryKind::ConfigurationSpace, plan_name(BUS));
            space.push(EnvironmentEntry { address, size, ..new }, without_target());
        }
    }

    /// Bytes of an IOMMU's tables for all devices on the bus. Their owners reach memory of their own, and that of disks and guests
    /// that they serve.
    fn tables_bytes(&self) -> u64 {
        let manifest = self.manifest;
        let owners = manifest.partitions.iter().flat_map(|partition| {
            let devices = partition.devices.iter().filter_map(|name| manifest.device(&name.value));
            devices.filter(|device| device.pci.is_some()).map(move |_| partition)
        });
        let ranges = owners.map(|owner| {
            let is_owner = |one: &&crate::model::Memory| {
                one.dma && one.partitions().iter().any(|partition| partition.value == owner.name.value)
            };
            let own = manifest.memories.iter().filter(is_owner).filter_map(|memory| memory.size.as_ref());
            // Whichever disks and guests it serves. A guest with more than 3 GiB has its memory in two pieces.
            let disks = manifest.disks().filter(|(_, disk)| disk.is_copied).map(|_| MEMORY_BYTES as u64);
            let guests =
                manifest.guests.iter().flat_map(|guest| [guest.memory.as_ref().map_or(0, |memory| memory.value), 0]);
            own.map(|size| size.value).chain(disks).chain(guests).collect::<Vec<_>>()
        });
        bulkhead_iommu::bytes_needed(ranges)
    }

    pub(super) fn endpoints(&mut self) {
        for endpoint in &self.manifest.endpoints {
            let Some(server) = &endpoint.server else {
                continue;
            };
            let Some(server_index) = self.index_of(&server.value) else {
                continue;
            };
            let cpu = self.manifest.partition(&server.value).map_or(0, |partition| partition.cpu.value);
            let name = plan_name(&endpoint.name.value);
            let target = self.writer.endpoints.len() as u32;
            let worst_case_us = endpoint.worst_case_us.as_ref().map_or(0, |time| time.value);
            let record = EndpointRecord { name, server: server_index as u32, cpu: cpu as u32, worst_case_us };
            self.writer.endpoints.push(record);
            let clients = endpoint.clients().iter().filter_map(|client| self.index_of(&client.value));
            let clients: Vec<_> = clients.collect();
            let as_client = |index| (EndpointSide::Client, index, plan_name(&server.value));
            let members = clients.into_iter().map(as_client);
            for (side, index, peer) in std::iter::once((EndpointSide::Server, server_index, Name::EMPTY)).chain(members)
            {
                let Some(space) = self.spaces.get_mut(index) else {
                    continue;
                };
                let slot = space.slot();
                let parameters = match side {
                    EndpointSide::Server => [side as u64, 0, 0, 0],
                    // The badge is the client's number, so that the server learns of its lives by it.
                    EndpointSide::Client => [side as u64, index as u64, server_index as u64, 0],
                };
                let new = EnvironmentEntry::new(EntryKind::Endpoint, name);
                space.push(EnvironmentEntry { slot, peer, parameters, ..new }, BindingRecord { target, flags: 0 });
            }
        }
    }

    pub(super) fn memories(&mut self) {
        for memory in &self.manifest.memories {
            let Some(size) = memory.size.as_ref().map(|size| size.value) else {
                continue;
            };
            let physical = memory.physical.as_ref().map_or(0, |physical| physical.value);
            let node = number_of(memory.node.as_ref());
            let record = RegionRecord { size, alignment: PAGE_SIZE, physical, node, reserved: 0 };
            let target = self.writer.region(record);
            for index in memory.partitions().iter().filter_map(|owner| self.index_of(&owner.value)).collect::<Vec<_>>()
            {
                let Some(space) = self.spaces.get_mut(index) else {
                    continue;
                };
                let address = match &memory.address {
                    Some(address) => {
                        space.maps(address.value, size);
                        address.value
                    }
                    None => space.address(size),
                };
                let write = if memory.read_only { 0 } else { BindingFlags::WRITE };
                let flags = write | if memory.dma { BindingFlags::PHYSICAL } else { 0 };
                let parameters = [u64::from(!memory.read_only), 0, 0, 0];
                let owner = index.checked_sub(1).and_then(|index| self.manifest.partitions.get(index));
                let slot = if owner.is_some_and(|owner| owner.capabilities) { space.slot() } else { 0 };
                let new = EnvironmentEntry::new(EntryKind::Memory, plan_name(&memory.name.value));
                space
                    .push(EnvironmentEntry { slot, address, size, parameters, ..new }, BindingRecord { target, flags });
            }
        }
    }
}

/// Most bytes of a trace ring.
pub(crate) const MAX_TRACE_MEMORY: u64 = 16 << 20;

impl Compiler<'_> {
    /// A ring for each CPU, which the program that writes them out sees read-only.
    pub(super) fn trace(&mut self) {
        let Some(size) = self.manifest.trace.as_ref().map(Trace::ring_bytes) else { return };
        let Some(index) = self.index_of(TRACE) else { return };
        let cpus = self.manifest.machine.cpus.value as u32;
        self.writer.header.trace = index as u32;
        self.writer.header.trace_rings = cpus;
        for cpu in 0..cpus {
            let target = self.region(size);
            if cpu == 0 {
                self.writer.header.trace_region = target;
            }
            if let Some(space) = self.spaces.get_mut(index) {
                let address = space.address(size);
                let new = EnvironmentEntry::new(EntryKind::Memory, plan_name(&format!("trace-{cpu}")));
                space.push(EnvironmentEntry { address, size, ..new }, BindingRecord { target, flags: 0 });
            }
        }
    }
}

/// A device for the bus service to look for.
fn record(owner: usize, name: Name, pci: &PciDevice) -> Option<DeviceRecord> {
    let (selector, values) = pci.selector()?;
    let vectors = pci.vectors.value as u32;
    Some(DeviceRecord { name, partition: owner as u32, selector: selector as u32, values, vectors, reserved: 0 })
}

/// Room for whatever the device may have: the function, its BARs in memory or on ports, its messages.
fn pci_entries(space: &mut Space, name: Name, pci: &PciDevice, target: u32) {
    let binding = BindingRecord { target, flags: 0 };
    space.push(EnvironmentEntry::new(EntryKind::PciFunction, name), binding);
    space.push(EnvironmentEntry::new(EntryKind::VirtioStructures, name), binding);
    for bar in 0..layout::BARS as u64 {
        let (address, size) = (space.window(layout::DEVICE_WINDOW), layout::DEVICE_WINDOW);
        let new = EnvironmentEntry::new(EntryKind::DeviceMemory, name);
        space.push(EnvironmentEntry { address, size, parameters: [bar, size, 0, 0], ..new }, binding);
        let new = EnvironmentEntry::new(EntryKind::IoPorts, name);
        let slot = space.slot();
        space.push(EnvironmentEntry { slot, parameters: [0, 1, bar, 0], ..new }, binding);
    }
    for number in 0..pci.vectors.value {
        let (slot, bit) = (space.slot(), space.bit());
        let new = EnvironmentEntry::new(EntryKind::Interrupt, name);
        space.push(EnvironmentEntry { slot, bit, parameters: [0, 0, number, 0], ..new }, binding);
    }
}
