//! The interrupt controllers (ACPI 6.5, 5.2.12).

use super::AcpiParameters;
use super::table::Table;
use crate::devices::interrupts::{TIMER_INPUT, TIMER_REQUEST};
use crate::devices::{ioapic, lapic, power};
use alloc::vec::Vec;

/// Interrupt source override: as on its bus (ISA: edge, active high).
const CONFORMS: u16 = 0;
/// Interrupt source override: level, active high.
const LEVEL_HIGH: u16 = 0x0d;

pub(super) fn build(parameters: &AcpiParameters) -> Vec<u8> {
    let mut table = Table::new(b"APIC", 5);
    // The 8259A pair is there, too.
    table.dword(lapic::DEFAULT_BASE as u32).dword(1);
    for identifier in 0..parameters.processors.clamp(1, 64) as u8 {
        // Processor local APIC: enabled.
        table.byte(0).byte(8).byte(identifier).byte(identifier).dword(1);
    }
    // I/O APIC 0 with inputs from 0.
    table.byte(1).byte(12).byte(0).byte(0).dword(ioapic::BASE as u32).dword(0);
    let overrides = [(TIMER_REQUEST, TIMER_INPUT, CONFORMS), (power::SCI, power::SCI, LEVEL_HIGH)];
    for (request, input, flags) in overrides {
        table.byte(2).byte(10).byte(0).byte(request).dword(u32::from(input)).word(flags);
    }
    // NMI at LINT1 of every processor.
    table.byte(4).byte(6).byte(0xff).word(0).byte(1);
    table.finish()
}
