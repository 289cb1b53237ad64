//! The machine's IOMMU: what there is of it, and what of it is used. The bus service programs it.

use crate::acpi;
use crate::allocator::Allocator;
use crate::construct::{Built, Construction};
use crate::devices::device_range;
use crate::failure::Cause;
use alloc::vec;
use bulkhead_iommu::dmar::{self, Description};
use bulkhead_iommu::{PAGE_BYTES, message_address};
use bulkhead_pci::exchange::Remapping;
use bulkhead_runtime::abi::{BootInfo, Error, MAP_UNCACHED, PAGE_SIZE, Rights, init_slot};
use bulkhead_runtime::object::{Bound, Capability, Interrupt, Memory, Notification, Table};
use bulkhead_runtime::plan::EnvironmentEntry;
use bulkhead_runtime::program::mask;
use bulkhead_runtime::syscall::Slot;

/// What the machine has.
#[derive(Clone, Debug)]
pub enum Units {
    /// None.
    None,
    /// Something that the table of the firmware does not describe so that it could be used.
    Unclear,
    /// These.
    Described(Description),
}

impl Units {
    /// What the ACPI table DMAR says.
    pub fn find(boot: &BootInfo, allocator: &mut Allocator) -> Result<Self, Cause> {
        if boot.dmar == 0 {
            return Ok(Self::None);
        }
        let mut header = [0; 8];
        acpi::read(boot, allocator, boot.dmar, &mut header)?;
        let mut table = vec![0; dmar::length(&header).unwrap_or_default()];
        acpi::read(boot, allocator, boot.dmar, &mut table)?;
        let Ok(description) = dmar::parse(&table) else {
            return Ok(Self::Unclear);
        };
        let reachable = |unit: &u64| device_range(boot, *unit, unit.saturating_add(PAGE_SIZE)).is_some();
        Ok(if description.units.iter().all(reachable) { Self::Described(description) } else { Self::Unclear })
    }

    /// The description, if there is one.
    pub const fn description(&self) -> Option<&Description> {
        match self {
            Self::Described(description) => Some(description),
            Self::None | Self::Unclear => None,
        }
    }

    /// Whether registers of a unit lie between two addresses.
    pub fn overlap(&self, start: u64, end: u64) -> bool {
        let units = self.description().into_iter().flat_map(|description| &description.units);
        units.copied().any(|unit| unit < end && start < unit.saturating_add(PAGE_SIZE))
    }

    /// What is used of what the bus service can do, or why no device is handed out.
    pub fn choose(&self, offered: Remapping, is_counted_on: bool) -> Result<Remapping, &'static str> {
        match self {
            Self::None if is_counted_on => Err("the manifest counts on an IOMMU, and the machine has none"),
            Self::None => Ok(Remapping::default()),
            Self::Described(description) if offered.memory => {
                Ok(Remapping { memory: true, interrupts: offered.interrupts && description.remaps_interrupts })
            }
            Self::Described(_) | Self::Unclear => Err("the machine's IOMMU cannot be used"),
        }
    }
}

/// Where and what a device writes to signal an interrupt.
pub fn message(bound: Bound, remapped: bool) -> (u32, u32) {
    // SDM vol. 3, 11.11.1: the APIC identifier stands in bits 12 to 19 of the address.
    let plain = (0xfee0_0000 | bound.apic_id << 12, u32::from(bound.vector));
    if remapped { (message_address(bound.vector), 0) } else { plain }
}

/// Gives the bus service unit `index`: its registers, and an interrupt for its faults, which signals `bit`. `None` if there is no such unit.
pub fn give(
    construction: &mut Construction<'_>,
    built: &Built,
    entry: &EnvironmentEntry,
    index: usize,
    bit: u32,
) -> Result<Option<EnvironmentEntry>, Cause> {
    let units = construction.units.description().map(|description| description.units.clone());
    let Some(unit) = units.and_then(|units| units.get(index).copied()) else {
        return Ok(None);
    };
    let range = device_range(construction.boot, unit, unit.saturating_add(PAGE_SIZE));
    let (number, base) = range.ok_or(Cause::NotFree(unit))?;
    let root = Memory(Slot(init_slot::FIRST_DEVICE_MEMORY + number));
    let rights = Rights::READ | Rights::WRITE;
    let registers = construction.allocator.child(root, rights, unit - base, PAGE_BYTES as u64)?;
    built.handle.map(registers, entry.address, rights, MAP_UNCACHED).map_err(Cause::Kernel)?;
    let number = construction.next_message()?;
    let cpu = built.plan.threads().first().map_or(0, |thread| u64::from(thread.cpu));
    let (slot, signal) = (construction.allocator.slot()?, construction.allocator.slot()?);
    let bind = || -> Result<Bound, Error> {
        let root = Interrupt(Slot(init_slot::INTERRUPTS));
        root.derive_range(slot, Rights::CONTROL | Rights::GRANT, number, 1)?;
        built.notification.derive(signal, Rights::SIGNAL | Rights::GRANT, mask(bit), Table::Own)?;
        let bound = Interrupt(slot).bind(Notification(signal), cpu, 0)?;
        Interrupt(slot).derive(Slot(entry.slot), Rights::CONTROL, 0, Table::Of(built.handle))?;
        Ok(bound)
    };
    // What a unit signals is not remapped itself.
    let (address, data) = message(bind().map_err(Cause::Kernel)?, false);
    let mut entry = *entry;
    let [_, _, index, _] = entry.parameters;
    entry.parameters = [number, 0, index, u64::from(data)];
    entry.physical = u64::from(address);
    Ok(Some(entry))
}
