//! Control and debug registers, and what a change of them leads to.

use super::interpreter::Interpreter;
use super::{Break, Environment};
use crate::emulate::decode::general;
use crate::emulate::registers::mask;
use crate::memory::GuestMemory;
use crate::policy::control::{ControlChange, ControlRegisters, cr4};
use bulkhead_abi::{StateGroups, register, segment};
use iced_x86::{Instruction, OpKind, Register};

/// CR0.TS.
const TASK_SWITCHED: u64 = 1 << 3;
/// What LMSW writes of CR0.
const MACHINE_STATUS: u64 = 0xf;
/// CR4.DE: DR4 and DR5 are undefined instead of names of DR6 and DR7.
const DEBUGGING_EXTENSIONS: u64 = 1 << 3;

impl<M: GuestMemory, E: Environment> Interpreter<'_, M, E> {
    pub(super) fn control_registers(&self) -> ControlRegisters {
        let state = &*self.machine.state;
        ControlRegisters { cr0: state.cr0, cr3: state.cr3, cr4: state.cr4, efer: state.efer, xcr0: state.xcr0 }
    }

    /// Makes a change that the policy allows. No translations have to be flushed: without paging there are none.
    pub(super) fn change(&mut self, change: &ControlChange) -> Result<(), Break> {
        let new = change.registers;
        if change.load_page_directory_pointers {
            let control = self.machine.device.control();
            self.machine.state.pdptes = control.page_directory_pointers(self.machine.memory, new.cr3)?;
            self.machine.state.dirty |= StateGroups::PDPTES.bits();
        }
        let state = &mut *self.machine.state;
        (state.cr0, state.cr3, state.cr4, state.efer) = (new.cr0, new.cr3, new.cr4, new.efer);
        state.xcr0 = new.xcr0;
        Ok(())
    }

    fn write_cr0(&mut self, value: u64) -> Result<(), Break> {
        const LONG: u32 = super::descriptor::access::LONG;
        let long_code = self.machine.state.segments[segment::CS].access & LONG != 0;
        let change = self.machine.device.control().write_cr0(&self.control_registers(), long_code, value)?;
        self.change(&change)
    }

    /// MOV to and from control and debug registers.
    pub fn move_system_register(&mut self, instruction: &Instruction) -> Result<(), Break> {
        let (target, source) = (instruction.op0_register(), instruction.op1_register());
        if let Some(number) = numbered(target, Register::CR0) {
            let value = self.operand_32(source)?;
            return self.write_control(number, value);
        }
        if let Some(number) = numbered(source, Register::CR0) {
            let value = self.read_control(number)?;
            return self.store(instruction, 0, value);
        }
        if let Some(number) = numbered(target, Register::DR0) {
            let value = self.operand_32(source)?;
            let number = self.debug_number(number)?;
            self.machine.device.write_debug(number, value as u32);
            return Ok(());
        }
        let number = numbered(source, Register::DR0).ok_or(Break::UNDEFINED)?;
        let number = self.debug_number(number)?;
        let value = self.machine.device.read_debug(number);
        self.store(instruction, 0, value.into())
    }

    fn operand_32(&self, register: Register) -> Result<u64, Break> {
        let (operand, _) = general(register).ok_or(Break::UNDEFINED)?;
        Ok(self.machine.register(operand) & mask(4))
    }

    fn write_control(&mut self, number: u8, value: u64) -> Result<(), Break> {
        let control = self.machine.device.control();
        let current = self.control_registers();
        match number {
            0 => return self.write_cr0(value),
            2 => self.machine.state.cr2 = value,
            3 => return self.change(&control.write_cr3(&current, value)?),
            4 => return self.change(&control.write_cr4(&current, value)?),
            _ => return Err(Break::UNDEFINED),
        }
        Ok(())
    }

    fn read_control(&self, number: u8) -> Result<u64, Break> {
        let state = &*self.machine.state;
        match number {
            0 => Ok(state.cr0),
            2 => Ok(state.cr2),
            3 => Ok(state.cr3),
            4 => Ok(state.cr4),
            _ => Err(Break::UNDEFINED),
        }
    }

    fn debug_number(&self, number: u8) -> Result<u8, Break> {
        match number {
            4 | 5 if self.machine.state.cr4 & DEBUGGING_EXTENSIONS != 0 => Err(Break::UNDEFINED),
            4 | 5 => Ok(number + 2),
            0..=7 => Ok(number),
            _ => Err(Break::UNDEFINED),
        }
    }

    /// CLTS.
    pub fn clear_task_switched(&mut self) -> Result<(), Break> {
        self.write_cr0(self.machine.state.cr0 & !TASK_SWITCHED)
    }

    /// LMSW, which sets PE but never clears it.
    pub fn load_machine_status(&mut self, instruction: &Instruction) -> Result<(), Break> {
        let source = self.word(instruction)? & MACHINE_STATUS;
        self.write_cr0(self.machine.state.cr0 & !(MACHINE_STATUS & !1) | source)
    }

    fn word(&mut self, instruction: &Instruction) -> Result<u64, Break> {
        match instruction.op0_kind() {
            OpKind::Memory => self.read_at(self.address(instruction)?, 2),
            _ => self.value(instruction, 0),
        }
    }

    /// SMSW: of a register all bits, of memory a word.
    pub fn store_machine_status(&mut self, instruction: &Instruction) -> Result<(), Break> {
        let value = self.machine.state.cr0;
        self.store(instruction, 0, value)
    }

    /// XGETBV.
    pub fn read_extended_control(&mut self) -> Result<(), Break> {
        self.require_extended_states()?;
        if self.register(register::RCX) & mask(4) != 0 {
            return Err(Break::PROTECTION);
        }
        let value = self.machine.state.xcr0;
        self.set_pair(value);
        Ok(())
    }

    /// XSETBV.
    pub fn write_extended_control(&mut self) -> Result<(), Break> {
        self.require_extended_states()?;
        let (index, value) = (self.register(register::RCX) as u32, self.pair());
        let change = self.machine.device.control().write_xcr(&self.control_registers(), index, value)?;
        self.change(&change)
    }

    fn require_extended_states(&self) -> Result<(), Break> {
        if self.machine.state.cr4 & cr4::OSXSAVE != 0 { Ok(()) } else { Err(Break::UNDEFINED) }
    }
}

/// The number of a register of the family that starts with `first`.
fn numbered(register: Register, first: Register) -> Option<u8> {
    let number = (register as u32).checked_sub(first as u32)?;
    (number < 16).then_some(number as u8)
}
