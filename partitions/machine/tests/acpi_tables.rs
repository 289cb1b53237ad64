//! The ACPI tables, as an implementation that was not written with them reads them.

use acpi::fadt::Fadt;
use acpi::hpet::HpetInfo;
use acpi::madt::{Madt, MadtEntry};
use acpi::mcfg::Mcfg;
use acpi::{AcpiHandler, AcpiTables, PhysicalMapping};
use bulkhead_machine::acpi::{AcpiImage, AcpiParameters};
use std::ptr::NonNull;
use std::sync::Arc;

/// The image, in memory that is aligned as in a guest.
#[derive(Clone)]
struct Memory {
    start: usize,
    words: Arc<Vec<u64>>,
}

impl Memory {
    fn new(image: &AcpiImage) -> Self {
        let words = image.bytes.chunks(8).map(|chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            u64::from_le_bytes(word)
        });
        Self { start: image.address as usize, words: Arc::new(words.collect()) }
    }
}

impl AcpiHandler for Memory {
    unsafe fn map_physical_region<T>(&self, physical_address: usize, size: usize) -> PhysicalMapping<Self, T> {
        let offset = physical_address.checked_sub(self.start).expect("an address of the image");
        assert!(offset + size <= self.words.len() * 8, "{physical_address:#x} + {size:#x} is beyond the image");
        // SAFETY: the range was just checked against the allocation, which the handler in the mapping keeps alive.
        let pointer = unsafe { self.words.as_ptr().cast::<u8>().add(offset) };
        let virtual_start = NonNull::new(pointer.cast_mut().cast()).expect("a pointer into an allocation");
        // SAFETY: `virtual_start` points to `size` bytes that are mapped for as long as the handler lives.
        unsafe { PhysicalMapping::new(physical_address, virtual_start, size, size, self.clone()) }
    }

    fn unmap_physical_region<T>(_: &PhysicalMapping<Self, T>) {}
}

fn tables(processors: u32) -> (Memory, AcpiTables<Memory>) {
    let image = AcpiImage::new(&AcpiParameters { processors, pci_functions: 3, hpet: true });
    let memory = Memory::new(&image);
    // SAFETY: the root pointer is at the start of the image.
    let tables = unsafe { AcpiTables::from_rsdp(memory.clone(), image.address as usize) };
    (memory, tables.expect("valid tables"))
}

#[test]
fn fixed_description() {
    let (_, tables) = tables(1);
    let fadt = tables.find_table::<Fadt>().expect("FADT");
    fadt.validate().expect("checksum");
    let (flags, architecture) = (fadt.flags, fadt.iapc_boot_arch);
    assert!(!flags.system_is_hw_reduced_acpi());
    assert!(flags.pm_timer_is_32_bit());
    assert!(flags.supports_system_reset_via_fadt());
    assert!(!flags.power_button_is_control_method());
    assert!(architecture.legacy_devices_are_accessible());
    assert!(!architecture.motherboard_implements_8042());
    assert!(architecture.dont_probe_vga());
    assert_eq!(fadt.pm1a_event_block().expect("event block").address, 0x600);
    assert_eq!(fadt.pm1a_control_block().expect("control block").address, 0x604);
    assert_eq!(fadt.pm_timer_block().expect("valid").expect("timer").address, 0x608);
    assert_eq!(fadt.reset_register().expect("reset register").address, 0xcf9);
}

#[test]
fn interrupt_controllers() {
    let (_, tables) = tables(4);
    let madt = tables.find_table::<Madt>().expect("MADT");
    let madt = madt.get();
    assert!(madt.supports_8259());
    let mut processors = Vec::new();
    let mut overrides = Vec::new();
    let (mut io_apics, mut nmi_lines) = (Vec::new(), Vec::new());
    for entry in madt.entries() {
        match entry {
            MadtEntry::LocalApic(apic) => processors.push((apic.apic_id, apic.flags)),
            MadtEntry::IoApic(apic) => io_apics.push((apic.io_apic_address, apic.global_system_interrupt_base)),
            MadtEntry::InterruptSourceOverride(entry) => overrides.push((entry.irq, entry.global_system_interrupt)),
            MadtEntry::LocalApicNmi(entry) => nmi_lines.push(entry.nmi_line),
            _ => panic!("an entry of another kind"),
        }
    }
    assert_eq!(processors, [(0, 1), (1, 1), (2, 1), (3, 1)]);
    assert_eq!(io_apics, [(0xfec0_0000, 0)]);
    assert_eq!(overrides, [(0, 2), (9, 9)]);
    assert_eq!(nmi_lines, [1]);
}

#[test]
fn event_timer() {
    let (_, tables) = tables(1);
    let hpet = HpetInfo::new(&tables).expect("HPET");
    assert_eq!(hpet.base_address, 0xfed0_0000);
    assert_eq!((hpet.hardware_rev(), hpet.num_comparators()), (1, 3));
    assert!(hpet.main_counter_is_64bits() && hpet.legacy_irq_capable());
    assert_eq!(hpet.pci_vendor_id(), 0x8086);
}

#[test]
fn configuration_space() {
    let (_, tables) = tables(1);
    let mcfg = tables.find_table::<Mcfg>().expect("MCFG");
    let entries: Vec<_> = mcfg.entries().iter().map(|e| (e.base_address, e.pci_segment_group)).collect();
    assert_eq!(entries, [(0xfef0_0000, 0)]);
    assert!(mcfg.entries().iter().all(|entry| (entry.bus_number_start, entry.bus_number_end) == (0, 0)));
}

#[test]
fn definition_block_is_found() {
    let (memory, tables) = tables(1);
    let dsdt = tables.dsdt().expect("DSDT");
    let end = dsdt.address + dsdt.length as usize;
    assert!(dsdt.address > memory.start && end <= memory.start + memory.words.len() * 8);
}
