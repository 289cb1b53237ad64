//! The pages that init and the bus service share before the seal.
//!
//! Init writes what the plan wants ([`Wanted`]) and the step [`Step::Wanted`]; the service looks at the bus, writes what it found
//! ([`Found`]), what the machine's IOMMU can do ([`Remapping`]) and [`Step::Found`]; init checks that, writes messages ([`Grant`]), what
//! memory each device may reach ([`DmaRange`]), which interrupts may come ([`AllowedInterrupt`]), what of the IOMMU is to be used, and
//! [`Step::Granted`]; the service makes the devices ready and writes [`Step::Ready`]. Each side copies a record out before it
//! looks at it.

use crate::bar::Bar;
use bulkhead_plan::layout::{BARS, MAX_DEVICES};
use bulkhead_plan::{DeviceSelector, MsixTable};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Name of the memory in both environments.
pub const NAME: &str = "functions";
/// Name of the bus service's memory for the IOMMU's tables.
pub const TABLES: &str = "tables";
/// Bytes of the memory that is shared.
pub const BYTES: u64 = 0x4000;
/// Offset of the step, 32 bits.
pub const STEP: usize = 0;
/// Offset of the number of devices, 32 bits.
pub const COUNT: usize = 4;
/// Offset of the number of ranges for DMA, 32 bits.
pub const RANGE_COUNT: usize = 8;
/// Offset of what the IOMMU can do, and then of what it is to do: [`Remapping`], 32 bits.
pub const REMAPPING: usize = 12;
/// Offset of the number of interrupts that may come, 32 bits.
pub const INTERRUPT_COUNT: usize = 16;
/// Most interrupts that may come.
pub const MAX_INTERRUPTS: usize = 96;
/// Most ranges for DMA, of all devices.
pub const MAX_RANGES: usize = 256;
const RECORDS: usize = 64;
const STRIDE: usize = 512;
const RANGES: usize = 0x2100;
const _: () = assert!(RECORDS + STRIDE * MAX_DEVICES <= RANGES);
const INTERRUPTS: usize = RANGES + size_of::<DmaRange>() * MAX_RANGES;
const _: () = assert!(INTERRUPTS + size_of::<AllowedInterrupt>() * MAX_INTERRUPTS <= BYTES as usize);
const _: () = assert!(FOUND + size_of::<Found>() <= GRANT && GRANT + size_of::<Grant>() <= STRIDE);
const FOUND: usize = 32;
const GRANT: usize = 448;

/// Who has done what. The numbers are those in the memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Step {
    /// Init has written what is wanted.
    Wanted = 1,
    /// The service has written what it found.
    Found = 2,
    /// Init has written what is handed out.
    Granted = 3,
    /// The service has made the devices ready.
    Ready = 4,
}

/// A device that the plan wants; fields as in `bulkhead_plan::DeviceRecord`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Wanted {
    /// `DeviceSelector`.
    pub selector: u32,
    /// Message interrupts.
    pub vectors: u32,
    /// What to look for.
    pub values: [u32; 2],
}

impl Wanted {
    /// Selector and values.
    pub fn description(&self) -> Option<(DeviceSelector, [u32; 2])> {
        Some((DeviceSelector::from_number(u64::from(self.selector))?, self.values))
    }
}

/// A BAR: kind 0 for none, 1 in memory, 2 on ports.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BarRecord {
    kind: u64,
    first: u64,
    size: u64,
}

impl From<Option<Bar>> for BarRecord {
    fn from(bar: Option<Bar>) -> Self {
        match bar {
            None => Self::default(),
            Some(Bar::Memory { address, size }) => Self { kind: 1, first: address, size },
            Some(Bar::Ports { first, count }) => Self { kind: 2, first: u64::from(first), size: u64::from(count) },
        }
    }
}

impl BarRecord {
    /// The BAR; nothing if it is none, or cannot be.
    pub fn bar(&self) -> Option<Bar> {
        let end = self.first.checked_add(self.size)?;
        match self.kind {
            1 => Some(Bar::Memory { address: self.first, size: self.size }),
            2 if end <= 0x1_0000 => {
                Some(Bar::Ports { first: u16::try_from(self.first).ok()?, count: u32::try_from(self.size).ok()? })
            }
            _ => None,
        }
    }
}

/// Where a virtio device has its structures: a bus service that looks for them fills it in.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VirtioRecord {
    /// 1 if it has them, all in one BAR.
    pub present: u32,
    /// The BAR.
    pub bar: u32,
    /// Bytes between the places of two queues' notifications.
    pub notify_multiplier: u32,
    /// Not used, 0.
    pub reserved: u32,
    /// Offset and length of the common structure, the notifications and the device-specific configuration.
    pub places: [[u32; 2]; 3],
}

/// What was found of a device.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Found {
    /// 1 if the device was found; the rest is 0 else.
    pub present: u32,
    /// Bus << 8 | device << 3 | function.
    pub address: u32,
    /// Vendor | device << 16.
    pub identifier: u32,
    /// Class << 16 | subclass << 8 | programming interface.
    pub class: u32,
    /// Messages that it has.
    pub messages: u32,
    /// Entries of its MSI-X table; 0 if it has none.
    pub table_entries: u32,
    /// BAR of the table.
    pub table_bar: u32,
    /// Offset of the table in the BAR.
    pub table_offset: u32,
    /// Interrupt line, 1 to 15, of a device without messages; 0 for none.
    pub line: u32,
    /// Not used, 0.
    pub reserved: u32,
    /// BARs.
    pub bars: [BarRecord; BARS],
    /// Structures of virtio.
    pub virtio: VirtioRecord,
}

impl Found {
    /// The MSI-X table, if there is one that can be.
    pub fn table(&self) -> Option<MsixTable> {
        let bar = u8::try_from(self.table_bar).ok().filter(|bar| usize::from(*bar) < BARS)?;
        let entries = u16::try_from(self.table_entries).ok().filter(|entries| (1..=2048).contains(entries))?;
        self.table_offset.is_multiple_of(8).then_some(MsixTable { bar, offset: self.table_offset, entries })
    }
}

/// What init hands out of a device.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Grant {
    /// 1 if the device is handed out; else it stays silent.
    pub granted: u32,
    /// Messages.
    pub messages: u32,
    /// Address of the first message.
    pub address: u32,
    /// Data of the first message.
    pub data: u32,
    /// 1 if the device may use its interrupt pin.
    pub pin: u32,
}

/// Memory that a device may reach: its owner has it, and knows its physical address. Init writes these with the grants.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DmaRange {
    /// Index of the device.
    pub device: u32,
    /// 1 if its owner may write to the memory.
    pub writable: u32,
    /// Physical address, of a page.
    pub address: u64,
    /// Bytes, in whole pages.
    pub length: u64,
}

/// What an IOMMU does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Remapping {
    /// A device reaches only the memory that it was told.
    pub memory: bool,
    /// A device signals only the interrupts that it was given.
    pub interrupts: bool,
}

impl From<Remapping> for u32 {
    fn from(remapping: Remapping) -> Self {
        Self::from(remapping.memory) | Self::from(remapping.interrupts) << 1
    }
}

impl From<u32> for Remapping {
    fn from(bits: u32) -> Self {
        Self { memory: bits & 1 != 0, interrupts: bits & 2 != 0 }
    }
}

/// An interrupt that may come, where interrupts are remapped.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct AllowedInterrupt {
    /// Vector.
    pub vector: u32,
    /// The processor's APIC identifier.
    pub apic_id: u32,
    /// Who may signal it: bus << 8 | device << 3 | function.
    pub requester: u32,
    /// 1 if it is level-triggered.
    pub level: u32,
}

/// Offset of an [`AllowedInterrupt`].
pub const fn interrupt(index: usize) -> usize {
    INTERRUPTS + size_of::<AllowedInterrupt>() * index
}

/// Offset of a [`DmaRange`].
pub const fn range(index: usize) -> usize {
    RANGES + size_of::<DmaRange>() * index
}

const fn record(device: usize, offset: usize) -> usize {
    RECORDS + STRIDE * device + offset
}

/// Offset of a device's [`Wanted`].
pub const fn wanted(device: usize) -> usize {
    record(device, 0)
}

/// Offset of a device's [`Found`].
pub const fn found(device: usize) -> usize {
    record(device, FOUND)
}

/// Offset of a device's [`Grant`].
pub const fn grant(device: usize) -> usize {
    record(device, GRANT)
}
