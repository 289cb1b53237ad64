//! Guests: their RAM, guest space, processors, files and cards.

use super::{Compiler, channels::End, plan_name, space::table_pages, without_target};
use crate::{
    files::Image,
    model::{self, Guest, Located, Network, parse_mac},
};
use bulkhead_abi::{CpuFeatures, PAGE_SIZE};
use bulkhead_machine::policy::withheld::Withheld;
use bulkhead_plan::{
    BindingFlags, BindingRecord, ChannelKind, EntryKind, EnvironmentEntry, GuestRecord, GuestSpace, MsrRead, MsrWrite,
    NO_INDEX, NetworkPort, Paging, layout,
};

/// Memory of a device's channel.
pub(super) const DEVICE_CHANNEL_MEMORY: u64 = PAGE_SIZE;
/// What a vCPU shares with its monitor: the state page and the virtual-APIC page.
const VCPU_BYTES: u64 = 2 * PAGE_SIZE;
/// The module of a guest's firmware, in its monitor.
const FIRMWARE: &str = "firmware";
/// Pages of a guest space's pool beyond what the RAM needs: pages that the monitor maps later.
const SPARE_PAGES: u32 = 24;
/// Alignment of RAM, so that large pages can map it.
const LARGE_PAGE: u64 = 2 << 20;

/// A range of a guest's RAM.
#[derive(Clone, Copy)]
struct Ram {
    region: u32,
    guest_physical: u64,
    size: u64,
}

impl Compiler<'_> {
    pub(super) fn guests(&mut self) {
        for (number, guest) in (0..).zip(&self.manifest.guests) {
            let Some(index) = self.index_of(&guest.name.value) else {
                continue;
            };
            let memory = guest.memory.as_ref().map_or(0, |memory| memory.value);
            let ram = self.ram(guest, memory);
            let mut mappings: Vec<_> = ram.iter().map(|part| (part.guest_physical, part.size)).collect();
            let firmware = self.guest_file(index, FIRMWARE, guest, guest.firmware.as_ref());
            if let Some(length) = firmware.map(|(_, length)| length) {
                mappings.push((layout::GUEST_FIRMWARE_END - length, length));
            }
            self.writer.guests.push(GuestRecord {
                partition: index as u32,
                paging: paging(guest) as u32,
                vcpus: guest.cpus.len() as u32,
                low_memory: ram.first().map_or(NO_INDEX, |part| part.region),
                high_memory: ram.get(1).map_or(NO_INDEX, |part| part.region),
                pool_pages: table_pages(&mappings) + SPARE_PAGES,
                shadow_pages: u32::try_from(guest.shadow_memory.value / PAGE_SIZE).unwrap_or(u32::MAX),
                firmware: firmware.map_or(NO_INDEX, |(module, _)| module),
            });
            self.map_ram(index, guest, &ram, BindingFlags::WRITE, guest.monitor.is_some());
            self.processors(index, number, guest, memory);
            self.msrs(index, guest);
            self.guest_file(index, "kernel", guest, guest.kernel.as_ref());
            self.guest_file(index, "initrd", guest, guest.initrd.as_ref());
            if let (Some(line), Some(space)) = (&guest.command_line, self.spaces.get_mut(index)) {
                space.push_text(plan_name("command-line"), &line.value);
            }
            let mut sharing = Vec::new();
            self.disks(index, guest, &ram, &mut sharing);
            self.networks(index, guest, &ram, &mut sharing);
        }
        self.uplinks();
    }

    /// The regions of a guest's RAM: below the PCI hole, and above 4 GiB.
    fn ram(&mut self, guest: &Guest, memory: u64) -> Vec<Ram> {
        let low = memory.min(layout::GUEST_LOW_RAM_END);
        let parts = [(0, low), (layout::GUEST_HIGH_RAM, memory - low)];
        let mut ram = Vec::new();
        for (guest_physical, size) in parts.into_iter().filter(|(_, size)| *size != 0) {
            let region = self.region_on(guest.node.as_ref(), size, LARGE_PAGE);
            ram.push(Ram { region, guest_physical, size });
        }
        ram
    }

    /// Maps a guest's RAM in a partition: its monitor, or a service that works on its memory. `with_slot`: the partition also
    /// gets the capability, to map parts of it in the guest's space.
    fn map_ram(&mut self, index: usize, guest: &Guest, ram: &[Ram], flags: u32, with_slot: bool) {
        let Some(space) = self.spaces.get_mut(index) else {
            return;
        };
        let name = plan_name(&guest.name.value);
        for part in ram {
            let address = space.guest_address(part.size);
            let entry = EnvironmentEntry {
                slot: if with_slot { space.slot() } else { 0 },
                address,
                size: part.size,
                peer: name,
                parameters: [part.guest_physical, 0, 0, 0],
                ..EnvironmentEntry::new(EntryKind::GuestMemory, name)
            };
            space.push(entry, BindingRecord { target: part.region, flags });
        }
    }

    /// Guest space, processors, and the further threads that run them.
    fn processors(&mut self, index: usize, number: u32, guest: &Guest, memory: u64) {
        let Some(space) = self.spaces.get_mut(index) else {
            return;
        };
        let binding = BindingRecord { target: number, flags: 0 };
        let (slot, parameters) = (space.slot(), [paging(guest) as u64, memory, facilities(guest), withheld(guest)]);
        let name = plan_name(&guest.name.value);
        space
            .push(EnvironmentEntry { slot, parameters, ..EnvironmentEntry::new(EntryKind::GuestSpace, name) }, binding);
        for (vcpu, cpu) in (0u64..).zip(&guest.cpus) {
            let (slot, address) = (space.slot(), space.address(VCPU_BYTES));
            let entry = EnvironmentEntry {
                slot,
                address,
                size: VCPU_BYTES,
                parameters: [vcpu, cpu.value, vcpu, 0],
                ..EnvironmentEntry::new(EntryKind::Vcpu, plan_name(&format!("vcpu{vcpu}")))
            };
            space.push(entry, binding);
        }
        for (thread, cpu) in (0u64..).zip(&guest.cpus).skip(1) {
            let (slot, notification) = space.thread_slots(thread);
            let entry = EnvironmentEntry {
                slot,
                address: layout::STACK_TOP + thread * layout::STACK_STRIDE,
                size: layout::STACK_BYTES,
                parameters: [thread, notification, cpu.value, 0],
                ..EnvironmentEntry::new(EntryKind::Thread, plan_name(&format!("thread{thread}")))
            };
            space.push(entry, BindingRecord { target: thread as u32, flags: 0 });
        }
    }

    /// What accesses to model-specific registers do.
    fn msrs(&mut self, index: usize, guest: &Guest) {
        let Some(space) = self.spaces.get_mut(index) else {
            return;
        };
        for msr in &guest.msrs {
            let Some((number, _)) = msr.number() else { continue };
            let (read, value) = match &msr.read {
                Some(model::MsrRead::Constant(value)) => (MsrRead::Constant, *value),
                Some(model::MsrRead::Word(word)) if word.value == "emulate" => (MsrRead::Emulate, 0),
                _ => (MsrRead::Deny, 0),
            };
            let write = match msr.write.as_ref().map(|word| word.value.as_str()) {
                Some("emulate") => MsrWrite::Emulate,
                Some("ignore") => MsrWrite::Ignore,
                _ => MsrWrite::Deny,
            };
            let parameters = [number, read as u64, value, write as u64];
            let new = EnvironmentEntry::new(EntryKind::MsrRule, plan_name("msr"));
            space.push(EnvironmentEntry { parameters, ..new }, without_target());
        }
    }

    /// Maps a file in the monitor as module `kind`. Index of the module, and the file's length.
    fn guest_file(
        &mut self,
        index: usize,
        kind: &str,
        guest: &Guest,
        reference: Option<&Located<String>>,
    ) -> Option<(u32, u64)> {
        let image = reference.and_then(|reference| self.files.image(&reference.value))?;
        let space = self.spaces.get_mut(index)?;
        let Image { path, length, .. } = image;
        // Short, for a module's name has 31 bytes and a guest's name may have 24.
        let prefix = if kind == FIRMWARE { "rom" } else { kind };
        let target = self.modules.file(&format!("{prefix}/{}", guest.name.value), path, *length);
        let address = space.address(*length);
        let entry =
            EnvironmentEntry { address, size: *length, ..EnvironmentEntry::new(EntryKind::Module, plan_name(kind)) };
        space.push(entry, BindingRecord { target, flags: 0 });
        Some((target, *length))
    }

    /// A service that does not copy sees the guest's RAM, once.
    fn disks(&mut self, index: usize, guest: &Guest, ram: &[Ram], sharing: &mut Vec<usize>) {
        for (number, disk) in (0u64..).zip(&guest.disks) {
            let Some(service_index) = disk.service.as_ref().and_then(|service| self.index_of(&service.value)) else {
                continue;
            };
            if !disk.is_copied && !sharing.contains(&service_index) {
                sharing.push(service_index);
                self.map_ram(service_index, guest, ram, BindingFlags::WRITE | BindingFlags::PHYSICAL, false);
            }
            self.disk(index, &guest.name.value, number, disk);
        }
    }
}

impl Compiler<'_> {
    /// Each card is a channel between its switch (first) and the monitor (second); the switch sees the guest's RAM, once.
    fn networks(&mut self, index: usize, guest: &Guest, ram: &[Ram], sharing: &mut Vec<usize>) {
        let guest_name = guest.name.value.as_str();
        for (number, network) in (0u64..).zip(&guest.networks) {
            let Some(switch) = network.switch.as_ref().map(|switch| switch.value.as_str()) else {
                continue;
            };
            let Some(switch_index) = self.index_of(switch) else {
                continue;
            };
            if !sharing.contains(&switch_index) {
                sharing.push(switch_index);
                self.map_ram(switch_index, guest, ram, BindingFlags::WRITE, false);
            }
            let name = format!("{guest_name}/net{number}");
            let ends =
                [End { index: switch_index, name: &name, peer: guest_name }, End { index, name: &name, peer: switch }];
            self.channel(&name, ChannelKind::Device, DEVICE_CHANNEL_MEMORY, ends);
            let bit = |has, bit| if has { bit } else { 0 };
            let flags = u64::from(self.manifest.peers_of(switch, guest_name))
                | bit(network.checksum, NetworkPort::CHECKSUM)
                | bit(network.segmentation, NetworkPort::SEGMENTATION)
                | network.vlan() << NetworkPort::VLAN;
            let [m0, m1, m2, m3, m4, m5] = mac(network, index, number);
            let [low, high] = (network.mtu.value as u16).to_le_bytes();
            let card = u64::from_le_bytes([m0, m1, m2, m3, m4, m5, low, high]);
            let rate = network.rate.as_ref().map_or(0, |rate| rate.value);
            for (owner, peer) in [(switch_index, guest_name), (index, switch)] {
                let Some(space) = self.spaces.get_mut(owner) else {
                    continue;
                };
                let entry = EnvironmentEntry {
                    peer: plan_name(peer),
                    parameters: [card, flags, rate, number],
                    ..EnvironmentEntry::new(EntryKind::NetworkPort, plan_name(&name))
                };
                space.push(entry, without_target());
            }
        }
    }
}

impl Compiler<'_> {
    /// The card of a switch is its last port.
    fn uplinks(&mut self) {
        for (index, partition) in (1..).zip(&self.manifest.partitions) {
            let switch = partition.name.value.as_str();
            let has_ports = self.manifest.ports_of(switch).next().is_some();
            let Some(device) = self.manifest.uplink_of(switch).filter(|_| has_ports) else { continue };
            let flags = u64::from(self.manifest.peers_of(switch, device)) | NetworkPort::UPLINK;
            if let Some(space) = self.spaces.get_mut(index) {
                let new = EnvironmentEntry::new(EntryKind::NetworkPort, plan_name(device));
                space.push(EnvironmentEntry { parameters: [0, flags, 0, 0], ..new }, without_target());
            }
        }
    }
}

/// A card's address; unless the manifest says it, one that is administered locally (IEEE 802, 8.4), of guest and number.
fn mac(network: &Network, guest: usize, number: u64) -> [u8; 6] {
    let said = network.mac.as_ref().and_then(|mac| parse_mac(&mac.value));
    said.unwrap_or([0x02, 0x42, 0x4b, 0, guest as u8, number as u8])
}

/// What the guest's machine has beyond what every guest's has, and what its monitor does beside.
fn facilities(guest: &Guest) -> u64 {
    let bit = |has, bit| if has { bit } else { 0 };
    bit(guest.hpet, GuestSpace::HPET) | bit(guest.statistics, GuestSpace::STATISTICS)
}

/// Features that its processors are not to have, as its monitor knows them.
fn withheld(guest: &Guest) -> u64 {
    guest.without.iter().filter_map(|name| Withheld::named(&name.value)).fold(0, |all, one| all | one.0)
}

/// CPU features that a guest needs. Without extended page tables there are shadow tables, and without unrestricted guests its
/// monitor interprets what runs without paging.
pub(super) fn features(guest: &Guest) -> CpuFeatures {
    match paging(guest) {
        Paging::Ept => CpuFeatures::VMX | CpuFeatures::EPT,
        Paging::Auto | Paging::Shadow => CpuFeatures::VMX,
    }
}

fn paging(guest: &Guest) -> Paging {
    match guest.paging.as_ref().map(|paging| paging.value.as_str()) {
        Some("ept") => Paging::Ept,
        Some("shadow") => Paging::Shadow,
        _ => Paging::Auto,
    }
}
