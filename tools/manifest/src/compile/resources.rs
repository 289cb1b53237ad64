//! What partitions own or share beside channels: devices, endpoints, memory.

use super::{Compiler, plan_name, without_target};
use bulkhead_abi::PAGE_SIZE;
use bulkhead_plan::{
    BindingFlags, BindingRecord, EndpointRecord, EndpointSide, EntryKind, EnvironmentEntry, Name, RegionRecord,
};

impl Compiler<'_> {
    pub(super) fn devices(&mut self) {
        for (index, partition) in (1..).zip(&self.manifest.partitions) {
            let Some(space) = self.spaces.get_mut(index) else {
                continue;
            };
            for device in partition.devices.iter().filter_map(|name| self.manifest.device(&name.value)) {
                let name = plan_name(&device.name);
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
            self.writer.endpoints.push(EndpointRecord { name, server: server_index as u32, cpu: cpu as u32 });
            let clients = endpoint.clients().iter().filter_map(|client| self.index_of(&client.value));
            let members: Vec<_> = std::iter::once(server_index).chain(clients).collect();
            for (badge, index) in (0..).zip(members) {
                let Some(space) = self.spaces.get_mut(index) else {
                    continue;
                };
                let side = if badge == 0 { EndpointSide::Server } else { EndpointSide::Client };
                let peer = if badge == 0 { Name::EMPTY } else { plan_name(&server.value) };
                let slot = space.slot();
                let parameters = [side as u64, badge, 0, 0];
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
            let target = self.writer.region(RegionRecord { size, alignment: PAGE_SIZE, physical });
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
                let new = EnvironmentEntry::new(EntryKind::Memory, plan_name(&memory.name.value));
                space.push(EnvironmentEntry { address, size, parameters, ..new }, BindingRecord { target, flags });
            }
        }
    }
}
