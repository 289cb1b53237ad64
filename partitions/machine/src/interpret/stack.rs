//! The stack: PUSH, POP, their forms for all registers and for flags, ENTER, LEAVE.

use super::interpreter::Interpreter;
use super::operand::Address;
use super::{Break, Environment};
use crate::emulate::decode::segment_index;
use crate::emulate::registers::{flags, mask, write_flags};
use crate::memory::GuestMemory;
use bulkhead_abi::register::{RBP, RSP};
use bulkhead_abi::segment;
use iced_x86::{Code, Instruction, OpKind};

/// What POPF and IRET load at privilege level 0: not RF, VM, VIF, VIP, nor bits that are reserved.
pub const LOADABLE: u64 = 0x24_7fd5;

impl<M: GuestMemory, E: Environment> Interpreter<'_, M, E> {
    /// The bytes of the stack pointer in use.
    fn pointer_width(&self) -> u8 {
        self.machine.stack_width()
    }

    /// The stack `offset` bytes above its top.
    pub fn stack_at(&self, offset: u64) -> Address {
        let width = self.pointer_width();
        Address { segment: segment::SS as u8, offset: self.register(RSP).wrapping_add(offset) & mask(width), width }
    }

    /// Moves the top of the stack up by `bytes`.
    pub fn release(&mut self, bytes: u64) {
        let width = self.pointer_width();
        let top = self.register(RSP).wrapping_add(bytes);
        self.set_register(RSP, width, top);
    }

    /// Pushes `width` bytes.
    pub fn push(&mut self, width: u8, value: u64) -> Result<(), Break> {
        let address = self.stack_at(0u64.wrapping_sub(width.into()));
        self.write_at(address, width, value & mask(width))?;
        self.release(0u64.wrapping_sub(width.into()));
        Ok(())
    }

    /// Pops `width` bytes.
    pub fn pop(&mut self, width: u8) -> Result<u64, Break> {
        let value = self.read_at(self.stack_at(0), width)?;
        self.release(width.into());
        Ok(value)
    }

    /// PUSH.
    pub fn push_operand(&mut self, instruction: &Instruction) -> Result<(), Break> {
        let width = operand_width(instruction.code());
        let value = match segment_index(instruction.op0_register()) {
            Some(index) if instruction.op0_kind() == OpKind::Register => {
                self.machine.state.segments[usize::from(index & 7)].selector
            }
            _ => self.value(instruction, 0)?,
        };
        self.push(width, value)
    }

    /// POP. The address of a memory operand is computed with the stack pointer already moved.
    pub fn pop_operand(&mut self, instruction: &Instruction) -> Result<(), Break> {
        let width = operand_width(instruction.code());
        if let (OpKind::Register, Some(index)) = (instruction.op0_kind(), segment_index(instruction.op0_register())) {
            let selector = self.read_at(self.stack_at(0), 2)? as u16;
            // The place of the selector is that of the stack before the move.
            self.release(width.into());
            return self.move_to_segment(usize::from(index), selector);
        }
        let value = self.pop(width)?;
        self.store(instruction, 0, value)
    }

    /// PUSHA.
    pub fn push_all(&mut self, width: u8) -> Result<(), Break> {
        let top = self.register(RSP);
        for index in 0..8 {
            let value = if index == RSP { top } else { self.register(index) };
            self.push(width, value)?;
        }
        Ok(())
    }

    /// POPA. The stack pointer among the values is passed over.
    pub fn pop_all(&mut self, width: u8) -> Result<(), Break> {
        for index in (0..8).rev() {
            let value = self.pop(width)?;
            if index != RSP {
                self.set_register(index, width, value);
            }
        }
        Ok(())
    }

    /// PUSHF: VM and RF are pushed as 0.
    pub fn push_flags(&mut self, width: u8) -> Result<(), Break> {
        let value = self.machine.state.rflags & !(flags::VM | flags::RF);
        self.push(width, value)
    }

    /// POPF.
    pub fn pop_flags(&mut self, width: u8) -> Result<(), Break> {
        let value = self.pop(width)?;
        write_flags(self.machine.state, LOADABLE & mask(width), value);
        Ok(())
    }

    /// ENTER (SDM vol. 2). At most 31 frame pointers are copied.
    pub fn enter(&mut self, instruction: &Instruction) -> Result<(), Break> {
        let width = operand_width(instruction.code());
        let size = u64::from(instruction.immediate16());
        let level = instruction.immediate8_2nd() & 31;
        let pointer_width = self.pointer_width();
        let caller = self.register(RBP);
        self.push(width, caller)?;
        let frame = self.register(RSP);
        for step in 1..level {
            let offset = caller.wrapping_sub(u64::from(step) * u64::from(width)) & mask(pointer_width);
            let outer = Address { segment: segment::SS as u8, offset, width: pointer_width };
            let value = self.read_at(outer, width)?;
            self.push(width, value)?;
        }
        if level > 0 {
            self.push(width, frame)?;
        }
        self.set_register(RBP, width, frame);
        self.release(0u64.wrapping_sub(size));
        // The new top of the stack must be writable.
        self.place(self.stack_at(0), width, crate::emulate::Access::Write)?;
        Ok(())
    }

    /// LEAVE.
    pub fn leave(&mut self, instruction: &Instruction) -> Result<(), Break> {
        let width = operand_width(instruction.code());
        let (pointer_width, frame) = (self.pointer_width(), self.register(RBP));
        self.set_register(RSP, pointer_width, frame);
        let caller = self.pop(width)?;
        self.set_register(RBP, width, caller);
        Ok(())
    }
}

/// Bytes that a stack instruction moves.
pub fn operand_width(code: Code) -> u8 {
    use Code as C;
    match code {
        C::Push_r16
        | C::Push_rm16
        | C::Push_imm16
        | C::Pushw_imm8
        | C::Pushw_CS
        | C::Pushw_SS
        | C::Pushw_DS
        | C::Pushw_ES
        | C::Pushw_FS
        | C::Pushw_GS
        | C::Pop_r16
        | C::Pop_rm16
        | C::Popw_SS
        | C::Popw_DS
        | C::Popw_ES
        | C::Popw_FS
        | C::Popw_GS
        | C::Enterw_imm16_imm8
        | C::Leavew
        | C::Retnw
        | C::Retnw_imm16
        | C::Retfw
        | C::Retfw_imm16 => 2,
        _ => 4,
    }
}
