//! Transfers of control within a code segment.

use super::interpreter::Interpreter;
use super::stack::operand_width;
use super::{Break, Environment};
use crate::emulate::alu;
use crate::emulate::instruction::Condition;
use crate::emulate::registers::{flags, mask};
use crate::memory::GuestMemory;
use bulkhead_abi::register::RCX;
use bulkhead_abi::segment;
use iced_x86::{Code, Instruction, Mnemonic, OpKind};

impl<M: GuestMemory, E: Environment> Interpreter<'_, M, E> {
    /// Goes on at `target`, which must be within CS.
    fn jump(&mut self, target: u64) -> Result<(), Break> {
        if target > u64::from(self.machine.state.segments[segment::CS].limit) {
            return Err(Break::PROTECTION);
        }
        self.next = target;
        Ok(())
    }

    /// Where a near branch goes, and the bytes of its instruction pointer.
    fn near_target(&mut self, instruction: &Instruction) -> Result<(u64, u8), Break> {
        let rip = self.machine.state.rip;
        Ok(match instruction.op0_kind() {
            OpKind::NearBranch16 => (rip.wrapping_add(instruction.near_branch16().into()) & mask(2), 2),
            OpKind::NearBranch32 => (rip.wrapping_add(instruction.near_branch32().into()) & mask(4), 4),
            OpKind::Memory => {
                let width = if matches!(instruction.code(), Code::Jmp_rm16 | Code::Call_rm16) { 2 } else { 4 };
                (self.read_at(self.address(instruction)?, width)?, width)
            }
            _ => (self.value(instruction, 0)?, self.width(instruction, 0)?),
        })
    }

    /// JMP.
    pub fn near_jump(&mut self, instruction: &Instruction) -> Result<(), Break> {
        let (target, _) = self.near_target(instruction)?;
        self.jump(target)
    }

    /// Jcc.
    pub fn jump_if(&mut self, instruction: &Instruction, condition: Condition) -> Result<(), Break> {
        if alu::holds(condition, self.machine.state.rflags) {
            self.near_jump(instruction)?;
        }
        Ok(())
    }

    /// CALL.
    pub fn near_call(&mut self, instruction: &Instruction) -> Result<(), Break> {
        let (target, width) = self.near_target(instruction)?;
        let return_address = self.next;
        self.push(width, return_address)?;
        self.jump(target)
    }

    /// RET.
    pub fn near_return(&mut self, instruction: &Instruction) -> Result<(), Break> {
        let target = self.pop(operand_width(instruction.code()))?;
        if instruction.op_count() > 0 {
            self.release(instruction.immediate16().into());
        }
        self.jump(target)
    }

    /// LOOP, LOOPE, LOOPNE.
    pub fn count_down(&mut self, instruction: &Instruction) -> Result<(), Break> {
        use Code as C;
        let width = match instruction.code() {
            C::Loop_rel8_16_CX
            | C::Loop_rel8_32_CX
            | C::Loope_rel8_16_CX
            | C::Loope_rel8_32_CX
            | C::Loopne_rel8_16_CX
            | C::Loopne_rel8_32_CX => 2,
            _ => 4,
        };
        let count = self.register(RCX).wrapping_sub(1) & mask(width);
        self.set_register(RCX, width, count);
        let zero = self.machine.state.rflags & flags::ZF != 0;
        let wanted = match instruction.mnemonic() {
            Mnemonic::Loope => zero,
            Mnemonic::Loopne => !zero,
            _ => true,
        };
        if count != 0 && wanted { self.near_jump(instruction) } else { Ok(()) }
    }

    /// JCXZ, JECXZ.
    pub fn jump_if_none_left(&mut self, instruction: &Instruction) -> Result<(), Break> {
        let width = if instruction.mnemonic() == Mnemonic::Jcxz { 2 } else { 4 };
        if self.register(RCX) & mask(width) == 0 { self.near_jump(instruction) } else { Ok(()) }
    }
}
