//! The environment: the list of everything that a partition has.

use crate::entry::numbered;
use crate::view::View;
use crate::{
    Channel, ConfigurationSpace, DeviceMemory, Disk, Endpoint, EntryKind, EnvironmentEntry, FrameSlot, GuestMemory,
    GuestSpace, Interrupt, IoPorts, Memory, Module, MsrRule, Name, NetworkPort, OwnPartition, PciFunction,
    RemappingUnit, StatusPage, Thread, Vcpu, VirtioStructures, layout,
};
use core::mem::size_of;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Value of [`EnvironmentHeader::magic`].
pub const ENVIRONMENT_MAGIC: u64 = u64::from_le_bytes(*b"BULKENV\0");
/// Value of [`EnvironmentHeader::version`].
pub const ENVIRONMENT_VERSION: u32 = 3;

/// The first bytes of an environment; `count` [`EnvironmentEntry`]s and then texts follow. Little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EnvironmentHeader {
    /// [`ENVIRONMENT_MAGIC`].
    pub magic: u64,
    /// [`ENVIRONMENT_VERSION`].
    pub version: u32,
    /// Number of entries.
    pub count: u32,
    /// Bytes of the whole environment: header, entries and texts.
    pub size: u64,
    /// The partition's own name.
    pub name: Name,
    /// TSC ticks a second. Init fills it in.
    pub tsc_hz: u64,
    /// How often the partition has been restarted. Init fills it in.
    pub generation: u64,
    /// Slot of the partition's own notification.
    pub notification_slot: u64,
    /// Slot of the partition's first thread.
    pub thread_slot: u64,
    /// CPU of the first thread.
    pub cpu: u32,
    /// Its priority.
    pub priority: u32,
    /// TSC at the kernel's first instruction. Init fills it in.
    pub tsc_at_boot: u64,
    /// `bulkhead_abi::CpuFeatures` of the machine. Init fills it in.
    pub features: u64,
}

numbered! {
    /// What a partition reports to init in the first `u32` of its [`StatusPage`]; the second `u32` is a code for the log.
    /// The partition writes the code, then the report, then signals init.
    pub enum StatusReport {
        /// It runs, and has nothing to report. What the page holds at first.
        Running = 0,
        /// It is done, and all is well: the guest has powered off, the program's work is complete.
        Finished = 1,
        /// It gave up: the guest crashed, a check failed.
        Failed = 2,
        /// It asks to be started anew: the guest has reset.
        Restart = 3,
    }
}

/// Why bytes are not an environment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EnvironmentError {
    /// Too short for the header or for what it announces, or not aligned to 8 bytes.
    Truncated,
    /// The magic or the version is another.
    WrongVersion,
    /// The entry with this index has an unknown kind, a bad name, or a value outside its documentation.
    BadEntry(u32),
    /// The partition's name is not a name.
    BadName,
}

/// A checked environment.
#[derive(Clone, Copy, Debug)]
pub struct Environment<'a> {
    header: &'a EnvironmentHeader,
    entries: &'a [EnvironmentEntry],
    bytes: &'a [u8],
}

impl<'a> Environment<'a> {
    /// Checks the bytes (aligned to 8, at least as long as the header says) and views them as an environment.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, EnvironmentError> {
        let (header, _) = EnvironmentHeader::ref_from_prefix(bytes).map_err(|_| EnvironmentError::Truncated)?;
        if header.magic != ENVIRONMENT_MAGIC || header.version != ENVIRONMENT_VERSION {
            return Err(EnvironmentError::WrongVersion);
        }
        let size = usize::try_from(header.size).map_err(|_| EnvironmentError::Truncated)?;
        if header.size > layout::ENVIRONMENT_MAX {
            return Err(EnvironmentError::Truncated);
        }
        let bytes = bytes.get(..size).ok_or(EnvironmentError::Truncated)?;
        let rest = bytes.get(size_of::<EnvironmentHeader>()..).ok_or(EnvironmentError::Truncated)?;
        let (entries, _) = <[EnvironmentEntry]>::ref_from_prefix_with_elems(rest, header.count as usize)
            .map_err(|_| EnvironmentError::Truncated)?;
        if !header.name.is_valid() {
            return Err(EnvironmentError::BadName);
        }
        let environment = Self { header, entries, bytes };
        for (index, entry) in (0..).zip(entries) {
            if !environment.is_valid(entry) {
                return Err(EnvironmentError::BadEntry(index));
            }
        }
        Ok(environment)
    }

    fn is_valid(&self, entry: &EnvironmentEntry) -> bool {
        let Some(kind) = entry.kind() else {
            return false;
        };
        let fits = match kind {
            EntryKind::Channel => Channel::view(entry).is_some(),
            EntryKind::Memory | EntryKind::Heap => Memory::view(entry).is_some(),
            EntryKind::IoPorts => IoPorts::view(entry).is_some(),
            EntryKind::Interrupt => Interrupt::view(entry).is_some(),
            EntryKind::GuestMemory => GuestMemory::view(entry).is_some(),
            EntryKind::GuestSpace => GuestSpace::view(entry).is_some(),
            EntryKind::Vcpu => Vcpu::view(entry).is_some(),
            EntryKind::Thread => Thread::view(entry).is_some(),
            EntryKind::Module => Module::view(entry).is_some(),
            EntryKind::Text => self.text_of(entry).is_some(),
            EntryKind::Disk => Disk::view(entry).is_some(),
            EntryKind::NetworkPort => NetworkPort::view(entry).is_some(),
            EntryKind::MsrRule => MsrRule::view(entry).is_some(),
            EntryKind::Status => StatusPage::view(entry).is_some(),
            EntryKind::Endpoint => Endpoint::view(entry).is_some(),
            EntryKind::PciFunction => PciFunction::view(entry).is_some(),
            EntryKind::DeviceMemory => DeviceMemory::view(entry).is_some(),
            EntryKind::ConfigurationSpace => ConfigurationSpace::view(entry).is_some(),
            EntryKind::RemappingUnit => RemappingUnit::view(entry).is_some(),
            EntryKind::VirtioStructures => VirtioStructures::view(entry).is_some(),
            EntryKind::FrameSlot => FrameSlot::view(entry).is_some(),
            EntryKind::OwnPartition => OwnPartition::view(entry).is_some(),
            EntryKind::Absent => true,
        };
        fits && entry.name.is_valid() && entry.peer.is_valid()
    }

    /// The header: own name, clock, own slots.
    pub fn header(&self) -> &'a EnvironmentHeader {
        self.header
    }

    /// The partition's name.
    pub fn name(&self) -> &'a str {
        self.header.name.as_str()
    }

    /// All entries.
    pub fn entries(&self) -> &'a [EnvironmentEntry] {
        self.entries
    }

    /// The bytes of header, entries and texts.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The first entry of this kind and name.
    pub fn find(&self, kind: EntryKind, name: &str) -> Option<&'a EnvironmentEntry> {
        self.entries.iter().find(|entry| entry.kind == kind as u32 && entry.name.as_str() == name)
    }

    fn views<T: View<'a>>(&self) -> impl Iterator<Item = T> + use<'a, T> {
        self.entries.iter().filter_map(T::view)
    }

    /// All channels.
    pub fn channels(&self) -> impl Iterator<Item = Channel<'a>> + use<'a> {
        self.views()
    }

    /// The channel of this name.
    pub fn channel(&self, name: &str) -> Option<Channel<'a>> {
        self.channels().find(|channel| channel.name == name)
    }

    /// All memory ranges, the heap among them.
    pub fn memories(&self) -> impl Iterator<Item = Memory<'a>> + use<'a> {
        self.views()
    }

    /// The memory range of this name; the heap is `heap`.
    pub fn memory(&self, name: &str) -> Option<Memory<'a>> {
        self.memories().find(|memory| memory.name == name)
    }

    /// The heap.
    pub fn heap(&self) -> Option<Memory<'a>> {
        self.entries.iter().find(|entry| entry.kind == EntryKind::Heap as u32).and_then(Memory::view)
    }

    /// The partition itself, where the manifest gives it.
    pub fn own_partition(&self) -> Option<OwnPartition> {
        self.views().next()
    }

    /// All port ranges.
    pub fn ports(&self) -> impl Iterator<Item = IoPorts<'a>> + use<'a> {
        self.views()
    }

    /// Port range `index` of a device.
    pub fn ports_of(&self, device: &str, index: u64) -> Option<IoPorts<'a>> {
        self.ports().find(|ports| ports.name == device && ports.index == index)
    }

    /// All interrupts.
    pub fn interrupts(&self) -> impl Iterator<Item = Interrupt<'a>> + use<'a> {
        self.views()
    }

    /// The first interrupt of a device.
    pub fn interrupt(&self, device: &str) -> Option<Interrupt<'a>> {
        self.interrupts().find(|interrupt| interrupt.name == device)
    }

    /// PCI configuration space in memory, in the bus service.
    pub fn configuration_space(&self) -> Option<ConfigurationSpace> {
        self.views().next()
    }

    /// The DMA remapping units, in the bus service.
    pub fn remapping_units(&self) -> impl Iterator<Item = RemappingUnit<'a>> + use<'a> {
        self.views()
    }

    /// The PCI function of a device.
    pub fn pci_function(&self, device: &str) -> Option<PciFunction<'a>> {
        self.views::<PciFunction<'a>>().find(|function| function.name == device)
    }

    /// The structures of a virtio device.
    pub fn virtio_structures(&self, device: &str) -> Option<VirtioStructures<'a>> {
        self.views::<VirtioStructures<'a>>().find(|structures| structures.name == device)
    }

    /// All device memory.
    pub fn device_memories(&self) -> impl Iterator<Item = DeviceMemory<'a>> + use<'a> {
        self.views()
    }

    /// All ranges of guests' RAM, in order of guest-physical address for each guest.
    pub fn guest_memories(&self) -> impl Iterator<Item = GuestMemory<'a>> + use<'a> {
        self.views()
    }

    /// The guest space, in a vmm.
    pub fn guest_space(&self) -> Option<GuestSpace> {
        self.views().next()
    }

    /// The guest's processors, in a vmm, in order of their index.
    pub fn vcpus(&self) -> impl Iterator<Item = Vcpu> + use<'a> {
        self.views()
    }

    /// Further threads, in order of their index.
    pub fn threads(&self) -> impl Iterator<Item = Thread> + use<'a> {
        self.views()
    }

    /// The slots of major frames outside which its threads do not run, if there are any.
    pub fn frame_slots(&self) -> impl Iterator<Item = FrameSlot> + use<'a> {
        self.views()
    }

    /// All modules.
    pub fn modules(&self) -> impl Iterator<Item = Module<'a>> + use<'a> {
        self.views()
    }

    /// The module of this name: `kernel`, `initrd` or `firmware`.
    pub fn module(&self, name: &str) -> Option<Module<'a>> {
        self.modules().find(|module| module.name == name)
    }

    /// All disks.
    pub fn disks(&self) -> impl Iterator<Item = Disk<'a>> + use<'a> {
        self.views()
    }

    /// What the guest's accesses to single model-specific registers do.
    pub fn msr_rules(&self) -> impl Iterator<Item = MsrRule> + use<'a> {
        self.views()
    }

    /// All network cards of a guest, or all ports of a switch.
    pub fn network_ports(&self) -> impl Iterator<Item = NetworkPort<'a>> + use<'a> {
        self.views()
    }

    /// The status pages: one (to init) in a partition; in init one for each partition, in the plan's order.
    pub fn status_pages(&self) -> impl Iterator<Item = StatusPage<'a>> + use<'a> {
        self.views()
    }

    /// All endpoints.
    pub fn endpoints(&self) -> impl Iterator<Item = Endpoint<'a>> + use<'a> {
        self.views()
    }

    /// The endpoint of this name.
    pub fn endpoint(&self, name: &str) -> Option<Endpoint<'a>> {
        self.endpoints().find(|endpoint| endpoint.name == name)
    }

    /// The text of this name, such as a guest's `command-line`.
    pub fn text(&self, name: &str) -> Option<&'a str> {
        self.text_of(self.find(EntryKind::Text, name)?)
    }

    fn text_of(&self, entry: &EnvironmentEntry) -> Option<&'a str> {
        let start = usize::try_from(entry.address.checked_sub(layout::ENVIRONMENT)?).ok()?;
        let end = start.checked_add(usize::try_from(entry.size).ok()?)?;
        core::str::from_utf8(self.bytes.get(start..end)?).ok()
    }
}

/// What init fills into a partition's copy of its environment.
#[derive(Debug)]
pub struct EnvironmentCopy<'a> {
    header: &'a mut EnvironmentHeader,
    entries: &'a mut [EnvironmentEntry],
}

impl<'a> EnvironmentCopy<'a> {
    /// Copies an environment to the start of `target` (aligned to 8); `None` if it does not fit.
    pub fn new(source: &Environment<'_>, target: &'a mut [u8]) -> Option<Self> {
        target.get_mut(..source.bytes.len())?.copy_from_slice(source.bytes);
        let (header, rest) = EnvironmentHeader::mut_from_prefix(target).ok()?;
        let (entries, _) = <[EnvironmentEntry]>::mut_from_prefix_with_elems(rest, source.entries.len()).ok()?;
        Some(Self { header, entries })
    }

    /// Fills in the clock and the number of restarts.
    pub fn set_clock(&mut self, tsc_hz: u64, generation: u64) {
        self.header.tsc_hz = tsc_hz;
        self.header.generation = generation;
    }

    /// Fills in when the kernel was entered, and on what processors.
    pub fn set_boot(&mut self, tsc: u64, features: u64) {
        self.header.tsc_at_boot = tsc;
        self.header.features = features;
    }

    /// Puts an entry in the place of the one with this index; nothing if there is none.
    pub fn set_entry(&mut self, index: usize, entry: EnvironmentEntry) {
        if let Some(place) = self.entries.get_mut(index) {
            *place = entry;
        }
    }

    /// Fills in the host-physical address of the entry with this index; nothing if there is none.
    pub fn set_physical(&mut self, index: usize, physical: u64) {
        if let Some(entry) = self.entries.get_mut(index) {
            entry.physical = physical;
        }
    }
}
