//! Which interrupts a device may signal: the interrupt-remapping table (sections 5.1, 9.10).

use crate::PAGE_BYTES;
use bulkhead_driver::DmaMemory;

/// Entries of the table: one for each vector of a processor. An interrupt has the entry of its vector.
pub const INTERRUPTS: usize = PAGE_BYTES / ENTRY;
const ENTRY: usize = 16;
const PRESENT: u64 = 1;
const LEVEL: u64 = 1 << 4;
/// The requester is compared whole (9.10, SVT 01, SQ 00).
const VERIFY_REQUESTER: u64 = 1 << 18;

/// An interrupt that may be signalled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Allowed {
    /// Vector, and number of the entry.
    pub vector: u8,
    /// The processor's APIC identifier.
    pub apic_id: u32,
    /// Who may: bus << 8 | device << 3 | function.
    pub requester: u16,
    /// It is level-triggered.
    pub level: bool,
}

/// The table.
#[derive(Debug)]
pub struct InterruptTable<'a> {
    memory: DmaMemory<'a>,
    x2apic: bool,
}

impl<'a> InterruptTable<'a> {
    /// A table by which nobody may signal anything; `None` if there is no memory for it. `x2apic`: the processors' mode.
    pub fn new(memory: &mut DmaMemory<'a>, x2apic: bool) -> Option<Self> {
        Some(Self { memory: crate::tables::page(memory)?, x2apic })
    }

    /// Allows an interrupt.
    pub fn allow(&self, interrupt: Allowed) {
        let place = usize::from(interrupt.vector) * ENTRY;
        // An xAPIC's identifier stands in bits 8 to 15 of the destination.
        let destination = u64::from(interrupt.apic_id) << if self.x2apic { 32 } else { 40 };
        let level = if interrupt.level { LEVEL } else { 0 };
        self.memory.write_u64(place + 8, VERIFY_REQUESTER | u64::from(interrupt.requester));
        self.memory.write_u64(place, destination | u64::from(interrupt.vector) << 16 | level | PRESENT);
    }

    /// What the unit's register for the table holds: address, mode, and the number of entries (11.4.45).
    pub(crate) fn pointer(&self) -> u64 {
        let mode = if self.x2apic { 1 << 11 } else { 0 };
        self.memory.physical() | mode | u64::from(INTERRUPTS.ilog2() - 1)
    }

    pub(crate) const fn needs_x2apic(&self) -> bool {
        self.x2apic
    }
}

/// Where a device writes to signal the interrupt of this vector, with data of 0 (5.1.2.2).
pub const fn message_address(vector: u8) -> u32 {
    0xfee0_0000 | (vector as u32) << 5 | 1 << 4
}
