//! Transfers of control to another code segment.

use super::interpreter::{Completion, Interpreter, interruptibility};
use super::stack::{LOADABLE, operand_width};
use super::{Break, Environment};
use crate::emulate::registers::{flags, mask, write_flags};
use crate::memory::GuestMemory;
use bulkhead_abi::{Segment, segment};
use iced_x86::{Code, Instruction, MemorySize, OpKind};

/// RFLAGS.NT.
const NESTED_TASK: u64 = 1 << 14;

impl<M: GuestMemory, E: Environment> Interpreter<'_, M, E> {
    /// Selector, offset and operand size of a far JMP or CALL; nothing if it is a near one.
    pub fn far_pointer(&mut self, instruction: &Instruction) -> Result<Option<(u16, u64, u8)>, Break> {
        let width = match (instruction.op0_kind(), instruction.memory_size()) {
            (OpKind::FarBranch16, _) => {
                return Ok(Some((instruction.far_branch_selector(), instruction.far_branch16().into(), 2)));
            }
            (OpKind::FarBranch32, _) => {
                return Ok(Some((instruction.far_branch_selector(), instruction.far_branch32().into(), 4)));
            }
            (OpKind::Memory, MemorySize::SegPtr16) => 2,
            (OpKind::Memory, MemorySize::SegPtr32) => 4,
            _ => return Ok(None),
        };
        let address = self.address(instruction)?;
        let offset = self.read_at(address, width)?;
        let selector = self.read_at(address.plus(width.into()), 2)? as u16;
        Ok(Some((selector, offset, width)))
    }

    /// Goes on at `offset` in `code`.
    fn enter_code(&mut self, code: Segment, offset: u64) -> Result<(), Break> {
        if offset > u64::from(code.limit) {
            return Err(Break::PROTECTION);
        }
        self.machine.state.segments[segment::CS] = code;
        self.next = offset;
        Ok(())
    }

    /// Far JMP.
    pub fn far_jump(&mut self, selector: u16, offset: u64) -> Result<(), Break> {
        let code = self.code_segment(selector)?;
        self.enter_code(code, offset)
    }

    /// Far CALL.
    pub fn far_call(&mut self, selector: u16, offset: u64, width: u8) -> Result<(), Break> {
        let code = self.code_segment(selector)?;
        let (caller, return_address) = (self.machine.state.segments[segment::CS].selector, self.next);
        self.push(width, caller)?;
        self.push(width, return_address)?;
        self.enter_code(code, offset)
    }

    /// The code segment that a return goes to. Returns to an outer level are refused.
    fn returned_segment(&mut self, selector: u16) -> Result<Segment, Break> {
        if self.is_protected() && selector & 3 != 0 {
            return Err(Break::Unsupported);
        }
        self.code_segment(selector)
    }

    /// Far RET.
    pub fn far_return(&mut self, instruction: &Instruction) -> Result<(), Break> {
        let width = operand_width(instruction.code());
        let offset = self.pop(width)?;
        let selector = self.pop(width)? as u16;
        if instruction.op_count() > 0 {
            self.release(instruction.immediate16().into());
        }
        let code = self.returned_segment(selector)?;
        self.enter_code(code, offset)
    }

    /// IRET. Ends the blocking of NMIs.
    pub fn interrupt_return(&mut self, instruction: &Instruction) -> Result<Completion, Break> {
        let width = if instruction.code() == Code::Iretw { 2 } else { 4 };
        if self.is_protected() && self.machine.state.rflags & NESTED_TASK != 0 {
            return Err(Break::Unsupported);
        }
        let offset = self.pop(width)?;
        let selector = self.pop(width)? as u16;
        let value = self.pop(width)?;
        if self.is_protected() && value & flags::VM != 0 {
            return Err(Break::Unsupported);
        }
        let code = self.returned_segment(selector)?;
        self.enter_code(code, offset)?;
        write_flags(self.machine.state, (LOADABLE | flags::RF) & mask(width), value);
        self.machine.state.interruptibility &= !interruptibility::NMI;
        Ok(Completion::Next)
    }
}
