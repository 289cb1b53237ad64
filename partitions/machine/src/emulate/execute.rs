//! Executes a decoded instruction with one memory operand.

use super::alu;
use super::instruction::{Alu, BitChange, Decoded, Operand, Operation, RegisterOperand};
use super::operand::{Machine, Place};
use super::registers::{flags, mask, read_register, write_flags, write_register};
use super::walk::Access;
use super::{Mmio, Stop, strings};
use crate::memory::GuestMemory;
use bulkhead_abi::{StateGroups, register, segment};

/// Whether an instruction is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It is.
    Complete,
    /// A repeated one has iterations left.
    Partial,
}

const RAX: u8 = register::RAX as u8;
const RDX: u8 = register::RDX as u8;

impl<M: GuestMemory, D: Mmio> Machine<'_, M, D> {
    /// Reads a register operand; bits above its width are of no meaning.
    pub fn register(&self, operand: RegisterOperand) -> u64 {
        if operand.high {
            read_register(self.state, operand.index) >> 8
        } else {
            read_register(self.state, operand.index)
        }
    }

    /// Writes the low `width` bytes of `value` to a register operand.
    pub fn set_register(&mut self, operand: RegisterOperand, width: u8, value: u64) {
        if operand.high {
            let old = read_register(self.state, operand.index);
            write_register(self.state, operand.index, 2, old & 0xff | (value & 0xff) << 8);
        } else {
            write_register(self.state, operand.index, width, value);
        }
    }

    fn operand_place(&self, decoded: &Decoded, size: u8, access: Access) -> Result<Place, Stop> {
        let offset = decoded.memory.offset(self.state, decoded.address_width);
        self.locate(decoded.memory.segment, offset, size, access)
    }

    /// Executes `decoded`; changes nothing of the guest's registers when it stops with an exception.
    #[inline]
    pub fn execute(&mut self, decoded: &Decoded) -> Result<Progress, Stop> {
        match (decoded.operation, decoded.destination, decoded.source) {
            (Operation::Move, Operand::Register(target), Operand::Memory) => {
                let place = self.operand_place(decoded, decoded.width, Access::Read)?;
                let value = self.read(&place);
                self.set_register(target, decoded.width, value);
                Ok(Progress::Complete)
            }
            (Operation::Move, Operand::Memory, source) => {
                let place = self.operand_place(decoded, decoded.width, Access::Write)?;
                let value = self.value(source)?;
                self.write(&place, value);
                Ok(Progress::Complete)
            }
            (Operation::String(operation), ..) => strings::execute(self, decoded, operation),
            (Operation::Nothing, ..) => Ok(Progress::Complete),
            _ => self.execute_other(decoded).map(|()| Progress::Complete),
        }
    }

    /// The value of an operand that is not in memory.
    fn value(&self, operand: Operand) -> Result<u64, Stop> {
        match operand {
            Operand::Register(register) => Ok(self.register(register)),
            Operand::Immediate(value) => Ok(value),
            Operand::Memory | Operand::None => Err(Stop::Unsupported),
        }
    }

    fn execute_other(&mut self, decoded: &Decoded) -> Result<(), Stop> {
        let width = decoded.width;
        match decoded.operation {
            Operation::MoveZeroExtend | Operation::MoveSignExtend | Operation::MoveSwapped => {
                self.move_changed(decoded)
            }
            Operation::Alu(operation) => self.arithmetic(decoded, operation, true),
            Operation::Compare(operation) => self.arithmetic(decoded, operation, false),
            Operation::Increment | Operation::Decrement => {
                let operation = if decoded.operation == Operation::Increment { Alu::Add } else { Alu::Subtract };
                self.modify(decoded, flags::ARITHMETIC & !flags::CF, |value, before| {
                    alu::compute(operation, value, 1, width, before)
                })
            }
            Operation::Not => self.modify(decoded, 0, |value, before| (!value, before)),
            Operation::Negate => self.modify(decoded, flags::ARITHMETIC, |value, before| {
                alu::compute(Alu::Subtract, 0, value, width, before)
            }),
            Operation::Shift(operation) => {
                let count = self.value(decoded.source)?;
                let place = self.operand_place(decoded, width, Access::Write)?;
                let value = self.read(&place);
                let (result, after, changed) = alu::shift(operation, value, count, width, self.state.rflags);
                self.write(&place, result);
                write_flags(self.state, changed, after);
                Ok(())
            }
            Operation::Exchange | Operation::ExchangeAdd => self.exchange(decoded),
            Operation::CompareExchange => self.compare_exchange(decoded),
            Operation::CompareExchange8Bytes => self.compare_exchange_8_bytes(decoded),
            Operation::BitTest(change) => self.bit_test(decoded, change),
            Operation::MultiplySigned => self.multiply(decoded),
            Operation::ConditionalMove(condition) => {
                let Operand::Register(target) = decoded.destination else {
                    return Err(Stop::Unsupported);
                };
                let place = self.operand_place(decoded, width, Access::Read)?;
                let value = self.read(&place);
                let value = if alu::holds(condition, self.state.rflags) { value } else { self.register(target) };
                self.set_register(target, width, value);
                Ok(())
            }
            Operation::ConditionalSet(condition) => {
                let place = self.operand_place(decoded, width, Access::Write)?;
                self.write(&place, alu::holds(condition, self.state.rflags).into());
                Ok(())
            }
            Operation::Push => self.push(decoded),
            Operation::Pop => self.pop(decoded),
            Operation::Move | Operation::String(_) | Operation::Nothing => Err(Stop::Unsupported),
        }
    }

    /// Reads the operand, computes, writes it back, and sets the flags in `changed`.
    fn modify(
        &mut self,
        decoded: &Decoded,
        changed: u64,
        compute: impl FnOnce(u64, u64) -> (u64, u64),
    ) -> Result<(), Stop> {
        let place = self.operand_place(decoded, decoded.width, Access::Write)?;
        let value = self.read(&place);
        let (result, after) = compute(value, self.state.rflags);
        self.write(&place, result);
        write_flags(self.state, changed, after);
        Ok(())
    }

    fn arithmetic(&mut self, decoded: &Decoded, operation: Alu, store: bool) -> Result<(), Stop> {
        let width = decoded.width;
        if decoded.destination == Operand::Memory {
            let right = self.value(decoded.source)?;
            let access = if store { Access::Write } else { Access::Read };
            let place = self.operand_place(decoded, width, access)?;
            let left = self.read(&place);
            let (result, after) = alu::compute(operation, left, right, width, self.state.rflags);
            if store {
                self.write(&place, result);
            }
            write_flags(self.state, flags::ARITHMETIC, after);
            return Ok(());
        }
        let Operand::Register(target) = decoded.destination else {
            return Err(Stop::Unsupported);
        };
        let place = self.operand_place(decoded, width, Access::Read)?;
        let right = self.read(&place);
        let (result, after) = alu::compute(operation, self.register(target), right, width, self.state.rflags);
        if store {
            self.set_register(target, width, result);
        }
        write_flags(self.state, flags::ARITHMETIC, after);
        Ok(())
    }

    fn move_changed(&mut self, decoded: &Decoded) -> Result<(), Stop> {
        let width = decoded.width;
        let swap = |value: u64| value.swap_bytes() >> (64 - 8 * u32::from(width));
        if decoded.destination == Operand::Memory {
            let value = self.value(decoded.source)?;
            let place = self.operand_place(decoded, width, Access::Write)?;
            self.write(&place, swap(value));
            return Ok(());
        }
        let Operand::Register(target) = decoded.destination else {
            return Err(Stop::Unsupported);
        };
        let place = self.operand_place(decoded, width, Access::Read)?;
        let value = self.read(&place);
        let value = match decoded.operation {
            Operation::MoveSignExtend => alu::sign_extend(value, width),
            Operation::MoveSwapped => swap(value),
            _ => value,
        };
        self.set_register(target, decoded.wide, value);
        Ok(())
    }

    fn exchange(&mut self, decoded: &Decoded) -> Result<(), Stop> {
        let ((Operand::Register(other), _) | (_, Operand::Register(other))) = (decoded.source, decoded.destination)
        else {
            return Err(Stop::Unsupported);
        };
        let width = decoded.width;
        let place = self.operand_place(decoded, width, Access::Write)?;
        let value = self.read(&place);
        let given = self.register(other);
        if decoded.operation == Operation::ExchangeAdd {
            let (sum, after) = alu::compute(Alu::Add, value, given, width, 0);
            self.write(&place, sum);
            write_flags(self.state, flags::ARITHMETIC, after);
        } else {
            self.write(&place, given);
        }
        self.set_register(other, width, value);
        Ok(())
    }

    fn compare_exchange(&mut self, decoded: &Decoded) -> Result<(), Stop> {
        let Operand::Register(new) = decoded.source else {
            return Err(Stop::Unsupported);
        };
        let width = decoded.width;
        let place = self.operand_place(decoded, width, Access::Write)?;
        let value = self.read(&place);
        let expected = read_register(self.state, RAX);
        let (difference, after) = alu::compute(Alu::Subtract, expected, value, width, 0);
        if difference == 0 {
            let new = self.register(new);
            self.write(&place, new);
        } else {
            // The processor writes the old value back.
            self.write(&place, value);
            write_register(self.state, RAX, width, value);
        }
        write_flags(self.state, flags::ARITHMETIC, after);
        Ok(())
    }

    fn compare_exchange_8_bytes(&mut self, decoded: &Decoded) -> Result<(), Stop> {
        let place = self.operand_place(decoded, 8, Access::Write)?;
        let value = self.read(&place);
        let pair =
            |high, low| (read_register(self.state, high) & mask(4)) << 32 | read_register(self.state, low) & mask(4);
        let expected = pair(RDX, RAX);
        let new = pair(register::RCX as u8, register::RBX as u8);
        if value == expected {
            self.write(&place, new);
            write_flags(self.state, flags::ZF, flags::ZF);
        } else {
            self.write(&place, value);
            write_register(self.state, RAX, 4, value);
            write_register(self.state, RDX, 4, value >> 32);
            write_flags(self.state, flags::ZF, 0);
        }
        Ok(())
    }

    fn bit_test(&mut self, decoded: &Decoded, change: BitChange) -> Result<(), Stop> {
        let width = decoded.width;
        let bits = 8 * u64::from(width);
        let mut offset = decoded.memory.offset(self.state, decoded.address_width);
        let position = match decoded.source {
            Operand::Register(register) => {
                // A register counts bits from the operand's address, in both directions.
                let position = alu::sign_extend(self.register(register), width) as i64;
                let bytes = position.div_euclid(bits as i64).wrapping_mul(i64::from(width));
                offset = offset.wrapping_add(bytes as u64) & mask(decoded.address_width);
                position.rem_euclid(bits as i64) as u64
            }
            Operand::Immediate(position) => position & (bits - 1),
            _ => return Err(Stop::Unsupported),
        };
        let access = if change == BitChange::None { Access::Read } else { Access::Write };
        let place = self.locate(decoded.memory.segment, offset, width, access)?;
        let value = self.read(&place);
        let bit = 1u64 << (position & 63);
        match change {
            BitChange::None => (),
            BitChange::Set => self.write(&place, value | bit),
            BitChange::Reset => self.write(&place, value & !bit),
            BitChange::Complement => self.write(&place, value ^ bit),
        }
        write_flags(self.state, flags::CF, if value & bit != 0 { flags::CF } else { 0 });
        Ok(())
    }

    /// The two- and three-operand forms; the one-operand form has a memory destination and is not emulated.
    fn multiply(&mut self, decoded: &Decoded) -> Result<(), Stop> {
        let (Operand::Register(target), Operand::Memory) = (decoded.destination, decoded.source) else {
            return Err(Stop::Unsupported);
        };
        let width = decoded.width;
        let factor = match decoded.third {
            Operand::Immediate(factor) => factor,
            _ => self.register(target),
        };
        let place = self.operand_place(decoded, width, Access::Read)?;
        let value = self.read(&place);
        let (result, after) = alu::multiply_signed(value, factor, width);
        self.set_register(target, width, result);
        write_flags(self.state, flags::CF | flags::OF, after);
        Ok(())
    }

    /// Bytes of the stack pointer in use.
    pub fn stack_width(&self) -> u8 {
        const BIG: u32 = 1 << 14;
        match self.mode {
            super::Mode::Bits64 => 8,
            _ if self.state.segments[segment::SS].access & BIG != 0 => 4,
            _ => 2,
        }
    }

    fn push(&mut self, decoded: &Decoded) -> Result<(), Stop> {
        let width = decoded.width;
        let source = self.operand_place(decoded, width, Access::Read)?;
        let pointer_width = self.stack_width();
        let pointer = self.state.rsp.wrapping_sub(u64::from(width)) & mask(pointer_width);
        let stack = self.locate(segment::SS as u8, pointer, width, Access::Write)?;
        let value = self.read(&source);
        self.write(&stack, value);
        write_register(self.state, register::RSP as u8, pointer_width, pointer);
        Ok(())
    }

    fn pop(&mut self, decoded: &Decoded) -> Result<(), Stop> {
        let width = decoded.width;
        let pointer_width = self.stack_width();
        let pointer = self.state.rsp & mask(pointer_width);
        let stack = self.locate(segment::SS as u8, pointer, width, Access::Read)?;
        // The address of the destination is computed with the stack pointer already moved.
        let before = self.state.rsp;
        write_register(self.state, register::RSP as u8, pointer_width, pointer.wrapping_add(u64::from(width)));
        let target = match self.operand_place(decoded, width, Access::Write) {
            Ok(target) => target,
            Err(stop) => {
                self.state.rsp = before;
                self.state.dirty |= StateGroups::RSP.bits();
                return Err(stop);
            }
        };
        let value = self.read(&stack);
        self.write(&target, value);
        Ok(())
    }
}
