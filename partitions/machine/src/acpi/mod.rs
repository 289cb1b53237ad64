//! The ACPI tables that describe the virtual PC to its guest.
//!
//! One image, laid down at the start of [`ACPI_TABLES`], where software that scans for the root
//! pointer finds it: RSDP, XSDT, RSDT, FACS, FADT, MADT, MCFG, DSDT, and HPET where there is one.

pub mod aml;
mod dsdt;
mod fadt;
mod hpet;
mod madt;
mod mcfg;
mod table;

use crate::layout::ACPI_TABLES;
use alloc::vec::Vec;
use table::{Table, checksum};

/// What the tables tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AcpiParameters {
    /// Processors, with local APIC identifiers from 0.
    pub processors: u32,
    /// PCI functions, as devices 1, 2, ... of bus 0.
    pub pci_functions: usize,
    /// Whether there is a high precision event timer.
    pub hpet: bool,
}

/// The tables as they lie in guest-physical memory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AcpiImage {
    /// Guest-physical address of the first byte, which is the root pointer's.
    pub address: u64,
    /// The bytes from there on.
    pub bytes: Vec<u8>,
}

/// Length of the root pointer of revision 2.
const ROOT_POINTER: usize = 36;
/// Length of the firmware control structure.
const FIRMWARE_CONTROL: usize = 64;

impl AcpiImage {
    /// Builds the tables.
    pub fn new(parameters: &AcpiParameters) -> Self {
        let mut image = Self { address: ACPI_TABLES.start, bytes: Vec::new() };
        image.bytes.resize(ROOT_POINTER, 0);
        let facs = image.append(&firmware_control());
        let dsdt = image.append(&dsdt::build(parameters));
        let mut tables = Vec::from([fadt::build(facs, dsdt), madt::build(parameters), mcfg::build()]);
        if parameters.hpet {
            tables.push(hpet::build());
        }
        let mut rsdt = Table::new(b"RSDT", 1);
        let mut xsdt = Table::new(b"XSDT", 1);
        for table in tables {
            let table = image.append(&table);
            rsdt.dword(table);
            xsdt.qword(u64::from(table));
        }
        let rsdt = image.append(&rsdt.finish());
        let xsdt = image.append(&xsdt.finish());
        let root = root_pointer(rsdt, xsdt);
        for (place, byte) in image.bytes.iter_mut().zip(root) {
            *place = byte;
        }
        image
    }

    /// Appends a table at the next multiple of 64 bytes: its guest-physical address.
    fn append(&mut self, table: &[u8]) -> u32 {
        let start = self.bytes.len().next_multiple_of(64);
        self.bytes.resize(start, 0);
        self.bytes.extend_from_slice(table);
        // The area ends below 1 MiB.
        self.address as u32 + start as u32
    }
}

/// FACS (ACPI 6.5, 5.2.10): nothing but the global lock, which nobody shares.
fn firmware_control() -> [u8; FIRMWARE_CONTROL] {
    let mut facs = [0; FIRMWARE_CONTROL];
    let (head, _) = facs.split_at_mut(8);
    head.copy_from_slice(&[b'F', b'A', b'C', b'S', FIRMWARE_CONTROL as u8, 0, 0, 0]);
    // Version 2.
    facs[32] = 2;
    facs
}

/// RSDP (ACPI 6.5, 5.2.5.3).
fn root_pointer(rsdt: u32, xsdt: u32) -> Vec<u8> {
    let mut root = Vec::with_capacity(ROOT_POINTER);
    root.extend_from_slice(b"RSD PTR ");
    root.push(0);
    root.extend_from_slice(table::OEM);
    root.push(2);
    root.extend_from_slice(&rsdt.to_le_bytes());
    let short = checksum(&root);
    if let Some(place) = root.get_mut(8) {
        *place = short;
    }
    root.extend_from_slice(&(ROOT_POINTER as u32).to_le_bytes());
    root.extend_from_slice(&u64::from(xsdt).to_le_bytes());
    let long = checksum(&root);
    root.extend_from_slice(&[long, 0, 0, 0]);
    root
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fits_below_one_mebibyte_and_sums_to_zero() {
        for (processors, pci_functions) in [(1, 0), (64, 31)] {
            let image = AcpiImage::new(&AcpiParameters { processors, pci_functions, hpet: true });
            assert!(image.address + image.bytes.len() as u64 <= ACPI_TABLES.end);
            let sum = |bytes: &[u8]| bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
            assert_eq!(sum(&image.bytes[..20]), 0);
            assert_eq!(sum(&image.bytes[..36]), 0);
            for signature in [b"RSDT", b"XSDT", b"FACP", b"APIC", b"MCFG", b"HPET", b"DSDT"] {
                let start = image.bytes.windows(4).position(|window| window == signature).unwrap();
                let length = u32::from_le_bytes(image.bytes[start + 4..start + 8].try_into().unwrap()) as usize;
                assert_eq!(sum(&image.bytes[start..start + length]), 0, "{signature:?}");
            }
        }
    }
}
