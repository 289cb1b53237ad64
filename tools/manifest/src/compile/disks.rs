//! Disks of guests and of native partitions.

use super::{Compiler, channels::End, guests::DEVICE_CHANNEL_MEMORY, plan_name, without_target, writable};
use crate::{machine::SECTOR, model::Disk, read::DEFAULT_CHANNEL_MEMORY};
use bulkhead_block_client::MEMORY_BYTES;
use bulkhead_plan::{BindingFlags, BindingRecord, ChannelKind, Disk as PlanDisk, EntryKind, EnvironmentEntry};

impl Compiler<'_> {
    /// Native partitions use their disks as guests' monitors use those that they copy.
    pub(super) fn partitions_disks(&mut self) {
        for (index, partition) in (1..).zip(&self.manifest.partitions) {
            for (number, disk) in (0u64..).zip(&partition.disks) {
                self.disk(index, &partition.name.value, number, disk);
            }
        }
    }

    /// A disk is a channel between its service (first) and its owner (second), and another one for control if the manifest says so; and
    /// memory that both share, if the service does not see the owner's.
    pub(super) fn disk(&mut self, index: usize, owner: &str, number: u64, disk: &Disk) {
        let Some(service) = disk.service.as_ref().map(|service| service.value.as_str()) else {
            return;
        };
        let (Some(service_index), Some(size)) = (self.index_of(service), &disk.size) else {
            return;
        };
        let name = format!("{owner}/{number}");
        let ends = [End { index: service_index, name: &name, peer: owner }, End { index, name: &name, peer: service }];
        self.channel(&name, ChannelKind::Device, DEVICE_CHANNEL_MEMORY, ends);
        if disk.control {
            let name = format!("{owner}/{}{number}", PlanDisk::CONTROL);
            let ends = [
                End { index: service_index, name: &name, peer: owner },
                End { index, name: &format!("disk{number}{}", PlanDisk::CONTROL_PORT), peer: service },
            ];
            self.channel(&name, ChannelKind::Text, DEFAULT_CHANNEL_MEMORY, ends);
        }
        if disk.is_copied {
            self.bounce_memory(index, service_index, &name);
        }
        let (first, sectors) = (disk.offset.value / SECTOR, size.value / SECTOR);
        let flags = disk.withheld | if disk.read_only { PlanDisk::READ_ONLY } else { 0 };
        for (holder, peer, first) in [(service_index, owner, first), (index, service, 0)] {
            let Some(space) = self.spaces.get_mut(holder) else {
                continue;
            };
            let entry = EnvironmentEntry {
                peer: plan_name(peer),
                parameters: [first, sectors, flags, number],
                ..EnvironmentEntry::new(EntryKind::Disk, plan_name(&name))
            };
            space.push(entry, without_target());
        }
    }

    /// To the service it is a guest's memory from guest-physical 0 on, with the disk's name for the guest's; to the owner it is memory with
    /// that name.
    fn bounce_memory(&mut self, owner: usize, service: usize, name: &str) {
        let (size, name) = (MEMORY_BYTES as u64, plan_name(name));
        let region = self.region(size);
        if let Some(space) = self.spaces.get_mut(service) {
            let address = space.address(size);
            let new = EnvironmentEntry::new(EntryKind::GuestMemory, name);
            let binding = BindingRecord { target: region, flags: BindingFlags::WRITE | BindingFlags::PHYSICAL };
            space.push(EnvironmentEntry { address, size, peer: name, ..new }, binding);
        }
        if let Some(space) = self.spaces.get_mut(owner) {
            let address = space.address(size);
            let new = EnvironmentEntry::new(EntryKind::Memory, name);
            space.push(EnvironmentEntry { address, size, parameters: [1, 0, 0, 0], ..new }, writable(region));
        }
    }
}
