//! The whole virtual PC, where one thread runs all of its processors: what a virtual machine monitor asks at each VM exit.

use crate::bus::{Platform, PlatformParameters, Width};
use crate::devices::lapic::{LapicEffect, LocalApic, Pending, ProcessorRequest};
use crate::devices::pci::PciFunction;
use crate::devices::power::PowerEvent;
use crate::devices::uart::SerialSink;
use crate::policy::GeneralProtection;
use crate::policy::control::ControlPolicy;
use crate::policy::cpuid::{CpuidParameters, CpuidTable, Leaf, timer_shift};
use crate::policy::msr::{ModelSpecificRegisters, MsrRead, MsrWrite};
use crate::processors::{Arbitration, Processors, Readiness};
use alloc::vec::Vec;

/// What a machine is made from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MachineParameters {
    /// The shared devices.
    pub platform: PlatformParameters,
    /// The processors.
    pub cpuid: CpuidParameters,
    /// The microcode revision that the guest is shown.
    pub microcode: u32,
}

/// What is a processor's own beside its local APIC.
#[derive(Clone, Debug)]
struct Model {
    cpuid: CpuidTable,
    registers: ModelSpecificRegisters,
}

/// Devices and processors of one guest. Processors are numbered from 0, as their APIC identifiers are; a number that no
/// processor has does nothing.
#[derive(Clone, Debug)]
pub struct Machine<F, S> {
    platform: Platform<F, S>,
    processors: Processors,
    models: Vec<Model>,
    control: ControlPolicy,
}

impl<F: PciFunction, S: SerialSink> Machine<F, S> {
    /// A machine as firmware hands it over. `host` executes CPUID; `functions` become PCI devices 1, 2, ...; `serial` takes the
    /// serial output.
    pub fn new(parameters: &MachineParameters, host: impl Fn(u32, u32) -> Leaf, functions: Vec<F>, serial: S) -> Self {
        let tsc_hertz = parameters.platform.tsc_hertz;
        let mut processors = Processors::new(parameters.cpuid.processors as usize, timer_shift(tsc_hertz));
        processors.with_apic(0, |boot| boot.set_virtual_wire());
        let models: Vec<Model> = (0..processors.count() as u32)
            .map(|identifier| {
                let cpuid = CpuidTable::new(&parameters.cpuid, identifier, &host);
                let registers = ModelSpecificRegisters::new(&cpuid, tsc_hertz, parameters.microcode);
                Model { cpuid, registers }
            })
            .collect();
        let control = ControlPolicy::new(&CpuidTable::new(&parameters.cpuid, 0, &host));
        Self { platform: Platform::new(&parameters.platform, functions, serial), processors, models, control }
    }

    /// IN.
    #[inline]
    pub fn read_port(&mut self, port: u16, width: Width, now: u64) -> u32 {
        self.platform.read_port(port, width, now, &mut self.processors)
    }

    /// OUT. What it did to the machine as a whole, if anything.
    #[inline]
    pub fn write_port(&mut self, port: u16, width: Width, value: u32, now: u64) -> Option<PowerEvent> {
        self.platform.write_port(port, width, value, now, &mut self.processors)
    }

    /// `processor` reads guest-physical memory that is not RAM.
    #[inline]
    pub fn read_memory(&mut self, processor: usize, address: u64, width: Width, now: u64) -> u64 {
        if self.is_apic_page(processor, address) {
            let register = self.processors.with_apic(processor, |apic| apic.read_memory(address & 0xffc, now));
            return (u64::from(register.unwrap_or(0)) >> (8 * (address & 3))) & width.mask();
        }
        self.platform.read_memory(address, width, &mut self.processors)
    }

    /// `processor` writes guest-physical memory that is not RAM.
    #[inline]
    pub fn write_memory(&mut self, processor: usize, address: u64, width: Width, value: u64, now: u64) {
        if self.is_apic_page(processor, address) {
            let value = (value & width.mask()) as u32;
            let effect = self.processors.with_apic(processor, |apic| apic.write_memory(address & 0xfff, value, now));
            self.apply(processor, effect.unwrap_or(LapicEffect::None));
            return;
        }
        self.platform.write_memory(address, width, value, &mut self.processors);
    }

    fn is_apic_page(&self, processor: usize, address: u64) -> bool {
        self.processors.apic(processor).is_some_and(|apic| apic.page() == Some(address & !0xfff))
    }

    /// CPUID.
    #[inline]
    pub fn cpuid(&self, processor: usize, leaf: u32, subleaf: u32) -> Leaf {
        self.models.get(processor).map_or([0; 4], |model| model.cpuid.lookup(leaf, subleaf))
    }

    /// The guest changed CR4.OSXSAVE or XCR0: CPUID shows it.
    pub fn set_extended_states(&mut self, processor: usize, osxsave: bool, xcr0: u64) {
        if let Some(model) = self.models.get_mut(processor) {
            model.cpuid.set_osxsave(osxsave);
            model.cpuid.set_xcr0(xcr0);
        }
    }

    /// What the guest's control registers may hold.
    pub const fn control(&self) -> &ControlPolicy {
        &self.control
    }

    /// RDMSR.
    #[inline]
    pub fn read_msr(&mut self, processor: usize, index: u32, now: u64) -> Result<MsrRead, GeneralProtection> {
        let model = self.models.get(processor).ok_or(GeneralProtection)?;
        let read = self.processors.with_apic(processor, |apic| model.registers.read(index, apic, now));
        read.unwrap_or(Err(GeneralProtection))
    }

    /// WRMSR. What concerns the local APIC is done already.
    #[inline]
    pub fn write_msr(
        &mut self,
        processor: usize,
        index: u32,
        value: u64,
        now: u64,
    ) -> Result<MsrWrite, GeneralProtection> {
        let model = self.models.get_mut(processor).ok_or(GeneralProtection)?;
        let write = self.processors.with_apic(processor, |apic| model.registers.write(index, value, apic, now));
        match write.unwrap_or(Err(GeneralProtection))? {
            MsrWrite::Apic(effect) => {
                self.apply(processor, effect);
                Ok(MsrWrite::Done)
            }
            MsrWrite::ApicBase => {
                let enabled = self.processors.apic(processor).is_some_and(|apic| apic.is_enabled());
                model.cpuid.set_apic_enabled(enabled);
                Ok(MsrWrite::ApicBase)
            }
            write => Ok(write),
        }
    }

    /// What the guest's TSC is ahead of the machine's clock, modulo 2^64.
    pub fn tsc_offset(&self, processor: usize) -> u64 {
        self.models.get(processor).map_or(0, |model| model.registers.tsc_offset())
    }

    /// CR8.
    pub fn read_cr8(&self, processor: usize) -> u64 {
        self.processors.apic(processor).map_or(0, |apic| apic.cr8())
    }

    /// MOV to CR8.
    pub fn write_cr8(&mut self, processor: usize, value: u64) -> Result<(), GeneralProtection> {
        if value > 15 {
            return Err(GeneralProtection);
        }
        self.processors.with_apic(processor, |apic| apic.set_cr8(value));
        Ok(())
    }

    /// What the next entry of `processor` does about interrupts and NMIs. What is injected counts as taken.
    #[inline]
    pub fn arbitrate(&mut self, processor: usize, readiness: Readiness) -> Arbitration {
        match self.processors.apic(processor) {
            Some(apic) if apic.has_work() => self.arbitrate_pending(processor, readiness),
            _ => Arbitration::default(),
        }
    }

    fn arbitrate_pending(&mut self, processor: usize, readiness: Readiness) -> Arbitration {
        let mut result = Arbitration::default();
        let Some(apic) = self.processors.apic(processor) else {
            return result;
        };
        let pending = apic.pending();
        if apic.is_nmi_pending() {
            if readiness.nmi() {
                self.processors.with_apic(processor, LocalApic::take_nmi);
                result.injection = Arbitration::nmi();
            } else {
                result.nmi_window = true;
            }
        }
        if pending == Pending::None {
            return result;
        }
        if result.injection != 0 || !readiness.interrupts() {
            result.interrupt_window = true;
            return result;
        }
        let vector = match pending {
            Pending::External => {
                self.processors.with_apic(processor, LocalApic::acknowledge_external);
                Some(self.platform.acknowledge_pic(&mut self.processors))
            }
            _ => self.processors.with_apic(processor, LocalApic::acknowledge),
        };
        result.injection = vector.map_or(0, Arbitration::external);
        result.interrupt_window = self.processors.apic(processor).is_some_and(|apic| apic.pending() != Pending::None);
        result
    }

    /// Whether anything waits for `processor`: an interrupt (enabled or not), an NMI, an INIT or start-up.
    pub fn has_work(&self, processor: usize) -> bool {
        self.processors.apic(processor).is_some_and(|apic| apic.has_work())
    }

    /// What an INIT or start-up message asks of `processor`. On INIT the caller resets the processor's state.
    pub fn take_processor_request(&mut self, processor: usize) -> Option<ProcessorRequest> {
        self.processors.with_apic(processor, |apic| {
            let request = apic.take_processor_request()?;
            if request == ProcessorRequest::Init {
                apic.reset();
            }
            Some(request)
        })?
    }

    /// The set of processors (bit 0 for the first) that something arrived for since the last call.
    pub const fn take_woken(&mut self) -> u64 {
        self.processors.take_woken()
    }

    /// Time at which [`advance`](Self::advance) must be called; `u64::MAX` for never.
    #[inline]
    pub fn deadline(&self) -> u64 {
        self.platform.deadline().min(self.processors.deadline())
    }

    /// Tells every timer the time.
    #[inline]
    pub fn advance(&mut self, now: u64) {
        if self.deadline() <= now {
            self.platform.advance(now, &mut self.processors);
            self.processors.advance(now);
        }
    }

    /// What takes the serial output.
    pub const fn serial(&mut self) -> &mut S {
        self.platform.serial()
    }

    /// Characters that the serial port would take now.
    pub fn serial_room(&self) -> usize {
        self.platform.serial_room()
    }

    /// A character arrives at the serial port; `false` if there is no room for it.
    pub fn receive(&mut self, character: u8) -> bool {
        self.platform.receive(character, &mut self.processors)
    }

    /// The serial sink has room again.
    pub fn flush_serial(&mut self) {
        self.platform.flush_serial(&mut self.processors);
    }

    /// Whether serial output waits for room in the sink.
    pub const fn is_serial_waiting(&self) -> bool {
        self.platform.is_serial_waiting()
    }

    /// Presses the power button: an operating system that listens shuts down.
    pub fn press_power_button(&mut self) {
        self.platform.press_power_button(&mut self.processors);
    }

    /// The PCI functions, in the order of their device numbers from 1.
    pub fn functions(&self) -> &[F] {
        self.platform.functions()
    }

    /// Lets the owner of PCI function `index` tell it news (a request completed, ...), then carries its interrupts.
    pub fn with_function<R>(&mut self, index: usize, tell: impl FnOnce(&mut F) -> R) -> Option<R> {
        self.platform.with_function(index, &mut self.processors, tell)
    }

    fn apply(&mut self, processor: usize, effect: LapicEffect) {
        match effect {
            LapicEffect::None => {}
            LapicEffect::Send(message) => self.processors.send(processor, &message),
            LapicEffect::EndOfInterrupt(vector) => self.platform.end_of_interrupt(vector, &mut self.processors),
        }
    }
}

#[cfg(test)]
mod tests;
