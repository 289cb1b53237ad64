//! Writing plans: tables in, bytes out. What the manifest compiler uses, and tests.

use crate::{
    BindingRecord, ChannelRecord, DeviceRecord, ENVIRONMENT_MAGIC, ENVIRONMENT_VERSION, EndpointRecord, EntryKind,
    EnvironmentEntry, EnvironmentHeader, GuestRecord, ModuleRecord, NO_BIT, Name, PLAN_MAGIC, PLAN_VERSION,
    PartitionRecord, PlanHeader, RegionRecord, SlotRecord, Table, ThreadRecord, layout,
};
use alloc::vec::Vec;
use core::mem::size_of;
use zerocopy::{FromZeros, Immutable, IntoBytes};

impl EnvironmentEntry {
    /// An entry of this kind and name, with all else empty.
    pub fn new(kind: EntryKind, name: Name) -> Self {
        Self { kind: kind as u32, bit: NO_BIT, name, ..Self::new_zeroed() }
    }
}

/// An environment in the making: entries with their bindings, and texts.
#[derive(Clone, Debug, Default)]
pub struct EnvironmentWriter {
    entries: Vec<EnvironmentEntry>,
    bindings: Vec<BindingRecord>,
    texts: Vec<(usize, Vec<u8>)>,
}

impl EnvironmentWriter {
    /// Adds an entry.
    pub fn push(&mut self, entry: EnvironmentEntry, binding: BindingRecord) {
        self.entries.push(entry);
        self.bindings.push(binding);
    }

    /// Adds a text.
    pub fn push_text(&mut self, name: Name, text: &str) {
        self.texts.push((self.entries.len(), text.as_bytes().to_vec()));
        self.push(EnvironmentEntry::new(EntryKind::Text, name), BindingRecord { target: crate::NO_INDEX, flags: 0 });
    }

    /// The entries so far.
    pub fn entries(&self) -> &[EnvironmentEntry] {
        &self.entries
    }

    /// The environment's bytes; `header` needs only what is not derived: name, slots, CPU, priority.
    fn finish(mut self, header: EnvironmentHeader) -> (Vec<u8>, Vec<BindingRecord>) {
        let mut offset = size_of::<EnvironmentHeader>() + size_of::<EnvironmentEntry>() * self.entries.len();
        for (index, text) in &self.texts {
            if let Some(entry) = self.entries.get_mut(*index) {
                entry.address = layout::ENVIRONMENT + offset as u64;
                entry.size = text.len() as u64;
            }
            offset += text.len();
        }
        let size = offset.next_multiple_of(8);
        let header = EnvironmentHeader {
            magic: ENVIRONMENT_MAGIC,
            version: ENVIRONMENT_VERSION,
            count: self.entries.len() as u32,
            size: size as u64,
            ..header
        };
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend_from_slice(self.entries.as_bytes());
        for (_, text) in &self.texts {
            bytes.extend_from_slice(text);
        }
        bytes.resize(size, 0);
        (bytes, self.bindings)
    }
}

/// A plan in the making. Tables are written as they are; [`crate::Plan::parse`] of the result says whether they are consistent.
#[derive(Clone, Debug)]
pub struct PlanWriter {
    /// Name, end condition, features and CPUs; the rest is derived.
    pub header: PlanHeader,
    /// Modules.
    pub modules: Vec<ModuleRecord>,
    /// Guests.
    pub guests: Vec<GuestRecord>,
    /// Regions.
    pub regions: Vec<RegionRecord>,
    /// Channels.
    pub channels: Vec<ChannelRecord>,
    /// Endpoints.
    pub endpoints: Vec<EndpointRecord>,
    /// Devices.
    pub devices: Vec<DeviceRecord>,
    /// Slots of major frames.
    pub slots: Vec<SlotRecord>,
    partitions: Vec<PartitionRecord>,
    threads: Vec<ThreadRecord>,
    bindings: Vec<BindingRecord>,
    environments: Vec<u8>,
}

impl Default for PlanWriter {
    fn default() -> Self {
        Self {
            header: PlanHeader::new_zeroed(),
            modules: Vec::new(),
            guests: Vec::new(),
            regions: Vec::new(),
            channels: Vec::new(),
            endpoints: Vec::new(),
            devices: Vec::new(),
            slots: Vec::new(),
            partitions: Vec::new(),
            threads: Vec::new(),
            bindings: Vec::new(),
            environments: Vec::new(),
        }
    }
}

impl PlanWriter {
    /// Adds a region and returns its index.
    pub fn region(&mut self, region: RegionRecord) -> u32 {
        self.regions.push(region);
        self.regions.len() as u32 - 1
    }

    /// Adds a partition with its threads and environment; the record's indices of those are derived.
    pub fn partition(&mut self, record: PartitionRecord, threads: &[ThreadRecord], environment: EnvironmentWriter) {
        let first = threads.first();
        let header = EnvironmentHeader {
            name: record.name,
            notification_slot: layout::NOTIFICATION_SLOT,
            thread_slot: layout::THREAD_SLOT,
            cpu: first.map_or(0, |thread| thread.cpu),
            priority: first.map_or(layout::MAX_PRIORITY, |thread| thread.priority),
            ..EnvironmentHeader::new_zeroed()
        };
        let (bytes, bindings) = environment.finish(header);
        self.partitions.push(PartitionRecord {
            first_thread: self.threads.len() as u32,
            thread_count: threads.len() as u32,
            first_binding: self.bindings.len() as u32,
            binding_count: bindings.len() as u32,
            environment_offset: self.environments.len() as u32,
            environment_size: bytes.len() as u32,
            ..record
        });
        self.threads.extend_from_slice(threads);
        self.bindings.extend(bindings);
        self.environments.extend(bytes);
    }

    /// The plan's bytes.
    pub fn finish(self) -> Vec<u8> {
        let mut bytes = PlanHeader::new_zeroed().as_bytes().to_vec();
        let header = PlanHeader {
            magic: PLAN_MAGIC,
            version: PLAN_VERSION,
            modules: append(&mut bytes, &self.modules),
            partitions: append(&mut bytes, &self.partitions),
            threads: append(&mut bytes, &self.threads),
            guests: append(&mut bytes, &self.guests),
            regions: append(&mut bytes, &self.regions),
            channels: append(&mut bytes, &self.channels),
            endpoints: append(&mut bytes, &self.endpoints),
            devices: append(&mut bytes, &self.devices),
            slots: append(&mut bytes, &self.slots),
            bindings: append(&mut bytes, &self.bindings),
            environments: append(&mut bytes, &self.environments),
            size: bytes.len() as u32,
            ..self.header
        };
        let mut result = header.as_bytes().to_vec();
        result.extend(bytes.into_iter().skip(size_of::<PlanHeader>()));
        result
    }
}

fn append<T: IntoBytes + Immutable>(bytes: &mut Vec<u8>, records: &[T]) -> Table {
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    let offset = bytes.len() as u32;
    bytes.extend_from_slice(records.as_bytes());
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    Table { offset, count: records.len() as u32 }
}
