//! The few operations that the emulator executes, and their operands.

use super::registers::{flags, mask, read_register};
use bulkhead_abi::{VcpuState, segment};

/// Default operand and address size of the code being executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Real mode, virtual-8086 mode, and 16-bit segments.
    Bits16 = 16,
    /// 32-bit segments.
    Bits32 = 32,
    /// 64-bit mode.
    Bits64 = 64,
}

impl Mode {
    /// The mode of the code at `state`'s CS.
    #[inline]
    pub fn new(state: &VcpuState) -> Self {
        const LONG: u32 = 1 << 13;
        const DEFAULT_32: u32 = 1 << 14;
        const EFER_LMA: u64 = 1 << 10;
        let access = state.segments[segment::CS].access;
        if access & LONG != 0 && state.efer & EFER_LMA != 0 {
            Mode::Bits64
        } else if access & DEFAULT_32 != 0 && state.rflags & flags::VM == 0 {
            Mode::Bits32
        } else {
            Mode::Bits16
        }
    }
}

/// What an instruction does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Move,
    /// Source of `source_width` bytes to a wider register.
    MoveZeroExtend,
    MoveSignExtend,
    MoveSwapped,
    Alu(Alu),
    /// Only flags: `Alu::Subtract` for CMP, `Alu::And` for TEST.
    Compare(Alu),
    Increment,
    Decrement,
    Not,
    Negate,
    Exchange,
    ExchangeAdd,
    CompareExchange,
    CompareExchange8Bytes,
    BitTest(BitChange),
    Shift(Shift),
    MultiplySigned,
    ConditionalMove(Condition),
    ConditionalSet(Condition),
    Push,
    Pop,
    String(StringOperation),
    /// Prefetches, cache-line flushes, multi-byte no-operations.
    Nothing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alu {
    Add,
    AddCarry,
    Subtract,
    SubtractBorrow,
    And,
    Or,
    Xor,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BitChange {
    None,
    Set,
    Reset,
    Complement,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shift {
    Left,
    Right,
    RightArithmetic,
    RotateLeft,
    RotateRight,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StringOperation {
    Store,
    Load,
    Move,
    Compare,
    Scan,
}

/// A condition code: its number in the encoding (0 = O, 1 = NO, 2 = B, ... 15 = G).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition(pub u8);

/// A general register operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegisterOperand {
    /// Encoding order.
    pub index: u8,
    /// AH, CH, DH or BH: bits 15 to 8.
    pub high: bool,
}

/// An operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    None,
    Register(RegisterOperand),
    /// Sign-extended to 64 bits.
    Immediate(u64),
    /// The operand at [`Decoded::memory`].
    Memory,
}

/// How the address of a memory operand comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryOperand {
    /// Segment register, in encoding order.
    pub segment: u8,
    /// Base register.
    pub base: Base,
    /// Index register and the shift of its scale.
    pub index: Option<(u8, u8)>,
    /// Displacement; relative to the start of the instruction if the base is [`Base::InstructionPointer`].
    pub displacement: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    None,
    Register(u8),
    InstructionPointer,
}

/// The kind of repeat prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    Once,
    /// REP or REPE.
    WhileEqual,
    /// REPNE.
    WhileNotEqual,
}

/// A decoded instruction; valid at any RIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoded {
    pub operation: Operation,
    /// Bytes of the instruction.
    pub length: u8,
    /// Bytes of the memory operand, and of a register operand next to it.
    pub width: u8,
    /// Bytes of the destination register of widening moves.
    pub wide: u8,
    /// Bytes of an address: 2, 4 or 8.
    pub address_width: u8,
    pub repeat: Repeat,
    pub destination: Operand,
    pub source: Operand,
    /// The factor of a three-operand IMUL.
    pub third: Operand,
    pub memory: MemoryOperand,
}

impl MemoryOperand {
    /// The offset in the segment.
    #[inline]
    pub fn offset(&self, state: &VcpuState, address_width: u8) -> u64 {
        let mut offset = self.displacement;
        match self.base {
            Base::Register(register) => {
                offset = offset.wrapping_add(read_register(state, register));
            }
            Base::InstructionPointer => offset = offset.wrapping_add(state.rip),
            Base::None => (),
        }
        if let Some((register, shift)) = self.index {
            offset = offset.wrapping_add(read_register(state, register) << (shift & 3));
        }
        offset & mask(address_width)
    }
}
