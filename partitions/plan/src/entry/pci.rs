//! What belongs to a device on the PCI bus, in its owner and in the bus service.

use super::Interrupt;

/// A function on the PCI bus that the partition owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PciFunction<'a> {
    /// Device.
    pub name: &'a str,
    /// Bus << 8 | device << 3 | function.
    pub address: u16,
    /// Vendor.
    pub vendor: u16,
    /// Device, as its vendor numbers it.
    pub device: u16,
    /// Class << 16 | subclass << 8 | programming interface.
    pub class: u32,
    /// The MSI-X table, if its messages are of that kind.
    pub msix: Option<MsixTable>,
}

/// Where a device has its MSI-X table (PCI Local Bus Specification 3.0, 6.8.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsixTable {
    /// Index of the BAR.
    pub bar: u8,
    /// Byte offset in it, a multiple of 8.
    pub offset: u32,
    /// Entries, of 16 bytes each.
    pub entries: u16,
}

/// PCI configuration space in memory, mapped uncached (PCI Express Base Specification 3.0, 7.2.2): in the bus service, where the
/// machine has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfigurationSpace {
    /// Where it is mapped.
    pub address: u64,
    /// Bytes: 1 MiB for each bus.
    pub size: u64,
    /// Number of the bus that it begins with.
    pub first_bus: u8,
}

/// The registers of a DMA remapping unit, mapped uncached, and its fault interrupt: in the bus service, where the machine has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemappingUnit<'a> {
    /// Where the registers are mapped.
    pub address: u64,
    /// Bytes of them.
    pub size: u64,
    /// The message interrupt that says that there are faults.
    pub interrupt: Interrupt<'a>,
}

/// Where a virtio device has its structures, all in one BAR (virtio 1.2, 4.1.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VirtioStructures<'a> {
    /// Device.
    pub name: &'a str,
    /// Index of the BAR.
    pub bar: u8,
    /// Bytes between the places of two queues' notifications.
    pub notify_multiplier: u32,
    /// Offset and length of the common structure.
    pub common: (u32, u32),
    /// Of the notifications.
    pub notify: (u32, u32),
    /// Of the device-specific configuration.
    pub device: (u32, u32),
}

/// The beginning of a device's memory BAR, mapped uncached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceMemory<'a> {
    /// Device.
    pub name: &'a str,
    /// Index of the BAR, 0 to 5.
    pub bar: u8,
    /// Where it is mapped.
    pub address: u64,
    /// Bytes that are mapped, in whole pages, at most [`crate::layout::DEVICE_WINDOW`].
    pub size: u64,
    /// Bytes of the BAR.
    pub bar_size: u64,
}
