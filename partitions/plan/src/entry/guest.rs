//! What belongs to a guest: its memory, processors, disks and network cards, in its monitor and in its services.

use super::{MsrRead, MsrWrite, numbered};
use bulkhead_abi::CpuFeatures;

numbered! {
    /// How a guest's memory is translated.
    pub enum Paging {
        /// Extended page tables where the processor has them, shadow page tables elsewhere.
        Auto = 0,
        /// Extended page tables.
        Ept = 1,
        /// Shadow page tables.
        Shadow = 2,
    }
}

impl Paging {
    /// Whether that means shadow page tables on a processor with these features.
    pub const fn is_shadow(self, features: CpuFeatures) -> bool {
        match self {
            Self::Auto => !features.contains(CpuFeatures::EPT),
            Self::Ept => false,
            Self::Shadow => true,
        }
    }
}

/// A range of a guest's RAM, mapped in the partition (and by init in the guest's space). In a block service also the memory of a disk whose
/// owner it shares nothing else with: then the disk's name stands for the guest's, and the owner has it as [`super::Memory`] of that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestMemory<'a> {
    /// Guest.
    pub guest: &'a str,
    /// Where it is mapped in the partition.
    pub address: u64,
    /// Bytes.
    pub size: u64,
    /// Host-physical address, 0 if the partition may not know it (the vmm may not).
    pub physical: u64,
    /// Guest-physical address of its first byte.
    pub guest_physical: u64,
    /// Capability, for a monitor that maps parts of it elsewhere in the guest's space; 0 for none.
    pub slot: u64,
}

/// The guest space of a vmm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestSpace {
    /// Capability, for doorbells.
    pub slot: u64,
    /// Translation.
    pub paging: Paging,
    /// RAM of the guest in bytes.
    pub memory: u64,
    /// Whether the guest has a high precision event timer.
    pub hpet: bool,
    /// Whether the vmm is to count exits, and to print the counts.
    pub statistics: bool,
    /// Features of the processor that the guest is not to have: bits as in `bulkhead_machine::policy::withheld`.
    pub withheld: u64,
}

impl GuestSpace {
    /// Bit of the entry's third parameter: the guest has a high precision event timer.
    pub const HPET: u64 = 1;
    /// The same: the vmm is to count exits.
    pub const STATISTICS: u64 = 2;
}

/// A guest processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vcpu {
    /// Capability.
    pub slot: u64,
    /// Where the vmm maps its state page and its virtual-APIC page (`VcpuMethod::MapState`).
    pub state: u64,
    /// Number in the guest, from 0; also its APIC id.
    pub index: u32,
    /// CPU that it runs on.
    pub cpu: u32,
    /// The vmm's thread that runs it: 0 the first, else the index of a [`super::Thread`].
    pub thread: u32,
}

/// A disk of a guest or a native partition: a range of a physical disk, served by a block service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk<'a> {
    /// Name of it and of its channel.
    pub name: &'a str,
    /// Whose it is, in the service; the service, in the vmm or the native partition.
    pub peer: &'a str,
    /// First sector (512 bytes) on the physical disk; 0 but in the service.
    pub first_sector: u64,
    /// Sectors.
    pub sectors: u64,
    /// Whether writes are refused.
    pub read_only: bool,
    /// What of the drive the guest is not to have: [`Disk::NO_DISCARD`]...
    pub withheld: u64,
    /// Number of the disk in its guest, from 0.
    pub index: u32,
}

impl Disk<'_> {
    /// Bit of the entry's third parameter: writes are refused.
    pub const READ_ONLY: u64 = 1;
    /// The same: no discards, whatever the drive has.
    pub const NO_DISCARD: u64 = 1 << 1;
    /// The same: no write-zeroes requests.
    pub const NO_WRITE_ZEROES: u64 = 1 << 2;
    /// The same: no flushes.
    pub const NO_FLUSH: u64 = 1 << 3;
    /// The same: one queue.
    pub const ONE_QUEUE: u64 = 1 << 4;
    /// A disk's control channel is a text channel. In the service it is called `GUEST/ctlN`, this being its middle part: guest and
    /// number are those of the disk.
    pub const CONTROL: &'static str = "ctl";
    /// The owner calls it, and a guest its port, `diskN` with this behind it; no other channel's name has a dot.
    pub const CONTROL_PORT: &'static str = ".control";
}

/// A guest's network card: a port of a switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkPort<'a> {
    /// Name of it and of its channel.
    pub name: &'a str,
    /// The guest, in the switch; the switch, in the vmm.
    pub peer: &'a str,
    /// Address of the card.
    pub mac: [u8; 6],
    /// Most bytes behind a frame's header.
    pub mtu: u16,
    /// Ports of the switch that it may send to: bit `n` for the `n`-th of these entries.
    pub peers: u16,
    /// Checksum offload.
    pub checksum: bool,
    /// TCP segmentation offload.
    pub segmentation: bool,
    /// Most bytes a second that it sends; 0 for no limit.
    pub rate: u64,
    /// The VLAN that it is in, 1 to 4094; 0 for none.
    pub vlan: u16,
    /// It is no guest's card but the switch's own, the device of the same name: the outside.
    pub uplink: bool,
    /// Number of the card in its guest, from 0.
    pub index: u32,
}

impl NetworkPort<'_> {
    /// Bit of the entry's second parameter: checksum offload.
    pub const CHECKSUM: u64 = 1 << 16;
    /// The same: TCP segmentation offload.
    pub const SEGMENTATION: u64 = 1 << 17;
    /// The same: the uplink, the last port of its switch.
    pub const UPLINK: u64 = 1 << 18;
    /// Where the VLAN begins in the same parameter.
    pub const VLAN: u32 = 32;
}

/// What accesses of a guest to one model-specific register do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsrRule {
    /// Number of the register.
    pub number: u32,
    /// RDMSR.
    pub read: MsrRead,
    /// For [`MsrRead::Constant`].
    pub value: u64,
    /// WRMSR.
    pub write: MsrWrite,
}
