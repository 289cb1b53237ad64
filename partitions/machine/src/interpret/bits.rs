//! Bit tests and scans.

use super::interpreter::Interpreter;
use super::operand::Location;
use super::{Break, Environment};
use crate::emulate::Access;
use crate::emulate::alu::{self, result_flags};
use crate::emulate::instruction::BitChange;
use crate::emulate::registers::{flags, mask, write_flags};
use crate::memory::GuestMemory;
use iced_x86::{Instruction, OpKind};

impl<M: GuestMemory, E: Environment> Interpreter<'_, M, E> {
    /// BT, BTS, BTR, BTC.
    pub fn bit_test(&mut self, instruction: &Instruction, change: BitChange) -> Result<(), Break> {
        let width = self.width(instruction, 0)?;
        let bits = 8 * i64::from(width);
        let position = alu::sign_extend(self.value(instruction, 1)?, width) as i64;
        let access = if change == BitChange::None { Access::Read } else { Access::Write };
        let location = match (instruction.op0_kind(), instruction.op1_kind()) {
            // A register counts bits from the operand's address, in both directions.
            (OpKind::Memory, OpKind::Register) => {
                let bytes = position.div_euclid(bits).wrapping_mul(i64::from(width));
                Location::Memory(self.place(self.address(instruction)?.plus(bytes as u64), width, access)?)
            }
            _ => self.location(instruction, 0, width, access)?,
        };
        let bit = 1u64 << position.rem_euclid(bits);
        let before = match change {
            BitChange::None => self.read(&location, width),
            _ => self.update(&location, width, instruction.has_lock_prefix(), |value| match change {
                BitChange::Set => value | bit,
                BitChange::Reset => value & !bit,
                _ => value ^ bit,
            })?,
        };
        write_flags(self.machine.state, flags::CF, if before & bit != 0 { flags::CF } else { 0 });
        Ok(())
    }

    /// BSF, or BSR if `reverse`. If there is no bit, the destination stays as it was, as on every processor.
    pub fn bit_scan(&mut self, instruction: &Instruction, reverse: bool) -> Result<(), Break> {
        let value = self.value(instruction, 1)?;
        if value == 0 {
            write_flags(self.machine.state, flags::ZF, flags::ZF);
            return Ok(());
        }
        let position = if reverse { value.ilog2() } else { value.trailing_zeros() };
        self.store(instruction, 0, position.into())?;
        write_flags(self.machine.state, flags::ZF, 0);
        Ok(())
    }

    /// POPCNT.
    pub fn population_count(&mut self, instruction: &Instruction) -> Result<(), Break> {
        let value = self.value(instruction, 1)?;
        self.store(instruction, 0, value.count_ones().into())?;
        let zero = result_flags(value, 4) & flags::ZF;
        write_flags(self.machine.state, flags::ARITHMETIC, zero);
        Ok(())
    }

    /// BSWAP. Of 16-bit registers, for which it is undefined, processors make 0.
    pub fn byte_swap(&mut self, instruction: &Instruction) -> Result<(), Break> {
        let value = self.value(instruction, 0)?;
        let swapped = match self.width(instruction, 0)? {
            2 => 0,
            _ => u64::from((value & mask(4)) as u32).swap_bytes() >> 32,
        };
        self.store(instruction, 0, swapped)
    }
}
