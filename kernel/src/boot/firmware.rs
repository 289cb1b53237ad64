//! What ACPI says: processors and interrupt controllers (ACPI 6.5, 5.2.12).

use crate::arch::cpu::MAX_CPUS;
use crate::arch::ioapic::MAX_CONTROLLERS;
use crate::memory::layout::DIRECT_MAP;
use acpi::madt::{Madt, MadtEntry};
use acpi::mcfg::Mcfg;
use acpi::sdt::{SdtHeader, Signature};
use acpi::{AcpiHandler, AcpiTable, AcpiTables, PhysicalMapping};
use core::ptr::NonNull;
use heapless::Vec;

/// The machine as its firmware describes it.
pub struct Machine {
    /// Local APIC identifiers of usable processors.
    pub processors: Vec<u32, MAX_CPUS>,
    /// I/O APICs: physical address and first global system interrupt.
    pub controllers: Vec<(u64, u32), MAX_CONTROLLERS>,
    /// Physical addresses of MCFG, DMAR and SRAT, for init; 0 for a table that is not there.
    pub tables: [u64; 3],
}

/// Maps tables by the direct map.
#[derive(Clone)]
struct DirectMap;

impl AcpiHandler for DirectMap {
    unsafe fn map_physical_region<T>(&self, physical_address: usize, size: usize) -> PhysicalMapping<Self, T> {
        let pointer = (DIRECT_MAP as usize + physical_address) as *mut T;
        // SAFETY: while the kernel starts, the direct map covers the first 4 GiB, where firmware puts its tables; the address is
        // in the upper half and so never null.
        unsafe { PhysicalMapping::new(physical_address, NonNull::new_unchecked(pointer), size, size, Self) }
    }
    fn unmap_physical_region<T>(_: &PhysicalMapping<Self, T>) {}
}

/// The table of DMA remapping, by its header alone (Intel VT-d specification 3.3, 8.1).
#[repr(transparent)]
struct Dmar(SdtHeader);

// SAFETY: every table begins with a header, and nothing else is read.
unsafe impl AcpiTable for Dmar {
    const SIGNATURE: Signature = Signature::DMAR;
    fn header(&self) -> &SdtHeader {
        &self.0
    }
}

/// The table of affinities, likewise (ACPI 6.5, 5.2.16).
#[repr(transparent)]
struct Srat(SdtHeader);

// SAFETY: as for `Dmar`.
unsafe impl AcpiTable for Srat {
    const SIGNATURE: Signature = Signature::SRAT;
    fn header(&self) -> &SdtHeader {
        &self.0
    }
}

fn address_of<T: AcpiTable>(tables: &AcpiTables<DirectMap>) -> u64 {
    tables.find_table::<T>().map_or(0, |table| table.physical_start() as u64)
}

const ENABLED: u32 = 1;

/// Reads the tables under the root that the boot loader passed: revision and physical address of RSDT or XSDT.
pub fn read(root: (u8, u64)) -> Result<Machine, &'static str> {
    // SAFETY: the loader found the root pointer and its checksum was right.
    let tables = unsafe { AcpiTables::from_rsdt(DirectMap, root.0, root.1 as usize) };
    let tables = tables.map_err(|_| "the ACPI root table is malformed")?;
    let madt = tables.find_table::<Madt>().map_err(|_| "ACPI has no MADT")?;
    let addresses = [address_of::<Mcfg>(&tables), address_of::<Dmar>(&tables), address_of::<Srat>(&tables)];
    let mut machine = Machine { processors: Vec::new(), controllers: Vec::new(), tables: addresses };
    for entry in madt.get().entries() {
        let processor = match entry {
            MadtEntry::LocalApic(local) if local.flags & ENABLED != 0 => u32::from(local.apic_id),
            MadtEntry::LocalX2Apic(local) if local.flags & ENABLED != 0 => local.x2apic_id,
            MadtEntry::IoApic(io) => {
                // More controllers than the kernel serves stay unused.
                let place = (u64::from(io.io_apic_address), io.global_system_interrupt_base);
                let _ = machine.controllers.push(place);
                continue;
            }
            _ => continue,
        };
        if !machine.processors.contains(&processor) {
            // More processors than the kernel runs on stay parked by the firmware.
            let _ = machine.processors.push(processor);
        }
    }
    Ok(machine)
}
