//! The entries of an environment: the record, and what each kind of it means.

mod guest;
mod pci;

pub use guest::*;
pub use pci::*;

use crate::Name;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Declares an enum with numbers and `from_number`.
macro_rules! numbered {
    ($(#[$top:meta])* pub enum $name:ident { $($(#[$doc:meta])* $item:ident = $number:literal,)* }) => {
        $(#[$top])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u32)]
        pub enum $name { $($(#[$doc])* $item = $number,)* }

        impl $name {
            /// The item with this number, if there is one.
            pub const fn from_number(number: u64) -> Option<Self> {
                match number { $($number => Some(Self::$item),)* _ => None }
            }
        }
    };
}
pub(crate) use numbered;

numbered! {
    /// What an [`EnvironmentEntry`] grants. Fields that a kind does not mention are 0.
    pub enum EntryKind {
        /// See [`Channel`]. `slot` and `bit`, one of them at the ends of a [`ChannelKind::OneWay`]; `address`, `size`, `peer`; parameters: [`Role`], [`ChannelKind`],
        /// number of the peer, its first bit.
        Channel = 1,
        /// See [`Memory`]. `slot` or 0, `address`, `size`, `physical`; parameters: 1 if writable.
        Memory = 2,
        /// See [`IoPorts`]. `slot`; parameters: first port, ports, index of the range in its device.
        IoPorts = 3,
        /// See [`Interrupt`]. `slot`, `bit`; parameters: global system interrupt, flags of `InterruptMethod::Bind`, index in its device.
        Interrupt = 4,
        /// See [`GuestMemory`]. `slot` or 0, `address`, `size`, `physical`, `peer` = guest; parameters: guest-physical address.
        GuestMemory = 5,
        /// See [`GuestSpace`]. `slot`; parameters: paging, memory of the guest in bytes, [`GuestSpace::HPET`]..., withheld features.
        GuestSpace = 6,
        /// See [`Vcpu`]. `slot`, `address` for its state page and the virtual-APIC page behind it, `size` of both; parameters: index, CPU, index of the thread that runs it.
        Vcpu = 7,
        /// See [`Thread`]. A further thread: `slot`, `address` = stack top, `size` = stack bytes; parameters: index (from 1),
        /// slot of its notification, CPU.
        Thread = 8,
        /// See [`Module`]. `address` (mapped read-only), `size` in bytes as loaded.
        Module = 9,
        /// Text in the environment itself: `address`, `size` in bytes; see [`crate::Environment::text`].
        Text = 10,
        /// See [`Disk`]. `peer` = owner (in the service) or service (in the owner, of a guest the vmm); the channel and it have the same name;
        /// parameters: first sector, sectors, [`Disk::READ_ONLY`]..., index of the disk in its guest.
        Disk = 11,
        /// See [`Memory`]: the heap. `address`, `size`.
        Heap = 12,
        /// See [`StatusPage`]. `slot` = capability to signal init, `address`, `size` of the page shared with init. In init: `bit`
        /// that the partition `peer` signals, both when it reports and when it faults. Parameters: the watchdog's microseconds.
        Status = 13,
        /// See [`Endpoint`]. `slot`, `peer`; parameters: [`EndpointSide`], badge, in a client the number of the server.
        Endpoint = 14,
        /// See [`PciFunction`]. Init fills in the parameters: bus << 8 | device << 3 | function, vendor | device << 16 | class << 32,
        /// BAR of the MSI-X table | entries << 32 (0 without one), its offset in the BAR.
        PciFunction = 15,
        /// See [`DeviceMemory`]. `address`, `size` (init fills in the real one); parameters: index of the BAR, all bytes of the BAR.
        DeviceMemory = 16,
        /// What the machine or a device on the PCI bus turned out not to have: init puts it in the place of configuration space, a BAR
        /// or a message that the plan left room for.
        Absent = 17,
        /// See [`NetworkPort`]. `peer` = guest (in the switch) or switch (in the vmm); the channel and it have the same name; parameters:
        /// MAC address in bits 0 to 47 (first byte lowest), MTU in 48 to 63; peers in bits 0 to 15, [`NetworkPort::CHECKSUM`]..., VLAN
        /// from bit [`NetworkPort::VLAN`] on; rate; number of the port in its guest.
        NetworkPort = 18,
        /// See [`ConfigurationSpace`]. `address`, `size`; init fills in the size, and as parameter the first bus.
        ConfigurationSpace = 19,
        /// See [`RemappingUnit`]. `slot`, `bit`, `address`, `size` of a page; parameters: 0, 0, number of the unit, and what init fills
        /// in for [`EntryKind::Interrupt`].
        RemappingUnit = 20,
        /// See [`VirtioStructures`]. Init fills in the parameters: BAR | multiplier << 32; common, notification and device structure,
        /// each offset | length << 32.
        VirtioStructures = 21,
        /// See [`FrameSlot`]. Parameters: microseconds of the major frame, start and end of the slot in it, CPU.
        FrameSlot = 22,
        /// See [`OwnPartition`]. `slot`; parameters: slot of its window.
        OwnPartition = 23,
        /// See [`MsrRule`], in a vmm. Parameters: number of the register, [`MsrRead`], the constant, [`MsrWrite`].
        MsrRule = 24,
    }
}

numbered! {
    /// What a guest's RDMSR of a register does.
    pub enum MsrRead {
        /// What it does without a rule.
        Emulate = 0,
        /// It faults.
        Deny = 1,
        /// It reads a constant.
        Constant = 2,
    }
}

numbered! {
    /// What a guest's WRMSR to a register does.
    pub enum MsrWrite {
        /// What it does without a rule.
        Emulate = 0,
        /// It faults.
        Deny = 1,
        /// Nothing.
        Ignore = 2,
    }
}

numbered! {
    /// Which end of a channel a partition is.
    pub enum Role {
        /// The first of the manifest's `between`; the device side of a disk channel; the program's side of a console channel.
        First = 0,
        /// The second; the guest's side of a disk channel; the console service's side of a console channel.
        Second = 1,
    }
}

impl Role {
    /// The other end.
    pub const fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }
}

numbered! {
    /// What a channel's memory holds.
    pub enum ChannelKind {
        /// Two byte rings, lines of text: a native program's console.
        Text = 0,
        /// Two byte rings, raw: a guest's serial port.
        Serial = 1,
        /// Control page of a virtio device: a disk, a network card.
        Device = 2,
        /// Whatever the two programs agree on.
        Raw = 3,
        /// The same, from the first end to the second only: the second one has the memory read-only and no capability to signal the
        /// first one.
        OneWay = 4,
    }
}

/// Interrupts of a device that have a signal bit of their own: those of its first queues. Their bits follow the channel's.
pub const DEVICE_INTERRUPTS: u32 = 2;

impl ChannelKind {
    /// Whether this end writes the memory and signals the other one.
    pub const fn signals(self, role: Role) -> bool {
        !matches!((self, role), (Self::OneWay, Role::Second))
    }

    /// Bits in a row by which the other end signals this one.
    pub const fn bits(self, role: Role) -> u32 {
        match (self, role) {
            (Self::Device, Role::Second) => 1 + DEVICE_INTERRUPTS,
            _ => self.is_signalled(role) as u32,
        }
    }

    /// Whether the other end signals this one.
    pub const fn is_signalled(self, role: Role) -> bool {
        !matches!((self, role), (Self::OneWay, Role::First))
    }
}

numbered! {
    /// Which side of an endpoint a partition is.
    pub enum EndpointSide {
        /// Receives and replies.
        Server = 0,
        /// Calls.
        Client = 1,
    }
}

/// One entry of an [`crate::Environment`]: the same fields for every [`EntryKind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EnvironmentEntry {
    /// [`EntryKind`].
    pub kind: u32,
    /// Signal bit (0 to 63) in the partition's own notification, [`NO_BIT`] for none.
    pub bit: u32,
    /// Name, unique among the entries of its kind, except [`EntryKind::IoPorts`], [`EntryKind::Interrupt`],
    /// [`EntryKind::DeviceMemory`], [`EntryKind::Absent`] (several a device) and
    /// [`EntryKind::GuestMemory`] (two ranges for a guest with more than 3 GiB).
    pub name: Name,
    /// The partition at the other end.
    pub peer: Name,
    /// Slot of the capability in the partition's table, 0 for none.
    pub slot: u64,
    /// Virtual address in the partition, 0 for none.
    pub address: u64,
    /// Bytes.
    pub size: u64,
    /// Host-physical address, where the manifest grants it to be known (for a device's DMA); else 0. Init fills it in.
    pub physical: u64,
    /// By kind.
    pub parameters: [u64; 4],
}

/// In place of a signal bit: none.
pub const NO_BIT: u32 = u32::MAX;

impl EnvironmentEntry {
    /// The entry's kind; `None` if the number is unknown (a parsed environment holds none such).
    pub const fn kind(&self) -> Option<EntryKind> {
        EntryKind::from_number(self.kind as u64)
    }
}

/// A channel to another partition: shared memory, and a signal each way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Channel<'a> {
    /// Name.
    pub name: &'a str,
    /// Partition at the other end.
    pub peer: &'a str,
    /// Capability to signal the peer; 0 at the second end of a [`ChannelKind::OneWay`].
    pub slot: u64,
    /// Bit by which the peer signals this partition; [`NO_BIT`] at the first end of a [`ChannelKind::OneWay`].
    pub bit: u32,
    /// The shared memory.
    pub address: u64,
    /// Its bytes.
    pub size: u64,
    /// Which end this is.
    pub role: Role,
    /// What the memory holds.
    pub kind: ChannelKind,
    /// Number of the peer, by which init tells of its lives.
    pub peer_index: u32,
    /// The peer's first bit of those that the capability signals; [`NO_BIT`] where there is none.
    pub peer_bit: u32,
}

/// A slot of the cyclic major frame of a CPU on which the partition has threads: these run in its slots alone. A frame begins whenever
/// the TSC is a multiple of its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameSlot {
    /// The CPU.
    pub cpu: u32,
    /// Length of the frame in microseconds.
    pub frame_us: u64,
    /// Microseconds from the frame's beginning to the slot's.
    pub start_us: u64,
    /// To its end.
    pub end_us: u64,
}

/// Memory that the partition has for itself, or shares as the manifest says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory<'a> {
    /// Name.
    pub name: &'a str,
    /// Where it is mapped.
    pub address: u64,
    /// Bytes.
    pub size: u64,
    /// Host-physical address, 0 if the partition may not know it.
    pub physical: u64,
    /// Whether it is mapped writable.
    pub writable: bool,
    /// Capability, 0 for none.
    pub slot: u64,
}

/// The partition itself, for a program that maps, derives and revokes what it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnPartition {
    /// Capability (right `CONTROL`).
    pub slot: u64,
    /// Its first thread's window (rights `READ` and `GRANT`).
    pub window: u64,
}

/// A range of I/O ports of a device, allowed to the partition's threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoPorts<'a> {
    /// Device.
    pub name: &'a str,
    /// Capability.
    pub slot: u64,
    /// First port.
    pub first: u16,
    /// Number of ports.
    pub count: u32,
    /// Index of the range among the device's.
    pub index: u64,
}

/// An interrupt of a device, bound to the partition's notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupt<'a> {
    /// Device.
    pub name: &'a str,
    /// Capability, to acknowledge.
    pub slot: u64,
    /// Bit that it signals.
    pub bit: u32,
    /// Global system interrupt.
    pub line: u32,
    /// Flags as for `InterruptMethod::Bind`: bit 0 level-triggered, bit 1 active low.
    pub flags: u64,
    /// Of a message interrupt: the address that the device writes to (the entry's `physical`); else 0.
    pub message_address: u64,
    /// Of a message interrupt: what it writes (the entry's last parameter).
    pub message_data: u32,
    /// Index among the device's interrupts.
    pub index: u64,
}

/// A further thread of the partition, that its first thread sets up and starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thread {
    /// Capability (rights `CONTROL` and `RUN`).
    pub slot: u64,
    /// Its notification, bound to it (rights `WAIT` and `SIGNAL`).
    pub notification: u64,
    /// Index, from 1.
    pub index: u32,
    /// CPU that it runs on.
    pub cpu: u32,
    /// End of its stack.
    pub stack_top: u64,
    /// Bytes of its stack.
    pub stack_bytes: u64,
}

/// A file that the boot loader brought, mapped read-only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Module<'a> {
    /// Name: `kernel`, `initrd` or `firmware` in a vmm.
    pub name: &'a str,
    /// Where it is mapped.
    pub address: u64,
    /// Bytes.
    pub size: u64,
}

/// The page through which a partition tells init how it fares; its first word is a [`crate::StatusReport`] number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusPage<'a> {
    /// In init: the partition that reports. In a partition: `init`.
    pub peer: &'a str,
    /// Capability to signal init; 0 in init.
    pub slot: u64,
    /// Bit that the partition signals, in init.
    pub bit: Option<u32>,
    /// The page.
    pub address: u64,
    /// Its bytes.
    pub size: u64,
    /// In a partition: how often it has to show a sign of life, in microseconds; 0 for never.
    pub watchdog_us: u64,
}

/// An endpoint that the partition serves or calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint<'a> {
    /// Name.
    pub name: &'a str,
    /// The server, in a client; empty in the server.
    pub peer: &'a str,
    /// Capability.
    pub slot: u64,
    /// Which side this is.
    pub side: EndpointSide,
    /// In a client: the badge that the server sees, which is the client's number among the plan's partitions.
    pub badge: u64,
    /// In a client: the server's number.
    pub server: u32,
}
