//! Integer arithmetic on any operands; the sums themselves are those of [`alu`] and [`compute`].

use super::compute::{self, Changed};
use super::interpreter::Interpreter;
use super::{Break, Environment, vector};
use crate::emulate::Access;
use crate::emulate::alu;
use crate::emulate::instruction::{Alu, Shift};
use crate::emulate::registers::{flags, mask, write_flags};
use crate::memory::GuestMemory;
use bulkhead_abi::register::{RAX, RBX, RCX, RDX};
use iced_x86::{Instruction, OpKind};

impl<M: GuestMemory, E: Environment> Interpreter<'_, M, E> {
    /// Replaces operand 0 by what `compute` makes of it, and sets the flags that it says.
    pub fn modify(&mut self, instruction: &Instruction, compute: impl Fn(u64, u8) -> Changed) -> Result<(), Break> {
        let width = self.width(instruction, 0)?;
        let location = self.location(instruction, 0, width, Access::Write)?;
        let locked = instruction.has_lock_prefix();
        let before = self.update(&location, width, locked, |value| compute(value, width).value)?;
        let changed = compute(before, width);
        write_flags(self.machine.state, changed.mask, changed.flags);
        Ok(())
    }

    /// ADD, ADC, SUB, SBB, AND, OR, XOR.
    pub fn binary(&mut self, instruction: &Instruction, operation: Alu) -> Result<(), Break> {
        let right = self.value(instruction, 1)?;
        let before = self.machine.state.rflags;
        self.modify(instruction, |left, width| {
            let (value, flags) = alu::compute(operation, left, right, width, before);
            Changed { value, flags, mask: flags::ARITHMETIC }
        })
    }

    /// CMP and TEST.
    pub fn compare(&mut self, instruction: &Instruction, operation: Alu) -> Result<(), Break> {
        let width = self.width(instruction, 0)?;
        let left = self.value(instruction, 0)?;
        let right = self.value(instruction, 1)?;
        let (_, after) = alu::compute(operation, left, right, width, 0);
        write_flags(self.machine.state, flags::ARITHMETIC, after);
        Ok(())
    }

    /// INC and DEC.
    pub fn count(&mut self, instruction: &Instruction, operation: Alu) -> Result<(), Break> {
        self.modify(instruction, |value, width| {
            let (value, flags) = alu::compute(operation, value, 1, width, 0);
            Changed { value, flags, mask: flags::ARITHMETIC & !flags::CF }
        })
    }

    /// NOT.
    pub fn not(&mut self, instruction: &Instruction) -> Result<(), Break> {
        self.modify(instruction, |value, _| Changed { value: !value, flags: 0, mask: 0 })
    }

    /// NEG.
    pub fn negate(&mut self, instruction: &Instruction) -> Result<(), Break> {
        self.modify(instruction, |value, width| {
            let (value, flags) = alu::compute(Alu::Subtract, 0, value, width, 0);
            Changed { value, flags, mask: flags::ARITHMETIC }
        })
    }

    /// SHL, SHR, SAR, ROL, ROR.
    pub fn shift(&mut self, instruction: &Instruction, operation: Shift) -> Result<(), Break> {
        let count = self.value(instruction, 1)?;
        let before = self.machine.state.rflags;
        self.modify(instruction, |value, width| {
            let (value, flags, mask) = alu::shift(operation, value, count, width, before);
            Changed { value, flags, mask }
        })
    }

    /// RCL, RCR.
    pub fn rotate_through_carry(&mut self, instruction: &Instruction, left: bool) -> Result<(), Break> {
        let count = self.value(instruction, 1)?;
        let before = self.machine.state.rflags;
        self.modify(instruction, |value, width| compute::rotate_through_carry(left, value, count, width, before))
    }

    /// SHLD, SHRD.
    pub fn double_shift(&mut self, instruction: &Instruction, left: bool) -> Result<(), Break> {
        let fill = self.value(instruction, 1)?;
        let count = self.value(instruction, 2)?;
        let before = self.machine.state.rflags;
        self.modify(instruction, |value, width| compute::double_shift(left, value, fill, count, width, before))
    }

    /// MUL, and IMUL in all three forms.
    pub fn multiply(&mut self, instruction: &Instruction, signed: bool) -> Result<(), Break> {
        let width = self.width(instruction, 0)?;
        let factors = match instruction.op_count() {
            1 => (self.register(RAX), self.value(instruction, 0)?),
            2 => (self.value(instruction, 0)?, self.value(instruction, 1)?),
            _ => (self.value(instruction, 1)?, self.value(instruction, 2)?),
        };
        let (low, high, significant) = compute::multiply(signed, factors.0, factors.1, width);
        if instruction.op_count() > 1 {
            self.store(instruction, 0, low)?;
        } else if width == 1 {
            self.set_register(RAX, 2, high << 8 | low);
        } else {
            self.set_register(RAX, width, low);
            self.set_register(RDX, width, high);
        }
        let after = if significant { flags::CF | flags::OF } else { 0 };
        write_flags(self.machine.state, flags::CF | flags::OF, after);
        Ok(())
    }

    /// DIV and IDIV.
    pub fn divide(&mut self, instruction: &Instruction, signed: bool) -> Result<(), Break> {
        let width = self.width(instruction, 0)?;
        let divisor = self.value(instruction, 0)?;
        let (low, high) = match width {
            1 => (self.register(RAX), self.register(RAX) >> 8),
            _ => (self.register(RAX), self.register(RDX)),
        };
        let (quotient, remainder) =
            compute::divide(signed, high, low, divisor, width).ok_or(Break::plain(vector::DIVIDE))?;
        if width == 1 {
            self.set_register(RAX, 2, remainder << 8 | quotient);
        } else {
            self.set_register(RAX, width, quotient);
            self.set_register(RDX, width, remainder);
        }
        Ok(())
    }

    /// XADD.
    pub fn exchange_add(&mut self, instruction: &Instruction) -> Result<(), Break> {
        let width = self.width(instruction, 0)?;
        let addend = self.value(instruction, 1)?;
        let location = self.location(instruction, 0, width, Access::Write)?;
        let sum = |value| alu::compute(Alu::Add, value, addend, width, 0);
        let before = self.update(&location, width, instruction.has_lock_prefix(), |value| sum(value).0)?;
        // If both operands are one register, the sum is what stays.
        self.store(instruction, 1, before)?;
        if let OpKind::Register = instruction.op0_kind() {
            self.write(&location, width, sum(before).0);
        }
        write_flags(self.machine.state, flags::ARITHMETIC, sum(before).1);
        Ok(())
    }

    /// XCHG, which is locked with or without a prefix.
    pub fn exchange(&mut self, instruction: &Instruction) -> Result<(), Break> {
        let width = self.width(instruction, 0)?;
        let given = self.value(instruction, 1)?;
        let location = self.location(instruction, 0, width, Access::Write)?;
        let before = self.update(&location, width, true, |_| given)?;
        self.store(instruction, 1, before)
    }

    /// CMPXCHG.
    pub fn compare_exchange(&mut self, instruction: &Instruction) -> Result<(), Break> {
        let width = self.width(instruction, 0)?;
        let given = self.value(instruction, 1)?;
        let location = self.location(instruction, 0, width, Access::Write)?;
        let expected = self.register(RAX) & mask(width);
        let locked = instruction.has_lock_prefix();
        let before = self.update(&location, width, locked, |value| if value == expected { given } else { value })?;
        if before != expected {
            self.set_register(RAX, width, before);
        }
        let (_, after) = alu::compute(Alu::Subtract, expected, before, width, 0);
        write_flags(self.machine.state, flags::ARITHMETIC, after);
        Ok(())
    }

    /// CMPXCHG8B. Its two words are not changed in one step.
    pub fn compare_exchange_8_bytes(&mut self, instruction: &Instruction) -> Result<(), Break> {
        if instruction.op0_kind() != OpKind::Memory {
            return Err(Break::UNDEFINED);
        }
        let place = self.place(self.address(instruction)?, 8, Access::Write)?;
        let before = self.machine.read(&place);
        let pair = |interpreter: &Self, high, low| {
            (interpreter.register(high) & mask(4)) << 32 | interpreter.register(low) & mask(4)
        };
        let equal = before == pair(self, RDX, RAX);
        let after = if equal { pair(self, RCX, RBX) } else { before };
        self.machine.write(&place, after);
        if !equal {
            self.set_register(RAX, 4, before);
            self.set_register(RDX, 4, before >> 32);
        }
        write_flags(self.machine.state, flags::ZF, if equal { flags::ZF } else { 0 });
        Ok(())
    }
}
