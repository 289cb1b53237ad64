//! A device on the PCI bus that the partition owns: its registers and its message interrupts.

use crate::ports::PortRange;
use crate::program::DeviceInterrupt;
use bulkhead_driver::Registers;
use bulkhead_plan::{self as plan, Environment};
use core::ptr;

/// Bytes of an entry of an MSI-X table: address, data, control (PCI Local Bus Specification 3.0, 6.8.2).
const ENTRY: u32 = 16;
/// Control bit of an entry: no message.
const MASKED: u32 = 1;

/// A device, as the bus service found it and init checked it.
#[derive(Clone, Copy, Debug)]
pub struct Device {
    environment: Environment<'static>,
    /// What it is, and where.
    pub function: plan::PciFunction<'static>,
}

/// Why a message interrupt cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MessageError {
    /// The device or its owner does not have so many.
    NotThere,
    /// The entry of the MSI-X table lies outside what is mapped.
    TableOutside,
}

/// Registers in memory. Accesses are volatile, of exactly the width asked for, and checked against the mapped part of the BAR.
#[derive(Clone, Copy, Debug)]
pub struct DeviceRegisters {
    base: usize,
    length: u32,
}

/// Registers of a BAR, in memory or on ports.
#[derive(Clone, Copy, Debug)]
pub enum BarRegisters {
    /// In memory.
    Memory(DeviceRegisters),
    /// On ports.
    Ports(PortRange),
}

impl Device {
    /// The device of this name; `None` if the program owns none.
    pub(crate) fn new(environment: Environment<'static>, name: &str) -> Option<Self> {
        Some(Self { environment, function: environment.pci_function(name)? })
    }

    /// The registers in a BAR in memory; `None` if the BAR is not there or is on ports.
    pub fn registers(&self, bar: u8) -> Option<DeviceRegisters> {
        let name = self.function.name;
        let entry = self.environment.device_memories().find(|entry| entry.name == name && entry.bar == bar)?;
        // A checked entry has at most 2 MiB, in whole pages.
        Some(DeviceRegisters { base: usize::try_from(entry.address).ok()?, length: u32::try_from(entry.size).ok()? })
    }

    /// The ports of a BAR on ports.
    pub fn ports(&self, bar: u8) -> Option<PortRange> {
        let entry = self.environment.ports_of(self.function.name, u64::from(bar))?;
        Some(PortRange::new(entry.first, entry.count))
    }

    /// The registers in a BAR, wherever they are.
    pub fn bar(&self, bar: u8) -> Option<BarRegisters> {
        self.registers(bar).map(BarRegisters::Memory).or_else(|| self.ports(bar).map(BarRegisters::Ports))
    }

    /// Where its structures are, if it is a virtio device.
    pub fn virtio_structures(&self) -> Option<plan::VirtioStructures<'static>> {
        self.environment.virtio_structures(self.function.name)
    }

    /// Its interrupts, in the order of their index: messages, or the line of a device that has none (its flags say that it is
    /// level-triggered, and its message address is 0).
    pub fn interrupts(&self) -> impl Iterator<Item = DeviceInterrupt> + use<> {
        let name = self.function.name;
        self.environment.interrupts().filter(move |entry| entry.name == name).map(DeviceInterrupt::new)
    }

    /// Has the device signal interrupt `index` by its message of that number. Of a device with one message (MSI) the bus service has
    /// written it already, and a line needs nothing; a table (MSI-X) is the device's own memory.
    pub fn enable_message(&self, index: u16) -> Result<DeviceInterrupt, MessageError> {
        let interrupt = self.interrupts().find(|interrupt| interrupt.entry.index == u64::from(index));
        let interrupt = interrupt.ok_or(MessageError::NotThere)?;
        let Some(table) = self.function.msix else {
            return Ok(interrupt);
        };
        if index >= table.entries {
            return Err(MessageError::NotThere);
        }
        let registers = self.registers(table.bar).ok_or(MessageError::TableOutside)?;
        let place = table.offset.checked_add(u32::from(index) * ENTRY).ok_or(MessageError::TableOutside)?;
        if place.checked_add(ENTRY).is_none_or(|end| end > registers.length) {
            return Err(MessageError::TableOutside);
        }
        registers.write_u32(place + 12, MASKED);
        registers.write_u32(place, interrupt.entry.message_address as u32);
        registers.write_u32(place + 4, (interrupt.entry.message_address >> 32) as u32);
        registers.write_u32(place + 8, interrupt.entry.message_data);
        registers.write_u32(place + 12, 0);
        Ok(interrupt)
    }
}

impl DeviceRegisters {
    /// Configuration space, in the bus service.
    pub(crate) fn of_configuration(entry: plan::ConfigurationSpace) -> Option<Self> {
        Some(Self { base: usize::try_from(entry.address).ok()?, length: u32::try_from(entry.size).ok()? })
    }

    /// A DMA remapping unit, in the bus service.
    pub(crate) fn of_remapping_unit(entry: &plan::RemappingUnit<'_>) -> Option<Self> {
        Some(Self { base: usize::try_from(entry.address).ok()?, length: u32::try_from(entry.size).ok()? })
    }

    /// Bytes that can be reached: the BAR's, at most 2 MiB, and at least a page.
    pub const fn len(&self) -> u32 {
        self.length
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Where `bytes` at an offset are, if they lie in the BAR and are aligned.
    fn place<T>(&self, offset: u32) -> Option<*mut T> {
        let bytes = size_of::<T>() as u32;
        let fits = offset.checked_add(bytes).is_some_and(|end| end <= self.length) && offset.is_multiple_of(bytes);
        fits.then(|| (self.base + offset as usize) as *mut T)
    }
}

macro_rules! widths {
    ($($read:ident, $write:ident: $type:ty;)*) => { $(
        fn $read(&self, offset: u32) -> $type {
            match self.place::<$type>(offset) {
                // SAFETY: init mapped the device's memory there for as long as the program runs; it holds no Rust object, and
                // `place` checked range and alignment.
                Some(place) => unsafe { ptr::read_volatile(place) },
                None => <$type>::MAX,
            }
        }

        fn $write(&self, offset: u32, value: $type) {
            if let Some(place) = self.place::<$type>(offset) {
                // SAFETY: as for reading; what the device does is confined by what it was given for DMA, which is its owner's
                // to program.
                unsafe { ptr::write_volatile(place, value) }
            }
        }
    )* };
}

impl Registers for DeviceRegisters {
    widths! {
        read_u8, write_u8: u8;
        read_u16, write_u16: u16;
        read_u32, write_u32: u32;
    }
}

macro_rules! port_widths {
    ($($read:ident, $write:ident: $type:ty;)*) => { $(
        fn $read(&self, offset: u32) -> $type {
            match self {
                Self::Memory(memory) => memory.$read(offset),
                Self::Ports(ports) => {
                    u16::try_from(offset).ok().and_then(|offset| ports.$read(offset).ok()).unwrap_or(<$type>::MAX)
                }
            }
        }

        fn $write(&self, offset: u32, value: $type) {
            match self {
                Self::Memory(memory) => memory.$write(offset, value),
                Self::Ports(ports) => {
                    // What lies outside is lost, as on the bus.
                    let _ = u16::try_from(offset).map(|offset| ports.$write(offset, value));
                }
            }
        }
    )* };
}

impl Registers for BarRegisters {
    port_widths! {
        read_u8, write_u8: u8;
        read_u16, write_u16: u16;
        read_u32, write_u32: u32;
    }
}
