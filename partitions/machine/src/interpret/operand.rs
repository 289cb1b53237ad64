//! Operands of an instruction: registers, memory, immediates.

use super::interpreter::Interpreter;
use super::{Break, Environment};
use crate::emulate::Access;
use crate::emulate::decode::{general, memory_of};
use crate::emulate::instruction::RegisterOperand;
use crate::emulate::operand::Place;
use crate::emulate::registers::{mask, read_register, write_register};
use crate::memory::{GuestLinear, GuestMemory};
use iced_x86::{Instruction, OpKind};

/// Attempts of a locked instruction before it starts again.
const ATTEMPTS: u32 = 64;

/// Where an operand is.
#[derive(Clone, Copy, Debug)]
pub enum Location {
    /// In a general register.
    Register(RegisterOperand),
    /// In memory, checked for the access.
    Memory(Place),
}

/// The address of a memory operand.
#[derive(Clone, Copy, Debug)]
pub struct Address {
    /// Segment, in encoding order.
    pub segment: u8,
    /// Offset in it.
    pub offset: u64,
    /// Bytes of an address, at which the offset wraps.
    pub width: u8,
}

impl Address {
    /// The address `bytes` further on.
    pub const fn plus(self, bytes: u64) -> Self {
        Self { offset: self.offset.wrapping_add(bytes) & mask(self.width), ..self }
    }
}

impl<M: GuestMemory, E: Environment> Interpreter<'_, M, E> {
    /// Reads a general register in encoding order; all of its bits.
    pub fn register(&self, index: usize) -> u64 {
        read_register(self.machine.state, index as u8)
    }

    /// Writes the low `width` bytes of a general register.
    pub fn set_register(&mut self, index: usize, width: u8, value: u64) {
        write_register(self.machine.state, index as u8, width, value);
    }

    /// Where the memory operand is.
    pub fn address(&self, instruction: &Instruction) -> Result<Address, Break> {
        let (operand, width) = memory_of(instruction, self.machine.mode).ok_or(Break::Unsupported)?;
        let offset = operand.offset(self.machine.state, width);
        Ok(Address { segment: operand.segment, offset, width })
    }

    /// Checks an access of `size` bytes.
    pub fn place(&self, address: Address, size: u8, access: Access) -> Result<Place, Break> {
        Ok(self.machine.locate(address.segment, address.offset, size, access)?)
    }

    /// Reads `size` bytes of memory.
    pub fn read_at(&mut self, address: Address, size: u8) -> Result<u64, Break> {
        let place = self.place(address, size, Access::Read)?;
        Ok(self.machine.read(&place))
    }

    /// Writes `size` bytes of memory.
    pub fn write_at(&mut self, address: Address, size: u8, value: u64) -> Result<(), Break> {
        let place = self.place(address, size, Access::Write)?;
        self.machine.write(&place, value);
        Ok(())
    }

    /// The place of `size` bytes that the processor itself accesses: descriptor tables, task state.
    pub fn system_place(&self, linear: u64, size: u8) -> Result<Place, Break> {
        Ok(self.machine.place(GuestLinear(linear & mask(4)), size, Access::Read)?)
    }

    /// Reads `size` bytes that the processor itself accesses.
    pub fn read_system(&mut self, linear: u64, size: u8) -> Result<u64, Break> {
        let place = self.system_place(linear, size)?;
        Ok(self.machine.read(&place))
    }

    /// The bytes of operand `index`.
    pub fn width(&self, instruction: &Instruction, index: u32) -> Result<u8, Break> {
        match instruction.op_kind(index) {
            OpKind::Register => general(instruction.op_register(index)).map(|(_, width)| width),
            OpKind::Memory => crate::emulate::decode::width_of(instruction.memory_size()),
            _ => None,
        }
        .ok_or(Break::Unsupported)
    }

    /// Where operand `index` of `width` bytes is.
    pub fn location(
        &self,
        instruction: &Instruction,
        index: u32,
        width: u8,
        access: Access,
    ) -> Result<Location, Break> {
        match instruction.op_kind(index) {
            OpKind::Register => {
                let (register, _) = general(instruction.op_register(index)).ok_or(Break::Unsupported)?;
                Ok(Location::Register(register))
            }
            OpKind::Memory => Ok(Location::Memory(self.place(self.address(instruction)?, width, access)?)),
            _ => Err(Break::Unsupported),
        }
    }

    /// Reads `width` bytes.
    pub fn read(&mut self, location: &Location, width: u8) -> u64 {
        match location {
            Location::Register(register) => self.machine.register(*register) & mask(width),
            Location::Memory(place) => self.machine.read(place),
        }
    }

    /// Writes `width` bytes.
    pub fn write(&mut self, location: &Location, width: u8, value: u64) {
        match location {
            Location::Register(register) => self.machine.set_register(*register, width, value),
            Location::Memory(place) => self.machine.write(place, value & mask(width)),
        }
    }

    /// The value of operand `index`; immediates are sign-extended.
    pub fn value(&mut self, instruction: &Instruction, index: u32) -> Result<u64, Break> {
        match instruction.op_kind(index) {
            OpKind::Register | OpKind::Memory => {
                let width = self.width(instruction, index)?;
                let location = self.location(instruction, index, width, Access::Read)?;
                Ok(self.read(&location, width))
            }
            OpKind::Immediate8
            | OpKind::Immediate8_2nd
            | OpKind::Immediate16
            | OpKind::Immediate32
            | OpKind::Immediate8to16
            | OpKind::Immediate8to32 => Ok(instruction.immediate(index)),
            _ => Err(Break::Unsupported),
        }
    }

    /// Writes operand `index`.
    pub fn store(&mut self, instruction: &Instruction, index: u32, value: u64) -> Result<(), Break> {
        let width = self.width(instruction, index)?;
        let location = self.location(instruction, index, width, Access::Write)?;
        self.write(&location, width, value);
        Ok(())
    }

    /// Replaces the value at `location` by what `change` makes of it, and returns the value before. `locked`: in one step as other
    /// processors see it, if the operand is within an aligned word of RAM.
    pub fn update(
        &mut self,
        location: &Location,
        width: u8,
        locked: bool,
        change: impl Fn(u64) -> u64,
    ) -> Result<u64, Break> {
        if let (Location::Memory(place), true) = (location, locked)
            && let Some((word, shift)) = self.machine.word(place)
        {
            let hole = (mask(width) as u32) << shift;
            for _ in 0..ATTEMPTS {
                let Ok(before) = self.machine.memory.read_u32(word) else {
                    return Err(Break::Unsupported);
                };
                let value = u64::from((before & hole) >> shift);
                let after = before & !hole | (change(value) as u32) << shift & hole;
                if self.machine.memory.replace_u32(word, before, after) == Ok(true) {
                    return Ok(value);
                }
            }
            return Err(Break::Again);
        }
        let before = self.read(location, width);
        self.write(location, width, change(before));
        Ok(before)
    }
}
