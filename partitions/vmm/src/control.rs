//! Model-specific and control registers.

use crate::monitor::Monitor;
use bulkhead_machine::emulate::{self, Exception};
use bulkhead_machine::policy::GeneralProtection;
use bulkhead_machine::policy::control::{ControlChange, ControlRegisters};
use bulkhead_machine::policy::msr::{MsrRead, MsrWrite};
use bulkhead_runtime::abi::{StateGroups, register};
use bulkhead_runtime::time;

/// CR4.OSXSAVE.
const OSXSAVE: u64 = 1 << 18;
/// CR0.TS.
const TASK_SWITCHED: u64 = 1 << 3;
/// CR0: what LMSW writes.
const MACHINE_STATUS: u64 = 0xf;

impl Monitor {
    /// RDMSR.
    pub(crate) fn read_msr(&mut self) {
        let index = self.processor.state().registers[register::RCX] as u32;
        let value = match self.model.read_msr(index, time::now()) {
            Ok(MsrRead::Value(value)) => value,
            Ok(MsrRead::State(place)) => {
                self.require(place.group());
                place.read(self.processor.state())
            }
            Err(GeneralProtection) => return self.raise(Exception::GeneralProtection),
        };
        let state = self.processor.state_mut();
        state.registers[register::RAX] = value & 0xffff_ffff;
        state.registers[register::RDX] = value >> 32;
        self.skip();
    }

    /// WRMSR.
    pub(crate) fn write_msr(&mut self) {
        let state = self.processor.state();
        let index = state.registers[register::RCX] as u32;
        let value = state.registers[register::RDX] << 32 | state.registers[register::RAX] & 0xffff_ffff;
        match self.guest.machine.write_msr(&mut self.model, index, value, time::now()) {
            Ok(write) => {
                if self.complete_msr(write).is_err() {
                    return self.raise(Exception::GeneralProtection);
                }
            }
            Err(GeneralProtection) => return self.raise(Exception::GeneralProtection),
        }
        self.skip();
    }

    fn complete_msr(&mut self, write: MsrWrite) -> Result<(), GeneralProtection> {
        match write {
            // Predictors and so on are the machine's, or nothing that this guest was offered.
            MsrWrite::Done | MsrWrite::SpeculationControl(_) | MsrWrite::PredictionBarrier | MsrWrite::TscAux(_) => {}
            MsrWrite::Apic(_) | MsrWrite::ApicBase => self.follow_addresses(),
            MsrWrite::State(place, value) => {
                self.require(place.group());
                place.write(self.processor.state_mut(), value);
            }
            MsrWrite::Efer(value) => {
                let current = self.control_registers();
                let change = self.guest.machine.control().write_efer(&current, value)?;
                self.change(&change)?;
            }
            MsrWrite::TscOffset(offset) => {
                let state = self.processor.state_mut();
                state.tsc_offset = offset;
                state.dirty |= StateGroups::TSC_OFFSET.bits();
            }
        }
        Ok(())
    }

    fn control_registers(&mut self) -> ControlRegisters {
        self.require(StateGroups::CONTROL_REGISTERS);
        let state = self.processor.state();
        ControlRegisters { cr0: state.cr0, cr3: state.cr3, cr4: state.cr4, efer: state.efer, xcr0: state.xcr0 }
    }

    /// Loads what a write to a control register leads to.
    fn change(&mut self, change: &ControlChange) -> Result<(), GeneralProtection> {
        let new = change.registers;
        if change.load_page_directory_pointers {
            let pointers = self.guest.machine.control().page_directory_pointers(&self.guest.ram, new.cr3)?;
            let state = self.processor.state_mut();
            state.pdptes = pointers;
            state.dirty |= StateGroups::PDPTES.bits();
        }
        let state = self.processor.state_mut();
        (state.cr0, state.cr3, state.cr4, state.efer) = (new.cr0, new.cr3, new.cr4, new.efer);
        state.dirty |= StateGroups::CONTROL_REGISTERS.bits();
        // Without unrestricted guests the hardware runs no code without paging.
        self.activity = self.executing();
        Ok(())
    }

    /// What CPUID shows of CR4.OSXSAVE and XCR0, which the guest may have changed without an exit.
    pub(crate) fn refresh_extended_states(&mut self) {
        let registers = self.control_registers();
        self.model.set_extended_states(registers.cr4 & OSXSAVE != 0, registers.xcr0);
    }

    /// MOV to and from control registers, CLTS, LMSW (SDM vol. 3, table 28-3).
    pub(crate) fn control_register(&mut self) {
        let qualification = self.processor.state().exit_qualification;
        let (number, access) = (qualification & 0xf, qualification >> 4 & 3);
        let operand = (qualification >> 8 & 0xf) as u8;
        let current = self.control_registers();
        self.require(StateGroups::RSP | StateGroups::SEGMENTS);
        let value = emulate::read_register(self.processor.state(), operand);
        let control = *self.guest.machine.control();
        let is_long = self.is_long();
        let result = match (access, number) {
            (0, 0) => control.write_cr0(&current, is_long, value).and_then(|change| self.change(&change)),
            (0, 3) => control.write_cr3(&current, value).and_then(|change| self.change(&change)),
            (0, 4) => control.write_cr4(&current, value).and_then(|change| self.change(&change)),
            (0, 8) => self.guest.machine.write_cr8(&mut self.model, value),
            (1, number) => {
                let value = if number == 8 { self.model.cr8() } else { current.cr3 };
                let width = if self.is_long() { 8 } else { 4 };
                emulate::write_register(self.processor.state_mut(), operand, width, value);
                if operand == 4 {
                    self.processor.state_mut().dirty |= StateGroups::RSP.bits();
                }
                Ok(())
            }
            (2, _) => {
                let value = current.cr0 & !TASK_SWITCHED;
                control.write_cr0(&current, is_long, value).and_then(|change| self.change(&change))
            }
            (3, _) => {
                let source = qualification >> 16 & MACHINE_STATUS;
                // LMSW sets PE but never clears it.
                let value = current.cr0 & !(MACHINE_STATUS & !1) | source;
                control.write_cr0(&current, is_long, value).and_then(|change| self.change(&change))
            }
            _ => Err(GeneralProtection),
        };
        match result {
            Ok(()) => self.skip(),
            Err(GeneralProtection) => self.raise(Exception::GeneralProtection),
        }
    }

    /// XSETBV.
    pub(crate) fn set_extended_control(&mut self) {
        let current = self.control_registers();
        self.require(StateGroups::SEGMENTS);
        let state = self.processor.state();
        if emulate::privilege(state) != 0 {
            return self.raise(Exception::GeneralProtection);
        }
        let index = state.registers[register::RCX] as u32;
        let value = state.registers[register::RDX] << 32 | state.registers[register::RAX] & 0xffff_ffff;
        match self.guest.machine.control().write_xcr(&current, index, value) {
            Ok(change) => {
                let state = self.processor.state_mut();
                state.xcr0 = change.registers.xcr0;
                state.dirty |= StateGroups::XCR0.bits();
                self.skip();
            }
            Err(GeneralProtection) => self.raise(Exception::GeneralProtection),
        }
    }
}
