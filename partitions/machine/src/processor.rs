//! What one thread has for the guest processor that it runs.

use crate::devices::lapic::LocalApic;
use crate::mailbox::Events;
use crate::policy::GeneralProtection;
use crate::policy::cpuid::{CpuidTable, Leaf};
use crate::policy::msr::{ModelSpecificRegisters, MsrRead, MsrWrite};

/// A guest processor's local APIC, CPUID leaves and model-specific registers. It belongs to one thread; others reach it by
/// its mailbox in the [`Interconnect`](crate::interconnect::Interconnect).
#[derive(Clone, Debug)]
pub struct Processor {
    pub(crate) number: usize,
    pub(crate) apic: LocalApic,
    cpuid: CpuidTable,
    registers: ModelSpecificRegisters,
}

impl Processor {
    pub(crate) fn new(number: usize, cpuid: CpuidTable, tsc_hertz: u64, microcode: u32, timer_shift: u32) -> Self {
        let mut apic = LocalApic::new(number as u32, timer_shift);
        if apic.is_boot_processor() {
            apic.set_virtual_wire();
        }
        let registers = ModelSpecificRegisters::new(&cpuid, tsc_hertz, microcode);
        Self { number, apic, cpuid, registers }
    }

    /// Number, from 0; also its APIC identifier.
    pub const fn number(&self) -> usize {
        self.number
    }

    /// CPUID.
    #[inline]
    pub fn cpuid(&self, leaf: u32, subleaf: u32) -> Leaf {
        self.cpuid.lookup(leaf, subleaf)
    }

    /// The guest changed CR4.OSXSAVE or XCR0: CPUID shows it.
    pub fn set_extended_states(&mut self, osxsave: bool, xcr0: u64) {
        self.cpuid.set_osxsave(osxsave);
        self.cpuid.set_xcr0(xcr0);
    }

    /// RDMSR.
    #[inline]
    pub fn read_msr(&mut self, index: u32, now: u64) -> Result<MsrRead, GeneralProtection> {
        self.registers.read(index, &mut self.apic, now)
    }

    pub(crate) fn write_msr(&mut self, index: u32, value: u64, now: u64) -> Result<MsrWrite, GeneralProtection> {
        let write = self.registers.write(index, value, &mut self.apic, now)?;
        if write == MsrWrite::ApicBase {
            self.cpuid.set_apic_enabled(self.apic.is_enabled());
        }
        Ok(write)
    }

    /// What the guest's TSC is ahead of the machine's clock, modulo 2^64.
    pub fn tsc_offset(&self) -> u64 {
        self.registers.tsc_offset()
    }

    /// CR8.
    pub fn cr8(&self) -> u64 {
        self.apic.cr8()
    }

    pub(crate) fn write_cr8(&mut self, value: u64) -> Result<(), GeneralProtection> {
        if value > 15 {
            return Err(GeneralProtection);
        }
        self.apic.set_cr8(value);
        Ok(())
    }

    /// Whether an interrupt (enabled or not) or an NMI waits.
    #[inline]
    pub const fn has_work(&self) -> bool {
        self.apic.has_work()
    }

    /// Time at which its timer fires; `u64::MAX` for never.
    #[inline]
    pub const fn deadline(&self) -> u64 {
        self.apic.deadline()
    }

    /// Whether the page at this guest-physical address has the registers of its local APIC.
    #[inline]
    pub(crate) fn is_apic_page(&self, address: u64) -> bool {
        self.apic.page() == Some(address & !0xfff)
    }

    /// INIT: the local APIC as after reset. The caller resets what the processor's state page has.
    pub(crate) fn reset(&mut self) {
        self.apic.reset();
    }
}

/// What a processor found in its mailbox that its thread has to act on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Arrivals {
    /// Reset the processor's state, and let it wait for start-up. Before `startup`.
    pub init: bool,
    /// Start at the 4-KiB page of this number, if the processor waits for start-up.
    pub startup: Option<u8>,
    /// The machine has ended.
    pub end: bool,
}

impl Arrivals {
    pub(crate) const fn of(events: Events) -> Self {
        Self { init: events.contains(Events::INIT), startup: events.startup(), end: events.contains(Events::END) }
    }
}
