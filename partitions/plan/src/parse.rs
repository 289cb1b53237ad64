//! The one place where a plan's bytes are checked.

use crate::plan::slice;
use crate::{
    ChannelKind, DeviceSelector, EndKind, EntryKind, Environment, LONGEST_CALL_US, ModuleRecord, NO_BIT, NO_INDEX,
    PLAN_MAGIC, PLAN_VERSION, Paging, Partition, PartitionKind, PartitionRecord, Plan, PlanError, PlanHeader,
    RestartPolicy, Role, Table, TableName, layout,
};
use bulkhead_abi::{PAGE_SIZE, USER_END};
use core::mem::size_of;
use zerocopy::{FromBytes, Immutable, KnownLayout};

impl<'a> Plan<'a> {
    /// Checks the bytes (aligned to 8; there may be more than the plan) and views them as a plan.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, PlanError> {
        let (header, _) = PlanHeader::ref_from_prefix(bytes).map_err(|_| PlanError::Truncated)?;
        if header.magic != PLAN_MAGIC || header.version != PLAN_VERSION {
            return Err(PlanError::WrongVersion);
        }
        let bytes = bytes.get(..header.size as usize).ok_or(PlanError::Truncated)?;
        let environments: &[u8] = table(bytes, header.environments, TableName::Environments)?;
        let plan = Plan {
            header,
            modules: table(bytes, header.modules, TableName::Modules)?,
            partitions: table(bytes, header.partitions, TableName::Partitions)?,
            threads: table(bytes, header.threads, TableName::Threads)?,
            guests: table(bytes, header.guests, TableName::Guests)?,
            regions: table(bytes, header.regions, TableName::Regions)?,
            channels: table(bytes, header.channels, TableName::Channels)?,
            endpoints: table(bytes, header.endpoints, TableName::Endpoints)?,
            devices: table(bytes, header.devices, TableName::Devices)?,
            slots: table(bytes, header.slots, TableName::Slots)?,
            bindings: table(bytes, header.bindings, TableName::Bindings)?,
            environments,
        };
        plan.check_header()?;
        each(plan.modules, TableName::Modules, |module| module.name.is_valid() && module.length != 0)?;
        each(plan.regions, TableName::Regions, |region| {
            let end = region.physical.checked_add(region.size);
            whole_pages(region.size)
                && region.alignment.is_power_of_two()
                && region.alignment >= PAGE_SIZE
                && region.physical.is_multiple_of(PAGE_SIZE)
                && (region.physical == 0 || region.node == NO_INDEX)
                && end.is_some()
        })?;
        each(plan.threads, TableName::Threads, |thread| {
            thread.cpu < layout::MAX_CPUS
                && thread.priority <= layout::MAX_PRIORITY
                && thread.budget_us <= thread.period_us
                && thread.stack_top.is_multiple_of(PAGE_SIZE)
                && thread.stack_top <= USER_END
                && whole_pages(thread.stack_bytes)
                && thread.stack_bytes < thread.stack_top
        })?;
        each(plan.guests, TableName::Guests, |guest| {
            plan.partitions.get(guest.partition as usize).is_some()
                && Paging::from_number(u64::from(guest.paging)).is_some()
                && (1..=layout::MAX_VCPUS as u32).contains(&guest.vcpus)
                && plan.regions.get(guest.low_memory as usize).is_some()
                && (guest.high_memory == NO_INDEX || plan.regions.get(guest.high_memory as usize).is_some())
                && (guest.firmware == NO_INDEX || plan.modules.get(guest.firmware as usize).is_some_and(is_firmware))
        })?;
        each(plan.channels, TableName::Channels, |channel| {
            let [first, second] = &channel.ends;
            let Some(kind) = ChannelKind::from_number(u64::from(channel.kind)) else {
                return false;
            };
            let ends = [(Role::First, first), (Role::Second, second)];
            channel.name.is_valid()
                && plan.regions.get(channel.region as usize).is_some()
                && first.partition != second.partition
                && ends.into_iter().all(|(role, end)| {
                    let bit = match kind.bits(role) {
                        0 => end.bit == NO_BIT,
                        bits => end.bit.checked_add(bits).is_some_and(|last| last <= layout::SIGNAL_BITS),
                    };
                    bit && plan.partitions.get(end.partition as usize).is_some()
                })
        })?;
        each(plan.endpoints, TableName::Endpoints, |endpoint| {
            endpoint.name.is_valid()
                && endpoint.cpu < layout::MAX_CPUS
                && endpoint.worst_case_us <= LONGEST_CALL_US
                && plan.partitions.get(endpoint.server as usize).is_some()
        })?;
        each(plan.devices, TableName::Devices, |device| {
            device.name.is_valid()
                && plan.devices.len() <= layout::MAX_DEVICES
                && plan.partitions.get(device.partition as usize).is_some()
                && DeviceSelector::from_number(u64::from(device.selector)).is_some()
                && (1..=layout::MAX_MESSAGES as u32).contains(&device.vectors)
        })?;
        each(plan.slots, TableName::Slots, |slot| {
            plan.partitions.get(slot.partition as usize).is_some()
                && slot.cpu < layout::MAX_CPUS
                && slot.start_us < slot.end_us
                && slot.end_us <= slot.frame_us
                && slot.quiet <= 1
        })?;
        for (index, record) in (0u32..).zip(plan.partitions) {
            plan.check_partition(index, record).ok_or(PlanError::BadRecord(TableName::Partitions, index))?;
            plan.check_entries(index, record)?;
        }
        Ok(plan)
    }

    fn check_header(&self) -> Result<(), PlanError> {
        let header = self.header;
        let end = match EndKind::from_number(u64::from(header.end)) {
            Some(EndKind::Partition) => (header.end_partition as usize) < self.partitions.len(),
            Some(_) => true,
            None => false,
        };
        let partitions = (1..=layout::MAX_PARTITIONS).contains(&self.partitions.len())
            && (header.bus as usize) < self.partitions.len()
            && (header.bus != 0 || self.devices.is_empty());
        let rings = u64::from(header.trace_region) + u64::from(header.trace_rings) <= self.regions.len() as u64
            && header.trace_rings <= layout::MAX_CPUS
            && (header.trace as usize) < self.partitions.len();
        let partitions = partitions && rings;
        if end && partitions && header.name.is_valid() { Ok(()) } else { Err(PlanError::BadHeader) }
    }

    fn check_partition(&self, index: u32, record: &PartitionRecord) -> Option<()> {
        let kind = PartitionKind::from_number(u64::from(record.kind))?;
        RestartPolicy::from_number(u64::from(record.restart))?;
        let init = index == 0;
        let threads = slice(self.threads, record.first_thread, record.thread_count);
        let bindings = slice(self.bindings, record.first_binding, record.binding_count);
        let consistent = init == (kind == PartitionKind::Init)
            && init == (record.init_bit == NO_BIT)
            && (init || record.init_bit < layout::SIGNAL_BITS)
            && init == threads.is_empty()
            && threads.len() == record.thread_count as usize
            && bindings.len() == record.binding_count as usize
            && (record.program == NO_INDEX) == init
            && (init || self.modules.get(record.program as usize).is_some())
            && whole_pages_or_none(record.program_bytes)
            && record.must_finish <= 1
            && record.name.is_valid();
        let guest = match kind {
            PartitionKind::Guest => {
                let guest = self.guests.get(record.guest as usize)?;
                guest.partition == index && guest.vcpus as usize <= threads.len()
            }
            PartitionKind::Init | PartitionKind::Native => record.guest == NO_INDEX,
        };
        (consistent && guest).then_some(())
    }

    fn check_entries(&self, partition: u32, record: &'a PartitionRecord) -> Result<(), PlanError> {
        let broken = PlanError::BadRecord(TableName::Environments, partition);
        let bytes = self.environment_bytes(record).ok_or(broken)?;
        let environment = Environment::parse(bytes).map_err(|_| broken)?;
        let bindings = slice(self.bindings, record.first_binding, record.binding_count);
        let view = Partition { plan: *self, index: partition as usize, record, environment };
        if environment.entries().len() != bindings.len() || environment.bytes().len() != bytes.len() {
            return Err(broken);
        }
        let mut bits = 0u64;
        for (index, (entry, binding)) in (0u32..).zip(environment.entries().iter().zip(bindings)) {
            let seen = environment.entries().get(..index as usize).unwrap_or(&[]);
            let fits = view.resource(entry, binding).is_some()
                && entry.slot < u64::from(record.table_slots)
                && (entry.slot == 0 || !seen.iter().any(|earlier| earlier.slot == entry.slot))
                && (entry.bit == NO_BIT || take_bit(&mut bits, entry.bit))
                && self.status_is_known(record, entry);
            if !fits {
                return Err(PlanError::BadEntry { partition, entry: index });
            }
        }
        Ok(())
    }

    /// Init's status entries name partitions by the bits that those signal.
    fn status_is_known(&self, record: &PartitionRecord, entry: &crate::EnvironmentEntry) -> bool {
        record.kind != PartitionKind::Init as u32
            || entry.kind != EntryKind::Status as u32
            || self.partitions.iter().any(|other| other.init_bit == entry.bit && other.name == entry.peer)
    }
}

/// A table of the plan: within it and aligned, or an error.
fn table<T: FromBytes + Immutable + KnownLayout>(
    bytes: &[u8],
    table: Table,
    name: TableName,
) -> Result<&[T], PlanError> {
    let bad = PlanError::BadTable(name);
    if table.count == 0 {
        return Ok(&[]);
    }
    if !table.offset.is_multiple_of(8) || (table.offset as usize) < size_of::<PlanHeader>() {
        return Err(bad);
    }
    let rest = bytes.get(table.offset as usize..).ok_or(bad)?;
    let (records, _) = <[T]>::ref_from_prefix_with_elems(rest, table.count as usize).map_err(|_| bad)?;
    Ok(records)
}

fn each<T>(records: &[T], name: TableName, is_valid: impl Fn(&T) -> bool) -> Result<(), PlanError> {
    for (index, record) in (0u32..).zip(records) {
        if !is_valid(record) {
            return Err(PlanError::BadRecord(name, index));
        }
    }
    Ok(())
}

/// Whether a module can be a guest's firmware.
fn is_firmware(module: &ModuleRecord) -> bool {
    whole_pages(module.length) && module.length <= layout::GUEST_FIRMWARE_MAX
}

fn whole_pages_or_none(bytes: u64) -> bool {
    bytes.is_multiple_of(PAGE_SIZE)
}

fn whole_pages(bytes: u64) -> bool {
    bytes != 0 && whole_pages_or_none(bytes)
}

/// Marks a bit as used; false if it was, or is not a bit.
fn take_bit(bits: &mut u64, bit: u32) -> bool {
    let Some(mask) = 1u64.checked_shl(bit) else {
        return false;
    };
    let free = *bits & mask == 0;
    *bits |= mask;
    free
}
