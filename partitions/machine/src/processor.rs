//! What one thread has for the guest processor that it runs.

use crate::devices::lapic::{DEFAULT_BASE, LapicEffect, LocalApic};
use crate::mailbox::Events;
use crate::policy::GeneralProtection;
use crate::policy::cpuid::{CpuidTable, Leaf};
use crate::policy::msr::{ModelSpecificRegisters, MsrRead, MsrWrite};
use crate::virtual_apic::VirtualApic;
use bulkhead_abi::{ApicMode, StateGroups, VcpuState};

/// A guest processor's local APIC, CPUID leaves and model-specific registers. It belongs to one thread; others reach it by
/// its mailbox in the [`Interconnect`](crate::interconnect::Interconnect).
#[derive(Clone, Debug)]
pub struct Processor {
    pub(crate) number: usize,
    pub(crate) apic: LocalApic,
    cpuid: CpuidTable,
    registers: ModelSpecificRegisters,
    /// Where the processor virtualizes the local APIC, if it does.
    hardware: Option<VirtualApic>,
    /// It virtualizes the task priority alone.
    priority_only: bool,
    /// How it does at the moment.
    mode: ApicMode,
    /// Groups of the state page that do not show yet what the local APIC wants there.
    untold: StateGroups,
}

impl Processor {
    pub(crate) fn new(number: usize, cpuid: CpuidTable, registers: ModelSpecificRegisters, timer_shift: u32) -> Self {
        let mut apic = LocalApic::new(number as u32, timer_shift);
        if apic.is_boot_processor() {
            apic.set_virtual_wire();
        }
        let mode = ApicMode::Software;
        let untold = StateGroups::empty();
        Self { number, apic, cpuid, registers, hardware: None, priority_only: false, mode, untold }
    }

    /// Number, from 0; also its APIC identifier.
    pub const fn number(&self) -> usize {
        self.number
    }

    pub(crate) fn virtualize(&mut self, mut page: VirtualApic, priority_only: bool, now: u64) {
        page.reset();
        self.priority_only = priority_only;
        self.hardware = Some(page);
        self.choose_mode(now);
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
        self.pull_priority();
        self.registers.read(index, &mut self.apic, now)
    }

    pub(crate) fn write_msr(&mut self, index: u32, value: u64, now: u64) -> Result<MsrWrite, GeneralProtection> {
        let write = self.registers.write(index, value, &mut self.apic, now)?;
        match write {
            MsrWrite::Apic(_) if self.mode == ApicMode::TaskPriority => self.push_priority(),
            MsrWrite::ApicBase => {
                self.cpuid.set_apic_enabled(self.apic.is_enabled());
                self.choose_mode(now);
            }
            MsrWrite::Apic(_) => self.show_register(index << 4, now),
            _ => {}
        }
        Ok(write)
    }

    /// Whether the hardware delivers interrupts.
    const fn delegates(&self) -> bool {
        matches!(self.mode, ApicMode::Xapic | ApicMode::X2apic)
    }

    /// Learns of the task priority where the guest sets it without an exit.
    fn pull_priority(&mut self) {
        if self.mode == ApicMode::TaskPriority
            && let Some(page) = &self.hardware
        {
            self.apic.set_task_priority(page.task_priority());
        }
    }

    /// Lets the guest see a task priority that was set with an exit.
    fn push_priority(&self) {
        if self.mode == ApicMode::TaskPriority
            && let Some(page) = &self.hardware
        {
            page.set_task_priority(self.apic.task_priority().into());
        }
    }

    /// Reads a register of the local APIC in its page.
    pub(crate) fn read_apic(&mut self, offset: u64, now: u64) -> u32 {
        self.pull_priority();
        match &self.hardware {
            Some(page) if self.delegates() && VirtualApic::owns(offset as u32) => page.read(offset as u32),
            _ => self.apic.read_memory(offset, now),
        }
    }

    /// Writes a register of the local APIC in its page.
    pub(crate) fn write_apic(&mut self, offset: u64, value: u32, now: u64) -> LapicEffect {
        /// Offset of the end-of-interrupt register.
        const END_OF_INTERRUPT: u32 = 0xb0;
        let Some(page) = self.hardware.as_ref().filter(|_| self.delegates()) else {
            self.pull_priority();
            let effect = self.apic.write_memory(offset, value, now);
            self.push_priority();
            return effect;
        };
        match offset as u32 {
            VirtualApic::TASK_PRIORITY => {
                page.set_task_priority(value);
                LapicEffect::None
            }
            END_OF_INTERRUPT => {
                self.untold |= StateGroups::INTERRUPT_STATUS;
                page.end_of_interrupt().map_or(LapicEffect::None, LapicEffect::EndOfInterrupt)
            }
            _ => {
                let effect = self.apic.write_memory(offset, value, now);
                self.show_register(offset as u32, now);
                effect
            }
        }
    }

    /// The guest has written a register in the virtual-APIC page.
    pub(crate) fn apic_written(&mut self, offset: u32, now: u64) -> LapicEffect {
        let Some(page) = &self.hardware else { return LapicEffect::None };
        let value = page.read(offset);
        if offset == VirtualApic::COMMAND_LOW {
            let high = page.read(VirtualApic::COMMAND_HIGH);
            self.apic.write_memory(u64::from(VirtualApic::COMMAND_HIGH), high, now);
        }
        self.write_apic(u64::from(offset), value, now)
    }

    /// Copies a register of the model to where the guest reads it.
    fn show_register(&mut self, offset: u32, now: u64) {
        if self.delegates()
            && let Some(page) = &self.hardware
        {
            page.copy_register(&mut self.apic, offset, now);
        }
    }

    /// Which mode the hardware virtualizes the local APIC in: that of IA32_APIC_BASE, if the registers are where they are
    /// after reset.
    fn choose_mode(&mut self, now: u64) {
        let mode = match (&self.hardware, self.apic.page()) {
            (None, _) => ApicMode::Software,
            (Some(_), _) if self.priority_only => ApicMode::TaskPriority,
            (Some(_), _) if self.apic.is_x2apic() => ApicMode::X2apic,
            (Some(_), Some(DEFAULT_BASE)) => ApicMode::Xapic,
            (Some(_), _) => ApicMode::Software,
        };
        if mode == ApicMode::Software
            && let Some(page) = &self.hardware
        {
            page.posted().take().for_each(|vector| self.apic.accept(vector, false));
        }
        self.mode = mode;
        self.apic.delegate_vectors(self.delegates());
        self.apic.share_priority(mode == ApicMode::TaskPriority);
        if let Some(page) = &self.hardware {
            page.copy(&mut self.apic, now);
        }
        self.untold |= StateGroups::APIC;
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

    /// Whether an interrupt (enabled or not) or an NMI waits, or the state page must be told of the local APIC.
    #[inline]
    pub const fn has_work(&self) -> bool {
        self.apic.has_work() || !self.untold.is_empty()
    }

    /// Whether interrupts are posted that nobody has taken yet.
    pub fn has_posted(&self) -> bool {
        self.hardware.as_ref().is_some_and(|page| page.posted().is_outstanding())
    }

    /// Takes posted interrupts, which the kernel takes otherwise when the guest is entered.
    pub fn take_posted(&mut self) {
        if let Some(page) = &mut self.hardware
            && page.request_posted()
        {
            self.untold |= StateGroups::INTERRUPT_STATUS;
        }
    }

    /// Whether the hardware will deliver an interrupt as soon as the processor's interrupts are enabled.
    pub fn will_deliver(&self) -> bool {
        self.delegates() && self.hardware.as_ref().is_some_and(VirtualApic::is_deliverable)
    }

    /// Hands what waits to the hardware that delivers interrupts, if there is such, and tells the state page of it.
    #[inline]
    pub fn tell(&mut self, state: &mut VcpuState) {
        if self.mode == ApicMode::TaskPriority {
            self.pull_priority();
            let threshold = self.apic.held_back();
            if u32::from(threshold) != state.apic_threshold {
                state.apic_threshold = threshold.into();
                self.untold |= StateGroups::APIC;
            }
            if !self.untold.is_empty() {
                state.apic_mode = self.mode as u32;
                state.dirty |= self.untold.bits();
                self.untold = StateGroups::empty();
            }
            return;
        }
        if let Some(page) = &mut self.hardware
            && (self.mode != ApicMode::Software || !self.untold.is_empty())
        {
            let mut untold = self.untold;
            self.apic.take_requests(|vector, level| {
                untold |= StateGroups::INTERRUPT_STATUS;
                if page.request(vector, level) {
                    untold |= StateGroups::APIC;
                }
            });
            if untold.contains(StateGroups::APIC) {
                state.apic_mode = self.mode as u32;
                state.eoi_exits = page.eoi_exits();
            }
            if !untold.is_empty() {
                state.interrupt_status = page.status();
                state.dirty |= untold.bits();
            }
            self.untold = StateGroups::empty();
        }
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
        if let Some(page) = &mut self.hardware {
            page.reset();
            page.copy(&mut self.apic, 0);
            self.untold |= StateGroups::APIC;
        }
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
