//! Instructions that the environment answers: CPUID, model-specific registers, the time-stamp counter.

use super::interpreter::{Completion, Interpreter, interruptibility};
use super::{Break, Environment};
use crate::emulate::registers::{mask, write_flags};
use crate::memory::GuestMemory;
use crate::policy::msr::{MsrRead, MsrWrite};
use bulkhead_abi::StateGroups;
use bulkhead_abi::register::{RAX, RBX, RCX, RDX};

/// RFLAGS.IF.
const INTERRUPTS: u64 = 1 << 9;

impl<M: GuestMemory, E: Environment> Interpreter<'_, M, E> {
    /// EDX:EAX.
    pub fn pair(&self) -> u64 {
        (self.register(RDX) & mask(4)) << 32 | self.register(RAX) & mask(4)
    }

    /// Sets EDX:EAX.
    pub fn set_pair(&mut self, value: u64) {
        self.set_register(RAX, 4, value);
        self.set_register(RDX, 4, value >> 32);
    }

    /// CPUID.
    pub fn identify(&mut self) {
        let (leaf, subleaf) = (self.register(RAX) as u32, self.register(RCX) as u32);
        let [eax, ebx, ecx, edx] = self.machine.device.cpuid(self.machine.state, leaf, subleaf);
        for (index, value) in [(RAX, eax), (RBX, ebx), (RCX, ecx), (RDX, edx)] {
            self.set_register(index, 4, value.into());
        }
    }

    /// RDMSR.
    pub fn read_msr(&mut self) -> Result<(), Break> {
        let value = match self.machine.device.read_msr(self.register(RCX) as u32)? {
            MsrRead::Value(value) => value,
            MsrRead::State(place) => place.read(self.machine.state),
        };
        self.set_pair(value);
        Ok(())
    }

    /// WRMSR.
    pub fn write_msr(&mut self) -> Result<(), Break> {
        let (index, value) = (self.register(RCX) as u32, self.pair());
        match self.machine.device.write_msr(index, value)? {
            MsrWrite::State(place, value) => place.write(self.machine.state, value),
            MsrWrite::Efer(value) => {
                let change = self.machine.device.control().write_efer(&self.control_registers(), value)?;
                self.change(&change)?;
            }
            MsrWrite::TscOffset(offset) => {
                self.machine.state.tsc_offset = offset;
                self.machine.state.dirty |= StateGroups::TSC_OFFSET.bits();
            }
            MsrWrite::Done
            | MsrWrite::Apic(_)
            | MsrWrite::ApicBase
            | MsrWrite::SpeculationControl(_)
            | MsrWrite::PredictionBarrier
            | MsrWrite::TscAux(_) => {}
        }
        Ok(())
    }

    /// RDTSC.
    pub fn read_time_stamp(&mut self) {
        let now = self.machine.device.time_stamp().wrapping_add(self.machine.state.tsc_offset);
        self.set_pair(now);
    }

    /// CLI.
    pub fn disable_interrupts(&mut self) {
        write_flags(self.machine.state, INTERRUPTS, 0);
    }

    /// STI, whose effect begins behind the next instruction.
    pub fn enable_interrupts(&mut self) {
        if self.machine.state.rflags & INTERRUPTS == 0 {
            write_flags(self.machine.state, INTERRUPTS, INTERRUPTS);
            self.shadow = interruptibility::STI;
        }
    }

    /// INT n, INT3, INT1, INTO.
    pub fn interrupt(&mut self, vector: u8) -> Result<Completion, Break> {
        let length = self.next.wrapping_sub(self.machine.state.rip) as u32;
        self.deliver(super::event::Event::software(vector, length))?;
        Ok(Completion::Delivered)
    }
}
