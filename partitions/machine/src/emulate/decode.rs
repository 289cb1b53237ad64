//! Instruction bytes to [`Decoded`].

use super::fetch::LONGEST;
use super::instruction::{
    Alu, Base, BitChange, Condition, Decoded, MemoryOperand, Mode, Operand, Operation, RegisterOperand, Repeat, Shift,
    StringOperation,
};
use bulkhead_abi::segment;
use iced_x86::{Decoder, DecoderError, DecoderOptions, Instruction, MemorySize, Mnemonic, OpKind, Register};

/// Why bytes are not a [`Decoded`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The instruction is longer than the bytes.
    Incomplete,
    /// No instruction.
    Invalid,
    /// An instruction that is not emulated.
    Unsupported,
}

/// The instruction that `bytes` start with, in iced-x86's terms; branch targets are relative to its first byte.
pub fn instruction(bytes: &[u8], mode: Mode) -> Result<Instruction, DecodeError> {
    let mut decoder = Decoder::new(mode as u32, bytes, DecoderOptions::NONE);
    let instruction = decoder.decode();
    match decoder.last_error() {
        DecoderError::None => Ok(instruction),
        DecoderError::NoMoreBytes => Err(DecodeError::Incomplete),
        // It would go on beyond the longest there is.
        _ if decoder.position() >= LONGEST => Err(DecodeError::Incomplete),
        _ => Err(DecodeError::Invalid),
    }
}

/// Decodes the instruction that `bytes` start with.
pub fn decode(bytes: &[u8], mode: Mode) -> Result<Decoded, DecodeError> {
    convert(&instruction(bytes, mode)?, mode).ok_or(DecodeError::Unsupported)
}

/// The general register, and its bytes.
pub fn general(register: Register) -> Option<(RegisterOperand, u8)> {
    let within = |first: Register| (register as u32).wrapping_sub(first as u32) as u8;
    let number = register as u32;
    let plain = |index| RegisterOperand { index, high: false };
    Some(if number >= Register::AL as u32 && number <= Register::BL as u32 {
        (plain(within(Register::AL)), 1)
    } else if number >= Register::AH as u32 && number <= Register::BH as u32 {
        (RegisterOperand { index: within(Register::AH), high: true }, 1)
    } else if number >= Register::SPL as u32 && number <= Register::R15L as u32 {
        (plain(within(Register::SPL) + 4), 1)
    } else if number >= Register::AX as u32 && number <= Register::R15W as u32 {
        (plain(within(Register::AX)), 2)
    } else if number >= Register::EAX as u32 && number <= Register::R15D as u32 {
        (plain(within(Register::EAX)), 4)
    } else if number >= Register::RAX as u32 && number <= Register::R15 as u32 {
        (plain(within(Register::RAX)), 8)
    } else {
        return None;
    })
}

/// The index of a segment register in encoding order.
pub fn segment_index(register: Register) -> Option<u8> {
    Some(match register {
        Register::ES => segment::ES,
        Register::CS => segment::CS,
        Register::SS => segment::SS,
        Register::DS => segment::DS,
        Register::FS => segment::FS,
        Register::GS => segment::GS,
        _ => return None,
    } as u8)
}

/// The bytes of an integer in memory.
pub fn width_of(size: MemorySize) -> Option<u8> {
    Some(match size {
        MemorySize::UInt8 | MemorySize::Int8 => 1,
        MemorySize::UInt16 | MemorySize::Int16 => 2,
        MemorySize::UInt32 | MemorySize::Int32 => 4,
        MemorySize::UInt64 | MemorySize::Int64 => 8,
        _ => return None,
    })
}

/// The operation, if it is one that both emulators share.
pub fn operation_of(mnemonic: Mnemonic) -> Option<Operation> {
    use Mnemonic as M;
    use Operation as O;
    Some(match mnemonic {
        M::Mov | M::Movnti => O::Move,
        M::Movzx => O::MoveZeroExtend,
        M::Movsx | M::Movsxd => O::MoveSignExtend,
        M::Movbe => O::MoveSwapped,
        M::Add => O::Alu(Alu::Add),
        M::Adc => O::Alu(Alu::AddCarry),
        M::Sub => O::Alu(Alu::Subtract),
        M::Sbb => O::Alu(Alu::SubtractBorrow),
        M::And => O::Alu(Alu::And),
        M::Or => O::Alu(Alu::Or),
        M::Xor => O::Alu(Alu::Xor),
        M::Cmp => O::Compare(Alu::Subtract),
        M::Test => O::Compare(Alu::And),
        M::Inc => O::Increment,
        M::Dec => O::Decrement,
        M::Not => O::Not,
        M::Neg => O::Negate,
        M::Xchg => O::Exchange,
        M::Xadd => O::ExchangeAdd,
        M::Cmpxchg => O::CompareExchange,
        M::Cmpxchg8b => O::CompareExchange8Bytes,
        M::Bt => O::BitTest(BitChange::None),
        M::Bts => O::BitTest(BitChange::Set),
        M::Btr => O::BitTest(BitChange::Reset),
        M::Btc => O::BitTest(BitChange::Complement),
        M::Shl | M::Sal => O::Shift(Shift::Left),
        M::Shr => O::Shift(Shift::Right),
        M::Sar => O::Shift(Shift::RightArithmetic),
        M::Rol => O::Shift(Shift::RotateLeft),
        M::Ror => O::Shift(Shift::RotateRight),
        M::Imul => O::MultiplySigned,
        M::Push => O::Push,
        M::Pop => O::Pop,
        M::Stosb | M::Stosw | M::Stosd | M::Stosq => O::String(StringOperation::Store),
        M::Lodsb | M::Lodsw | M::Lodsd | M::Lodsq => O::String(StringOperation::Load),
        M::Movsb | M::Movsw | M::Movsd | M::Movsq => O::String(StringOperation::Move),
        M::Cmpsb | M::Cmpsw | M::Cmpsd | M::Cmpsq => O::String(StringOperation::Compare),
        M::Scasb | M::Scasw | M::Scasd | M::Scasq => O::String(StringOperation::Scan),
        M::Nop
        | M::Prefetchnta
        | M::Prefetcht0
        | M::Prefetcht1
        | M::Prefetcht2
        | M::Prefetchw
        | M::Clflush
        | M::Clflushopt
        | M::Clwb => O::Nothing,
        M::Cmovo
        | M::Cmovno
        | M::Cmovb
        | M::Cmovae
        | M::Cmove
        | M::Cmovne
        | M::Cmovbe
        | M::Cmova
        | M::Cmovs
        | M::Cmovns
        | M::Cmovp
        | M::Cmovnp
        | M::Cmovl
        | M::Cmovge
        | M::Cmovle
        | M::Cmovg => O::ConditionalMove(condition_of(mnemonic)?),
        M::Seto
        | M::Setno
        | M::Setb
        | M::Setae
        | M::Sete
        | M::Setne
        | M::Setbe
        | M::Seta
        | M::Sets
        | M::Setns
        | M::Setp
        | M::Setnp
        | M::Setl
        | M::Setge
        | M::Setle
        | M::Setg => O::ConditionalSet(condition_of(mnemonic)?),
        _ => return None,
    })
}

/// The condition of a CMOVcc, SETcc or Jcc.
pub fn condition_of(mnemonic: Mnemonic) -> Option<Condition> {
    use Mnemonic as M;
    Some(Condition(match mnemonic {
        M::Cmovo | M::Seto | M::Jo => 0,
        M::Cmovno | M::Setno | M::Jno => 1,
        M::Cmovb | M::Setb | M::Jb => 2,
        M::Cmovae | M::Setae | M::Jae => 3,
        M::Cmove | M::Sete | M::Je => 4,
        M::Cmovne | M::Setne | M::Jne => 5,
        M::Cmovbe | M::Setbe | M::Jbe => 6,
        M::Cmova | M::Seta | M::Ja => 7,
        M::Cmovs | M::Sets | M::Js => 8,
        M::Cmovns | M::Setns | M::Jns => 9,
        M::Cmovp | M::Setp | M::Jp => 10,
        M::Cmovnp | M::Setnp | M::Jnp => 11,
        M::Cmovl | M::Setl | M::Jl => 12,
        M::Cmovge | M::Setge | M::Jge => 13,
        M::Cmovle | M::Setle | M::Jle => 14,
        M::Cmovg | M::Setg | M::Jg => 15,
        _ => return None,
    }))
}

fn operand_of(instruction: &Instruction, index: u32) -> Option<Operand> {
    if index >= instruction.op_count() {
        return Some(Operand::None);
    }
    Some(match instruction.op_kind(index) {
        OpKind::Register => Operand::Register(general(instruction.op_register(index))?.0),
        OpKind::Memory => Operand::Memory,
        OpKind::Immediate8
        | OpKind::Immediate16
        | OpKind::Immediate32
        | OpKind::Immediate64
        | OpKind::Immediate8to16
        | OpKind::Immediate8to32
        | OpKind::Immediate8to64
        | OpKind::Immediate32to64 => Operand::Immediate(instruction.immediate(index)),
        _ => return None,
    })
}

/// The address size of a string instruction's operands.
fn string_address_width(instruction: &Instruction) -> Option<u8> {
    (0..instruction.op_count()).find_map(|index| match instruction.op_kind(index) {
        OpKind::MemorySegSI | OpKind::MemorySegDI | OpKind::MemoryESDI => Some(2),
        OpKind::MemorySegESI | OpKind::MemorySegEDI | OpKind::MemoryESEDI => Some(4),
        OpKind::MemorySegRSI | OpKind::MemorySegRDI | OpKind::MemoryESRDI => Some(8),
        _ => None,
    })
}

/// The memory operand, and the bytes of its address.
pub fn memory_of(instruction: &Instruction, mode: Mode) -> Option<(MemoryOperand, u8)> {
    let segment = segment_index(instruction.memory_segment())?;
    let displacement = instruction.memory_displacement64();
    let mut width = match (mode, instruction.memory_displ_size()) {
        (_, size @ (2 | 4 | 8)) => size as u8,
        (Mode::Bits64, _) => 8,
        (Mode::Bits32, _) => 4,
        (Mode::Bits16, _) => 2,
    };
    let mut take_width = |register| {
        general(register).map(|(operand, size)| {
            width = size;
            operand.index
        })
    };
    let base = match instruction.memory_base() {
        Register::None => Base::None,
        Register::RIP | Register::EIP => Base::InstructionPointer,
        register => Base::Register(take_width(register)?),
    };
    let index = match instruction.memory_index() {
        Register::None => None,
        register => Some((take_width(register)?, instruction.memory_index_scale().trailing_zeros() as u8)),
    };
    Some((MemoryOperand { segment, base, index, displacement }, width))
}

const NO_MEMORY: MemoryOperand =
    MemoryOperand { segment: segment::DS as u8, base: Base::None, index: None, displacement: 0 };

/// What is emulated after a VM exit: instructions with a memory operand, and string instructions.
pub fn convert(instruction: &Instruction, mode: Mode) -> Option<Decoded> {
    let operation = operation_of(instruction.mnemonic())?;
    let mut decoded = Decoded {
        operation,
        length: instruction.len() as u8,
        width: 1,
        wide: 0,
        address_width: 8,
        repeat: Repeat::Once,
        destination: Operand::None,
        source: Operand::None,
        third: Operand::None,
        memory: NO_MEMORY,
    };
    if let Operation::String(_) = operation {
        decoded.width = width_of(instruction.memory_size())?;
        decoded.address_width = string_address_width(instruction)?;
        decoded.memory.segment = segment_index(instruction.memory_segment()).unwrap_or(segment::ES as u8);
        decoded.repeat = if instruction.has_repne_prefix() {
            Repeat::WhileNotEqual
        } else if instruction.has_repe_prefix() {
            Repeat::WhileEqual
        } else {
            Repeat::Once
        };
        return Some(decoded);
    }
    let has_memory = (0..instruction.op_count()).any(|index| instruction.op_kind(index) == OpKind::Memory);
    if !has_memory {
        return None;
    }
    (decoded.memory, decoded.address_width) = memory_of(instruction, mode)?;
    if operation == Operation::Nothing {
        return Some(decoded);
    }
    decoded.width = width_of(instruction.memory_size())?;
    decoded.destination = operand_of(instruction, 0)?;
    decoded.source = operand_of(instruction, 1)?;
    decoded.third = operand_of(instruction, 2)?;
    if let OpKind::Register = instruction.op0_kind() {
        decoded.wide = general(instruction.op0_register())?.1;
    }
    Some(decoded)
}
