//! The tables of a plan: fixed-size little-endian records that name each other by index.

use crate::Name;
use crate::entry::numbered;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Value of [`PlanHeader::magic`].
pub const PLAN_MAGIC: u64 = u64::from_le_bytes(*b"BULKPLAN");
/// Value of [`PlanHeader::version`].
pub const PLAN_VERSION: u32 = 8;
/// In place of an index: none.
pub const NO_INDEX: u32 = u32::MAX;

/// Where a table lies in the plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Table {
    /// Byte offset from the start of the plan, a multiple of 8.
    pub offset: u32,
    /// Number of records (bytes, for the table of environments).
    pub count: u32,
}

/// The first bytes of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PlanHeader {
    /// [`PLAN_MAGIC`].
    pub magic: u64,
    /// [`PLAN_VERSION`].
    pub version: u32,
    /// Bytes of the whole plan.
    pub size: u32,
    /// Name of the system.
    pub name: Name,
    /// [`EndKind`].
    pub end: u32,
    /// For [`EndKind::Partition`]: index of the partition.
    pub end_partition: u32,
    /// For [`EndKind::After`]: microseconds from the start.
    pub end_after_us: u64,
    /// `bulkhead_abi::CpuFeatures` that the system as a whole needs.
    pub features: u64,
    /// CPUs that the manifest counts on.
    pub cpus: u32,
    /// Index of the partition of the bus service, which init starts before it builds the others; 0 (init's own) for none.
    pub bus: u32,
    /// 1 if the manifest counts on an IOMMU: without one, no device on the PCI bus is handed out.
    pub iommu: u32,
    /// Index of the partition that writes out the CPUs' trace rings; 0 (init's own) if there are none.
    pub trace: u32,
    /// Index of the region that is CPU 0's trace ring; the next ones are those of the next CPUs.
    pub trace_region: u32,
    /// Number of trace rings.
    pub trace_rings: u32,
    /// 1 if init is to print the capabilities of all partitions, after the seal and at the end.
    pub dump: u32,
    /// Not used, 0.
    pub reserved: u32,
    /// [`ModuleRecord`]s.
    pub modules: Table,
    /// [`PartitionRecord`]s; the first is init itself.
    pub partitions: Table,
    /// [`ThreadRecord`]s.
    pub threads: Table,
    /// [`GuestRecord`]s.
    pub guests: Table,
    /// [`RegionRecord`]s.
    pub regions: Table,
    /// [`ChannelRecord`]s.
    pub channels: Table,
    /// [`EndpointRecord`]s.
    pub endpoints: Table,
    /// [`DeviceRecord`]s.
    pub devices: Table,
    /// [`SlotRecord`]s.
    pub slots: Table,
    /// [`BindingRecord`]s, one for each environment entry.
    pub bindings: Table,
    /// Bytes of the environments.
    pub environments: Table,
}

numbered! {
    /// When the system ends.
    pub enum EndKind {
        /// When every partition with `must_finish` has reported `Finished`; with failure as soon as one has failed for good.
        MustFinish = 0,
        /// When one partition has finished.
        Partition = 1,
        /// After a time.
        After = 2,
        /// Never.
        Never = 3,
    }
}

/// A file that the boot loader loads. Its boot command line is its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ModuleRecord {
    /// Name: the module's command line.
    pub name: Name,
    /// BLAKE2b-256 of the file: as strong as SHA-256, and several times faster on a processor without instructions for it.
    pub digest: [u8; 32],
    /// Bytes of the file.
    pub length: u64,
}

numbered! {
    /// What a partition is.
    pub enum PartitionKind {
        /// Init itself: it exists already; init carries out the entries for itself, too.
        Init = 0,
        /// A native program.
        Native = 1,
        /// The virtual machine monitor of a guest.
        Guest = 2,
    }
}

numbered! {
    /// What init does when a partition crashes or asks to be started anew.
    pub enum RestartPolicy {
        /// Leaves it stopped: it has failed.
        Never = 0,
        /// Starts it anew.
        Always = 1,
        /// Starts it anew at most `restart_limit` times.
        Limit = 2,
    }
}

/// Longest wait before a restart: the waits of [`PartitionRecord::backoff_us`] double up to this.
pub const LONGEST_BACKOFF_US: u64 = 10_000_000;
/// Longest worst case of a call, in microseconds: what a `u32` of TSC ticks holds at 8 GHz.
pub const LONGEST_CALL_US: u64 = 500_000;

numbered! {
    /// What init does to a partition, to try what then happens.
    pub enum Fault {
        /// Nothing.
        None = 0,
        /// It is stopped at once, as if it had crashed.
        Kill = 1,
        /// Its threads go on no more, and nobody is told.
        Hang = 2,
        /// Its code faults. This and the following are done by the program's runtime: init starts it with this number in place of the
        /// environment's address.
        Crash = 3,
        /// Its first thread loops, at its priority.
        Loop = 4,
        /// It uses up its heap, and the slots of its capability table.
        Exhaust = 5,
        /// It fills and overwrites its channels, and signals everybody whom it can, as fast as it can.
        Flood = 6,
    }
}

/// A partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PartitionRecord {
    /// Name.
    pub name: Name,
    /// [`PartitionKind`].
    pub kind: u32,
    /// Index of its program's module, an ELF executable; [`NO_INDEX`] for init.
    pub program: u32,
    /// Index of its guest; [`NO_INDEX`] unless the kind is [`PartitionKind::Guest`].
    pub guest: u32,
    /// Index of its first thread. Init has none.
    pub first_thread: u32,
    /// Number of its threads; the first one is started by init, the others by the partition.
    pub thread_count: u32,
    /// Index of its first binding.
    pub first_binding: u32,
    /// Number of its bindings: as many as its environment has entries, in the same order.
    pub binding_count: u32,
    /// Byte offset of its environment in the table of environments, a multiple of 8.
    pub environment_offset: u32,
    /// Bytes of its environment.
    pub environment_size: u32,
    /// Slots in its capability table. For init: the first slot that the plan does not use.
    pub table_slots: u32,
    /// Pages that its page tables need at most, program and stacks included.
    pub pool_pages: u32,
    /// [`RestartPolicy`].
    pub restart: u32,
    /// For [`RestartPolicy::Limit`].
    pub restart_limit: u32,
    /// 1: the system's end waits for it, and its failure is the system's.
    pub must_finish: u32,
    /// Bit in init's notification that its faults and its reports signal; [`crate::NO_BIT`] for init.
    pub init_bit: u32,
    /// [`Fault`] that is injected.
    pub fault: u32,
    /// How often.
    pub fault_times: u32,
    /// NUMA node from which all memory comes that it has beside regions; [`NO_INDEX`] for any.
    pub node: u32,
    /// When for the first time, in microseconds after the start of the partitions.
    pub fault_after_us: u64,
    /// Microseconds between two times.
    pub fault_every_us: u64,
    /// Microseconds before it is started anew for the first time, which double from time to time; 0 for at once.
    pub backoff_us: u64,
    /// It is started anew if it shows no sign of life for so many microseconds; 0 for no watchdog.
    pub watchdog_us: u64,
    /// Bytes that the segments of its program occupy in memory, in whole pages.
    pub program_bytes: u64,
    /// `bulkhead_abi::CpuFeatures` that it needs.
    pub features: u64,
}

/// A thread with its window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ThreadRecord {
    /// CPU.
    pub cpu: u32,
    /// Priority, 0 lowest to 63.
    pub priority: u32,
    /// Budget in each period, in microseconds; 0 for no limit.
    pub budget_us: u64,
    /// Period in microseconds; 0 for no limit.
    pub period_us: u64,
    /// End of its stack.
    pub stack_top: u64,
    /// Bytes of its stack.
    pub stack_bytes: u64,
    /// Slot of it in its partition's table.
    pub slot: u64,
    /// Slot of its notification in its partition's table.
    pub notification_slot: u64,
}

/// A slot of a CPU's cyclic major frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SlotRecord {
    /// Index of the partition whose threads on the CPU may run in it.
    pub partition: u32,
    /// The CPU.
    pub cpu: u32,
    /// Length of the frame in microseconds.
    pub frame_us: u64,
    /// Microseconds from the frame's beginning. The slots of a partition on a CPU are in ascending order.
    pub start_us: u64,
    /// Its end, likewise.
    pub end_us: u64,
    /// 1: device interrupts wait until it is over. The same for all slots of a partition on a CPU.
    pub quiet: u32,
    /// Not used, 0.
    pub reserved: u32,
}

/// A guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GuestRecord {
    /// Index of its vmm's partition.
    pub partition: u32,
    /// [`crate::Paging`].
    pub paging: u32,
    /// Number of its processors; vCPU `n` runs on thread `n` of the partition.
    pub vcpus: u32,
    /// Index of the region of its RAM at guest-physical 0.
    pub low_memory: u32,
    /// Index of the region of its RAM at [`crate::layout::GUEST_HIGH_RAM`]; [`NO_INDEX`] for none.
    pub high_memory: u32,
    /// Pages for the tables of its guest space.
    pub pool_pages: u32,
    /// Further pages for shadow tables, if it is translated by such.
    pub shadow_pages: u32,
    /// Index of the module that it has, read-only, up to [`crate::layout::GUEST_FIRMWARE_END`]; [`NO_INDEX`] for none.
    pub firmware: u32,
}

/// A contiguous range of physical memory, zeroed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RegionRecord {
    /// Bytes, in whole pages.
    pub size: u64,
    /// Alignment in bytes, a power of two of at least a page.
    pub alignment: u64,
    /// Physical address that it must have; 0 for any.
    pub physical: u64,
    /// NUMA node that it must come from; [`NO_INDEX`] for any.
    pub node: u32,
    /// Not used, 0.
    pub reserved: u32,
}

/// One end of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ChannelEnd {
    /// Index of the partition.
    pub partition: u32,
    /// Bit in this partition's notification that the other end signals: the badge of the other end's capability is `1 << bit`.
    /// [`crate::NO_BIT`] if it does not.
    pub bit: u32,
    /// Slot of this partition's capability to signal the other end; 0 if it does not.
    pub slot: u64,
}

/// A channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ChannelRecord {
    /// Name, for reports.
    pub name: Name,
    /// [`crate::ChannelKind`].
    pub kind: u32,
    /// Index of the region of its memory.
    pub region: u32,
    /// Its ends, by [`crate::Role`]. They are different partitions.
    pub ends: [ChannelEnd; 2],
}

/// An endpoint: one server, any number of clients, all on one CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EndpointRecord {
    /// Name, for reports.
    pub name: Name,
    /// Index of the server's partition.
    pub server: u32,
    /// CPU.
    pub cpu: u32,
    /// Microseconds that its server takes for a call at most, up to [`LONGEST_CALL_US`]; 0 if that is not said.
    pub worst_case_us: u64,
}

numbered! {
    /// How a function on the PCI bus is chosen; the meaning of [`DeviceRecord::values`].
    pub enum DeviceSelector {
        /// By vendor | device << 16; two are given, and either will do.
        Identifier = 0,
        /// By class << 16 | subclass << 8 | programming interface, in the first value.
        Class = 1,
        /// By bus << 8 | device << 3 | function, in the first value.
        Address = 2,
    }
}

/// A device on the PCI bus that a partition owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DeviceRecord {
    /// Name.
    pub name: Name,
    /// Index of its owner's partition.
    pub partition: u32,
    /// [`DeviceSelector`].
    pub selector: u32,
    /// What to look for. Of several functions that fit, the first one on the bus that no earlier record has taken.
    pub values: [u32; 2],
    /// Message interrupts wanted, 1 to [`crate::layout::MAX_MESSAGES`].
    pub vectors: u32,
    /// Not used, 0.
    pub reserved: u32,
}

/// What the environment entry with the same number stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BindingRecord {
    /// Index in the table that the entry's kind implies (see [`crate::Resource`]); [`NO_INDEX`] for kinds without one.
    pub target: u32,
    /// [`BindingFlags`] bits.
    pub flags: u32,
}

/// Bits of [`BindingRecord::flags`].
#[derive(Clone, Copy, Debug)]
pub struct BindingFlags;

impl BindingFlags {
    /// Map writable.
    pub const WRITE: u32 = 1;
    /// Tell the partition the physical address.
    pub const PHYSICAL: u32 = 2;
    /// Map with the uncached memory type.
    pub const UNCACHED: u32 = 4;
}
