//! The plan: the compiled manifest, viewed through types that cannot be wrong.

use crate::view::View;
use crate::{
    BindingFlags, BindingRecord, ChannelEnd, ChannelKind, ChannelRecord, DeviceMemory, DeviceRecord, EndKind, Endpoint,
    EndpointRecord, EndpointSide, EntryKind, Environment, EnvironmentEntry, Fault, GuestRecord, Interrupt, IoPorts,
    ModuleRecord, NO_INDEX, OwnPartition, Paging, PartitionKind, PartitionRecord, PlanHeader, RegionRecord,
    RemappingUnit, RestartPolicy, Role, SlotRecord, Thread, ThreadRecord, Vcpu, layout,
};

/// Why bytes are not a plan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PlanError {
    /// Shorter than it says, or not aligned to 8 bytes.
    Truncated,
    /// The magic or the version is another: kernel image and plan were not built together.
    WrongVersion,
    /// A table lies outside the plan.
    BadTable(TableName),
    /// A record holds an index, a number or a name that is not allowed there.
    BadRecord(TableName, u32),
    /// An entry of a partition's environment contradicts the tables.
    BadEntry {
        /// Index of the partition.
        partition: u32,
        /// Index of the entry.
        entry: u32,
    },
    /// The header's end condition or system name is wrong.
    BadHeader,
}

/// The tables of a plan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TableName {
    /// `PlanHeader::modules`.
    Modules,
    /// `PlanHeader::partitions`.
    Partitions,
    /// `PlanHeader::threads`.
    Threads,
    /// `PlanHeader::guests`.
    Guests,
    /// `PlanHeader::regions`.
    Regions,
    /// `PlanHeader::channels`.
    Channels,
    /// `PlanHeader::endpoints`.
    Endpoints,
    /// `PlanHeader::devices`.
    Devices,
    /// `PlanHeader::slots`.
    Slots,
    /// `PlanHeader::bindings`.
    Bindings,
    /// `PlanHeader::environments`.
    Environments,
}

/// When the system ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// When every partition that must finish has finished.
    MustFinish,
    /// When the partition with this index has finished.
    Partition(usize),
    /// This many microseconds after the start.
    After(u64),
    /// Never.
    Never,
}

/// What init does with a partition that crashed, or that asks to be started anew.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Restart {
    /// Leave it stopped.
    Never,
    /// Start it anew.
    Always,
    /// Start it anew at most this many times.
    Limit(u32),
}

/// A checked plan. All indices in it are in range.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    pub(crate) header: &'a PlanHeader,
    pub(crate) modules: &'a [ModuleRecord],
    pub(crate) partitions: &'a [PartitionRecord],
    pub(crate) threads: &'a [ThreadRecord],
    pub(crate) guests: &'a [GuestRecord],
    pub(crate) regions: &'a [RegionRecord],
    pub(crate) channels: &'a [ChannelRecord],
    pub(crate) endpoints: &'a [EndpointRecord],
    pub(crate) devices: &'a [DeviceRecord],
    pub(crate) slots: &'a [SlotRecord],
    pub(crate) bindings: &'a [BindingRecord],
    pub(crate) environments: &'a [u8],
}

impl<'a> Plan<'a> {
    /// The header.
    pub fn header(&self) -> &'a PlanHeader {
        self.header
    }

    /// Name of the system.
    pub fn name(&self) -> &'a str {
        self.header.name.as_str()
    }

    /// When the system ends.
    pub fn end(&self) -> End {
        match EndKind::from_number(u64::from(self.header.end)) {
            Some(EndKind::MustFinish) => End::MustFinish,
            Some(EndKind::Partition) => End::Partition(self.header.end_partition as usize),
            Some(EndKind::After) => End::After(self.header.end_after_us),
            Some(EndKind::Never) | None => End::Never,
        }
    }

    /// Modules, in the order of their index.
    pub fn modules(&self) -> &'a [ModuleRecord] {
        self.modules
    }

    /// Memory regions, in the order of their index. Each is allocated once, whoever maps it.
    pub fn regions(&self) -> &'a [RegionRecord] {
        self.regions
    }

    /// Guests, in the order of their index.
    pub fn guests(&self) -> &'a [GuestRecord] {
        self.guests
    }

    /// Channels, in the order of their index.
    pub fn channels(&self) -> &'a [ChannelRecord] {
        self.channels
    }

    /// Endpoints, in the order of their index. Each is created once.
    pub fn endpoints(&self) -> &'a [EndpointRecord] {
        self.endpoints
    }

    /// Devices on the PCI bus, in the order of their index. Each belongs to one partition.
    pub fn devices(&self) -> &'a [DeviceRecord] {
        self.devices
    }

    /// The slots of the partition with this index in the major frame of a CPU; none if its threads there run at any time.
    pub fn slots(&self, partition: usize, cpu: u32) -> impl Iterator<Item = &'a SlotRecord> + use<'a> {
        self.slots.iter().filter(move |slot| slot.partition as usize == partition && slot.cpu == cpu)
    }

    /// Whether the manifest counts on an IOMMU.
    pub fn counts_on_iommu(&self) -> bool {
        self.header.iommu != 0
    }

    /// The partition that writes out the CPUs' trace rings, if there are any, and the rings' regions, by CPU.
    pub fn trace(&self) -> Option<(Partition<'a>, core::ops::Range<usize>)> {
        let partition = self.partition(self.header.trace as usize).filter(|partition| partition.index != 0)?;
        let first = self.header.trace_region as usize;
        Some((partition, first..first.checked_add(self.header.trace_rings as usize)?))
    }

    /// Whether init is to print the capabilities of all partitions.
    pub fn dumps_capabilities(&self) -> bool {
        self.header.dump != 0
    }

    /// The partition of the bus service, if the plan has one.
    pub fn bus(&self) -> Option<Partition<'a>> {
        self.partition(self.header.bus as usize).filter(|bus| bus.index != 0)
    }

    /// Partitions, in the order of their index; the first one is init itself.
    pub fn partitions(&self) -> impl Iterator<Item = Partition<'a>> + use<'a> {
        let plan = *self;
        (0..self.partitions.len()).filter_map(move |index| plan.partition(index))
    }

    /// The partition with this index.
    pub fn partition(&self, index: usize) -> Option<Partition<'a>> {
        let record = self.partitions.get(index)?;
        let environment = Environment::parse(self.environment_bytes(record)?).ok()?;
        Some(Partition { plan: *self, index, record, environment })
    }

    pub(crate) fn environment_bytes(&self, record: &PartitionRecord) -> Option<&'a [u8]> {
        let start = record.environment_offset as usize;
        self.environments.get(start..start.checked_add(record.environment_size as usize)?)
    }
}

/// A partition of a plan.
#[derive(Clone, Copy, Debug)]
pub struct Partition<'a> {
    pub(crate) plan: Plan<'a>,
    /// Its index.
    pub index: usize,
    /// Its record.
    pub record: &'a PartitionRecord,
    /// Its environment, to be copied (see [`crate::EnvironmentCopy`]); used in place for init itself.
    pub environment: Environment<'a>,
}

impl<'a> Partition<'a> {
    /// Name.
    pub fn name(&self) -> &'a str {
        self.record.name.as_str()
    }

    /// Kind.
    pub fn kind(&self) -> PartitionKind {
        PartitionKind::from_number(u64::from(self.record.kind)).unwrap_or(PartitionKind::Native)
    }

    /// The module of its program, with its index. None for init.
    pub fn program(&self) -> Option<(usize, &'a ModuleRecord)> {
        let index = self.record.program as usize;
        Some((index, self.plan.modules.get(index)?))
    }

    /// Its guest, with its index.
    pub fn guest(&self) -> Option<(usize, &'a GuestRecord)> {
        let index = self.record.guest as usize;
        Some((index, self.plan.guests.get(index)?))
    }

    /// Its threads. The first one is the one that init starts. None for init.
    pub fn threads(&self) -> &'a [ThreadRecord] {
        slice(self.plan.threads, self.record.first_thread, self.record.thread_count)
    }

    /// What init does to it, to try what then happens.
    pub fn fault(&self) -> Fault {
        Fault::from_number(u64::from(self.record.fault)).unwrap_or(Fault::None)
    }

    /// What to do when it crashes.
    pub fn restart(&self) -> Restart {
        match RestartPolicy::from_number(u64::from(self.record.restart)) {
            Some(RestartPolicy::Always) => Restart::Always,
            Some(RestartPolicy::Limit) => Restart::Limit(self.record.restart_limit),
            Some(RestartPolicy::Never) | None => Restart::Never,
        }
    }

    /// Whether the system's end waits for it.
    pub fn must_finish(&self) -> bool {
        self.record.must_finish == 1
    }

    /// Its environment's entries, each with what it stands for.
    pub fn grants(&self) -> impl Iterator<Item = Grant<'a>> + use<'a> {
        let partition = *self;
        let bindings = slice(self.plan.bindings, self.record.first_binding, self.record.binding_count);
        let entries = self.environment.entries();
        entries.iter().zip(bindings).enumerate().filter_map(move |(index, (entry, binding))| {
            Some(Grant { index, entry, resource: partition.resource(entry, binding)? })
        })
    }

    /// What an entry stands for; `None` if entry, binding and tables contradict each other (not in a checked plan).
    pub(crate) fn resource(&self, entry: &'a EnvironmentEntry, binding: &BindingRecord) -> Option<Resource<'a>> {
        let plan = &self.plan;
        let target = binding.target as usize;
        let region = |index: usize| plan.regions.get(index).filter(|region| entry.size == region.size).map(|_| index);
        let without_target = |resource| (binding.target == NO_INDEX).then_some(resource);
        let own_device = || plan.devices.get(target).filter(|device| device.partition as usize == self.index);
        let own_guest = || self.guest().filter(|&(index, _)| index == target);
        Some(match entry.kind()? {
            EntryKind::Channel => {
                let record = plan.channels.get(target)?;
                let role = Role::from_number(entry.parameters[0])?;
                let [first, second] = &record.ends;
                let (own, other) = if role == Role::First { (first, second) } else { (second, first) };
                let kind = ChannelKind::from_number(entry.parameters[1])?;
                let same = own.partition as usize == self.index
                    && own.bit == entry.bit
                    && own.slot == entry.slot
                    && u64::from(other.bit) == entry.parameters[3]
                    && kind as u32 == record.kind;
                same.then_some(())?;
                let region = region(record.region as usize)?;
                let badge = layout::signal_mask(other.bit, kind.bits(role.other()));
                Resource::Channel { index: target, region, own, other, badge, sends: kind.signals(role) }
            }
            EntryKind::Memory | EntryKind::Heap | EntryKind::GuestMemory => Resource::Region {
                index: region(target)?,
                writable: binding.flags & BindingFlags::WRITE != 0,
                physical: binding.flags & BindingFlags::PHYSICAL != 0,
                uncached: binding.flags & BindingFlags::UNCACHED != 0,
            },
            EntryKind::IoPorts if binding.target != NO_INDEX => {
                own_device()?;
                let bar = usize::try_from(IoPorts::view(entry)?.index).ok().filter(|bar| *bar < layout::BARS)?;
                Resource::DevicePorts { device: target, bar }
            }
            EntryKind::IoPorts => Resource::IoPorts(IoPorts::view(entry)?),
            EntryKind::Interrupt if binding.target != NO_INDEX => {
                let wanted = own_device()?.vectors as usize;
                let index = usize::try_from(Interrupt::view(entry)?.index).ok().filter(|index| *index < wanted)?;
                Resource::Message { device: target, index }
            }
            EntryKind::Interrupt => Resource::Interrupt(Interrupt::view(entry)?),
            EntryKind::PciFunction => own_device().map(|_| Resource::PciFunction { device: target })?,
            EntryKind::VirtioStructures => own_device().map(|_| Resource::VirtioStructures { device: target })?,
            EntryKind::DeviceMemory => {
                own_device()?;
                Resource::DeviceMemory { device: target, bar: usize::from(DeviceMemory::view(entry)?.bar) }
            }
            EntryKind::ConfigurationSpace => {
                (self.index == plan.header.bus as usize).then_some(())?;
                without_target(Resource::ConfigurationSpace)?
            }
            EntryKind::RemappingUnit => {
                (self.index == plan.header.bus as usize).then_some(())?;
                let unit = RemappingUnit::view(entry)?;
                without_target(Resource::RemappingUnit {
                    index: unit.interrupt.index as usize,
                    bit: unit.interrupt.bit,
                })?
            }
            EntryKind::GuestSpace => {
                let (index, record) = own_guest()?;
                let paging = Paging::from_number(u64::from(record.paging))?;
                Resource::GuestSpace { index, record, paging }
            }
            EntryKind::Vcpu => {
                let (guest, record) = own_guest()?;
                let vcpu = Vcpu::view(entry)?;
                let thread = self.threads().get(vcpu.thread as usize)?;
                (vcpu.index < record.vcpus && vcpu.cpu == thread.cpu).then_some(())?;
                Resource::Vcpu { guest, vcpu }
            }
            EntryKind::Thread => {
                let thread = Thread::view(entry)?;
                let record = self.threads().get(target)?;
                (target != 0 && thread.index as usize == target && thread.slot == record.slot).then_some(())?;
                (thread.cpu == record.cpu && thread.notification == record.notification_slot).then_some(())?;
                (thread.stack_top == record.stack_top && thread.stack_bytes == record.stack_bytes).then_some(())?;
                Resource::Thread { index: target, record }
            }
            EntryKind::Module => {
                let record = plan.modules.get(target).filter(|module| module.length == entry.size)?;
                Resource::Module { index: target, record }
            }
            EntryKind::Endpoint => {
                let record = plan.endpoints.get(target)?;
                let endpoint = Endpoint::view(entry)?;
                let serves = record.server as usize == self.index;
                (serves == (endpoint.side == EndpointSide::Server)).then_some(())?;
                (self.threads().first()?.cpu == record.cpu).then_some(())?;
                Resource::Endpoint { index: target, side: endpoint.side, badge: endpoint.badge }
            }
            EntryKind::Status => {
                let init = self.kind() == PartitionKind::Init;
                (init == (entry.slot == 0)).then_some(())?;
                Resource::Status { region: region(target)? }
            }
            EntryKind::OwnPartition => without_target(Resource::OwnPartition(OwnPartition::view(entry)?))?,
            EntryKind::Text
            | EntryKind::Disk
            | EntryKind::NetworkPort
            | EntryKind::Absent
            | EntryKind::FrameSlot
            | EntryKind::MsrRule => without_target(Resource::None)?,
        })
    }
}

/// An entry of a partition's environment, and what init has to do for it.
#[derive(Clone, Copy, Debug)]
pub struct Grant<'a> {
    /// Index of the entry.
    pub index: usize,
    /// The entry: slot, bit, address.
    pub entry: &'a EnvironmentEntry,
    /// What it stands for.
    pub resource: Resource<'a>,
}

/// What an environment entry stands for, and what init does for it. Indices are in range of the plan's tables.
#[derive(Clone, Copy, Debug)]
pub enum Resource<'a> {
    /// Map the region, writable, at the entry's address. Derive the notification of partition `other.partition`, with right
    /// `SIGNAL` and badge `1 << other.bit`, to the entry's slot. At an end that only receives, map it read-only, and derive nothing.
    Channel {
        /// Index of the channel.
        index: usize,
        /// Index of its region.
        region: usize,
        /// This partition's end.
        own: &'a ChannelEnd,
        /// The peer's end.
        other: &'a ChannelEnd,
        /// Badge of the capability that signals the other end.
        badge: u64,
        /// This end sends; the other one does in any case, unless this is the first end of a [`ChannelKind::OneWay`].
        sends: bool,
    },
    /// Map the region at the entry's address; if the entry has a slot, derive the region to it.
    Region {
        /// Index of the region.
        index: usize,
        /// Map it writable.
        writable: bool,
        /// Fill in the entry's `physical`.
        physical: bool,
        /// Map it uncached.
        uncached: bool,
    },
    /// Derive the partition and its first thread's window to the slots.
    OwnPartition(OwnPartition),
    /// Derive the ports to the entry's slot, and allow them to the partition.
    IoPorts(IoPorts<'a>),
    /// Derive the interrupt to the entry's slot, and bind it to the partition's notification with badge `1 << bit`.
    Interrupt(Interrupt<'a>),
    /// If the machine has PCI configuration space in memory: map it, uncached, at the entry's address, and fill in size and first
    /// bus. Else the entry becomes [`EntryKind::Absent`].
    ConfigurationSpace,
    /// If the machine has so many DMA remapping units: map the registers, uncached, at the entry's address, and bind a message
    /// interrupt as for `Message`. Else the entry becomes [`EntryKind::Absent`].
    RemappingUnit {
        /// Index of the unit.
        index: usize,
        /// Bit that its interrupt signals.
        bit: u32,
    },
    /// Fill in what was found of the device.
    PciFunction {
        /// Index of the device.
        device: usize,
    },
    /// If the device has structures of virtio: fill in where. Else the entry becomes [`EntryKind::Absent`].
    VirtioStructures {
        /// Index of the device.
        device: usize,
    },
    /// If the BAR is in memory: map its beginning, uncached, at the entry's address, and fill in the size. Else the entry becomes
    /// [`EntryKind::Absent`].
    DeviceMemory {
        /// Index of the device.
        device: usize,
        /// Index of the BAR.
        bar: usize,
    },
    /// If the BAR is on ports: as for `IoPorts`, and fill them in. Else the entry becomes [`EntryKind::Absent`].
    DevicePorts {
        /// Index of the device.
        device: usize,
        /// Index of the BAR.
        bar: usize,
    },
    /// If the device has so many messages: as for `Interrupt`, with a message interrupt, and fill in address and data. Else the
    /// entry becomes [`EntryKind::Absent`].
    Message {
        /// Index of the device.
        device: usize,
        /// Index among its messages.
        index: usize,
    },
    /// Create the guest space, map the guest's RAM and firmware in it at their guest-physical addresses, derive it to
    /// the entry's slot.
    GuestSpace {
        /// Index of the guest.
        index: usize,
        /// Its record.
        record: &'a GuestRecord,
        /// Translation.
        paging: Paging,
    },
    /// Create a vCPU of the guest's space on thread `vcpu.thread` of the partition, in the entry's slot.
    Vcpu {
        /// Index of the guest.
        guest: usize,
        /// Number, CPU, thread.
        vcpu: Vcpu,
    },
    /// Create the thread and its notification, in the slots of its record; map its stack.
    Thread {
        /// Index among the partition's threads, from 1.
        index: usize,
        /// Its record.
        record: &'a ThreadRecord,
    },
    /// Map the module read-only at the entry's address.
    Module {
        /// Index of the module.
        index: usize,
        /// Its record.
        record: &'a ModuleRecord,
    },
    /// Derive the endpoint to the entry's slot: right `RECEIVE` for the server, `CALL` with the badge for a client.
    Endpoint {
        /// Index of the endpoint.
        index: usize,
        /// Server or client.
        side: EndpointSide,
        /// Badge of a client's capability.
        badge: u64,
    },
    /// Map the region, writable, at the entry's address. Unless this is init: derive init's notification with right
    /// `SIGNAL` and badge `1 << init_bit` (of the partition's record) to the entry's slot.
    Status {
        /// Index of the region.
        region: usize,
    },
    /// Nothing to do.
    None,
}

pub(crate) fn slice<T>(table: &[T], first: u32, count: u32) -> &[T] {
    let start = first as usize;
    start.checked_add(count as usize).and_then(|end| table.get(start..end)).unwrap_or(&[])
}
