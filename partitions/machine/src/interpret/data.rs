//! Moves, conversions, flags, string instructions, ports.

use super::interpreter::{Completion, Interpreter, interruptibility};
use super::operand::Address;
use super::{Break, Environment, vector};
use crate::emulate::alu;
use crate::emulate::decode::{convert, segment_index};
use crate::emulate::execute::Progress;
use crate::emulate::instruction::{Condition, Operation};
use crate::emulate::pio::transfer;
use crate::emulate::registers::{flags, mask, write_flags};
use crate::emulate::{PioExit, strings};
use crate::memory::GuestMemory;
use bulkhead_abi::register::{RAX, RBX, RDX};
use bulkhead_abi::segment;
use iced_x86::{Instruction, Mnemonic, OpKind, Register};

/// What SAHF loads and LAHF stores.
const LOW_FLAGS: u64 = flags::CF | flags::PF | flags::AF | flags::ZF | flags::SF;

impl<M: GuestMemory, E: Environment> Interpreter<'_, M, E> {
    /// MOV in all its forms.
    pub fn mov(&mut self, instruction: &Instruction) -> Result<(), Break> {
        let (target, source) = (instruction.op0_register(), instruction.op1_register());
        if let (OpKind::Register, Some(index)) = (instruction.op0_kind(), segment_index(target)) {
            let selector = self.value(instruction, 1)? as u16;
            return self.move_to_segment(usize::from(index), selector);
        }
        if let (OpKind::Register, Some(index)) = (instruction.op1_kind(), segment_index(source)) {
            let selector = self.machine.state.segments[usize::from(index & 7)].selector;
            return self.store(instruction, 0, selector);
        }
        if is_system(target) || is_system(source) {
            return self.move_system_register(instruction);
        }
        let value = self.value(instruction, 1)?;
        self.store(instruction, 0, value)
    }

    /// MOV to a segment register, and POP of one.
    pub fn move_to_segment(&mut self, index: usize, selector: u16) -> Result<(), Break> {
        if index == segment::CS {
            return Err(Break::UNDEFINED);
        }
        self.load_segment(index, selector)?;
        if index == segment::SS {
            self.shadow = interruptibility::MOV_SS;
        }
        Ok(())
    }

    /// MOVZX, MOVSX.
    pub fn move_extended(&mut self, instruction: &Instruction, signed: bool) -> Result<(), Break> {
        let width = self.width(instruction, 1)?;
        let value = self.value(instruction, 1)?;
        self.store(instruction, 0, if signed { alu::sign_extend(value, width) } else { value })
    }

    /// MOVBE.
    pub fn move_swapped(&mut self, instruction: &Instruction) -> Result<(), Break> {
        let width = self.width(instruction, 0)?;
        let value = self.value(instruction, 1)?;
        self.store(instruction, 0, value.swap_bytes() >> (64 - 8 * u32::from(width)))
    }

    /// CMOVcc: the source is read in any case.
    pub fn move_if(&mut self, instruction: &Instruction, condition: Condition) -> Result<(), Break> {
        let value = self.value(instruction, 1)?;
        if alu::holds(condition, self.machine.state.rflags) {
            self.store(instruction, 0, value)?;
        }
        Ok(())
    }

    /// SETcc.
    pub fn set_if(&mut self, instruction: &Instruction, condition: Condition) -> Result<(), Break> {
        let holds = alu::holds(condition, self.machine.state.rflags);
        self.store(instruction, 0, holds.into())
    }

    /// LEA.
    pub fn load_address(&mut self, instruction: &Instruction) -> Result<(), Break> {
        if instruction.op1_kind() != OpKind::Memory {
            return Err(Break::UNDEFINED);
        }
        let address = self.address(instruction)?;
        self.store(instruction, 0, address.offset)
    }

    /// LDS, LES, LFS, LGS, LSS.
    pub fn load_far_pointer(&mut self, instruction: &Instruction, index: usize) -> Result<(), Break> {
        let width = self.width(instruction, 0)?;
        let address = self.address(instruction)?;
        let offset = self.read_at(address, width)?;
        let selector = self.read_at(address.plus(width.into()), 2)? as u16;
        self.load_segment(index, selector)?;
        self.store(instruction, 0, offset)
    }

    /// XLAT.
    pub fn translate(&mut self, instruction: &Instruction) -> Result<(), Break> {
        let width = match instruction.memory_base() {
            Register::BX => 2,
            _ => 4,
        };
        let segment = segment_index(instruction.memory_segment()).ok_or(Break::Unsupported)?;
        let offset = self.register(RBX).wrapping_add(self.register(RAX) & mask(1)) & mask(width);
        let value = self.read_at(Address { segment, offset, width }, 1)?;
        self.set_register(RAX, 1, value);
        Ok(())
    }

    /// CBW, CWDE, CWD, CDQ.
    pub fn convert_sign(&mut self, mnemonic: Mnemonic) {
        let value = self.register(RAX);
        match mnemonic {
            Mnemonic::Cbw => self.set_register(RAX, 2, alu::sign_extend(value, 1)),
            Mnemonic::Cwde => self.set_register(RAX, 4, alu::sign_extend(value, 2)),
            Mnemonic::Cwd => self.set_register(RDX, 2, alu::sign_extend(value, 2) >> 16),
            _ => self.set_register(RDX, 4, alu::sign_extend(value, 4) >> 32),
        }
    }

    /// LAHF.
    pub fn load_flags(&mut self) {
        let ah = self.machine.state.rflags & LOW_FLAGS | 1 << 1;
        let ax = self.register(RAX) & mask(1) | ah << 8;
        self.set_register(RAX, 2, ax);
    }

    /// SAHF.
    pub fn store_flags(&mut self) {
        let ah = self.register(RAX) >> 8;
        write_flags(self.machine.state, LOW_FLAGS, ah);
    }

    /// SALC, which is not documented: AL is all ones if CF is set, else 0.
    pub fn set_by_carry(&mut self) {
        let carry = self.machine.state.rflags & flags::CF;
        self.set_register(RAX, 1, 0u64.wrapping_sub(carry));
    }

    /// Sets or clears one flag.
    pub fn set_flag(&mut self, flag: u64, set: bool) {
        write_flags(self.machine.state, flag, if set { flag } else { 0 });
    }

    /// BOUND.
    pub fn bound(&mut self, instruction: &Instruction) -> Result<(), Break> {
        let width = self.width(instruction, 0)?;
        let address = self.address(instruction)?;
        let signed = |value| alu::sign_extend(value, width) as i64;
        let index = signed(self.value(instruction, 0)?);
        let low = signed(self.read_at(address, width)?);
        let high = signed(self.read_at(address.plus(width.into()), width)?);
        if index < low || index > high { Err(Break::plain(vector::BOUND)) } else { Ok(()) }
    }

    /// Whether an exception leaves the iterations done before.
    pub fn is_string(instruction: &Instruction) -> bool {
        string_port(instruction.mnemonic()).is_some()
            || matches!(crate::emulate::decode::operation_of(instruction.mnemonic()), Some(Operation::String(_)))
    }

    /// MOVS, STOS, LODS, CMPS, SCAS.
    pub fn string(&mut self, instruction: &Instruction) -> Result<Completion, Break> {
        let decoded = convert(instruction, self.machine.mode).ok_or(Break::Unsupported)?;
        let Operation::String(operation) = decoded.operation else {
            return Err(Break::Unsupported);
        };
        if let Some(completion) = self.string_in_bulk(&decoded, operation)? {
            return Ok(completion);
        }
        Ok(match strings::execute(&mut self.machine, &decoded, operation)? {
            Progress::Complete => Completion::Next,
            Progress::Partial => Completion::Partial,
        })
    }

    /// INS, OUTS.
    pub fn port_string(&mut self, instruction: &Instruction, input: bool, size: u8) -> Result<Completion, Break> {
        let memory = if input { instruction.op0_kind() } else { instruction.op1_kind() };
        let address_width = match memory {
            OpKind::MemoryESDI | OpKind::MemorySegSI => 2,
            _ => 4,
        };
        let segment = segment_index(instruction.memory_segment()).unwrap_or(segment::ES as u8);
        let repeated = instruction.has_rep_prefix() || instruction.has_repne_prefix();
        let port = self.register(RDX) as u16;
        let exit = PioExit { port, size, input, string: true, repeated };
        let complete = transfer(&mut self.machine, exit, address_width, segment)?;
        Ok(if complete { Completion::Next } else { Completion::Partial })
    }

    /// IN. The port is an immediate byte or DX.
    pub fn port_in(&mut self, instruction: &Instruction) -> Result<(), Break> {
        let width = self.width(instruction, 0)?;
        let port = self.value(instruction, 1)? as u16;
        let value = self.machine.device.input(port, width);
        self.store(instruction, 0, value.into())
    }

    /// OUT.
    pub fn port_out(&mut self, instruction: &Instruction) -> Result<(), Break> {
        let width = self.width(instruction, 1)?;
        let port = self.value(instruction, 0)? as u16;
        let value = self.value(instruction, 1)?;
        self.machine.device.output(port, width, value as u32);
        Ok(())
    }
}

/// Whether an INS or OUTS is input, and the bytes of its element.
pub fn string_port(mnemonic: Mnemonic) -> Option<(bool, u8)> {
    Some(match mnemonic {
        Mnemonic::Insb => (true, 1),
        Mnemonic::Insw => (true, 2),
        Mnemonic::Insd => (true, 4),
        Mnemonic::Outsb => (false, 1),
        Mnemonic::Outsw => (false, 2),
        Mnemonic::Outsd => (false, 4),
        _ => return None,
    })
}

/// Whether it is a control, debug or test register.
fn is_system(register: Register) -> bool {
    let within = |first: Register, last: Register| (first as u32..=last as u32).contains(&(register as u32));
    within(Register::CR0, Register::CR15)
        || within(Register::DR0, Register::DR15)
        || within(Register::TR0, Register::TR7)
}
