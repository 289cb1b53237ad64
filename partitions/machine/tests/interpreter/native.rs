//! Instructions as bytes, and the real processor to execute them.

use core::arch::asm;

const CF: u64 = 1 << 0;
const PF: u64 = 1 << 2;
const AF: u64 = 1 << 4;
const ZF: u64 = 1 << 6;
const SF: u64 = 1 << 7;
const OF: u64 = 1 << 11;

/// What an instruction changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registers {
    pub eax: u32,
    pub ecx: u32,
    pub edx: u32,
    pub flags: u64,
}

/// An instruction on EAX, ECX and EDX, with the same encoding in 32-bit and 64-bit code.
pub struct Case {
    pub name: &'static str,
    pub bytes: &'static [u8],
    pub native: fn(&mut Registers),
    /// Flags that the manual leaves undefined.
    pub undefined: fn(&Registers) -> u64,
    /// Brings operands to where the result is defined.
    pub prepare: fn(&mut Registers),
    /// Whether the processor raises #DE.
    pub faults: fn(&Registers) -> bool,
}

macro_rules! case {
    ($name:literal, $undefined:expr, $prepare:expr, $faults:expr, [$first:literal $(, $byte:literal)*]) => {
        Case {
            name: $name,
            bytes: &[$first $(, $byte)*],
            native: |registers| {
                // SAFETY: the bytes are one arithmetic instruction that changes nothing but EAX, ECX, EDX and arithmetic flags;
                // the flags loaded before it are arithmetic ones.
                unsafe {
                    asm!(
                        "push {flags}",
                        "popfq",
                        concat!(".byte ", stringify!($first) $(, ",", stringify!($byte))*),
                        "pushfq",
                        "pop {flags}",
                        flags = inout(reg) registers.flags,
                        inout("eax") registers.eax,
                        inout("ecx") registers.ecx,
                        inout("edx") registers.edx,
                    );
                }
            },
            undefined: $undefined,
            prepare: $prepare,
            faults: $faults,
        }
    };
    ($name:literal, $undefined:expr, [$first:literal $(, $byte:literal)*]) => {
        case!($name, |_| $undefined, |_| (), |_| false, [$first $(, $byte)*])
    };
}

/// The 8-bit, 16-bit and 32-bit form.
macro_rules! sizes {
    ($($name:literal, $undefined:expr, $prepare:expr, [$faults8:expr, $faults16:expr, $faults32:expr],
        $byte:literal $wide:literal $modrm:literal;)*) => {
        &[$(
            case!($name, $undefined, $prepare, $faults8, [$byte, $modrm]),
            case!($name, $undefined, $prepare, $faults16, [0x66, $wide, $modrm]),
            case!($name, $undefined, $prepare, $faults32, [$wide, $modrm]),
        )*]
    };
}

/// The 16-bit and 32-bit form of two-byte opcodes.
macro_rules! wide {
    ($($name:literal, $undefined:expr, $prepare:expr, $opcode:literal $modrm:literal;)*) => {
        &[$(
            case!($name, $undefined, $prepare, |_| false, [0x66, 0x0f, $opcode, $modrm]),
            case!($name, $undefined, $prepare, |_| false, [0x0f, $opcode, $modrm]),
        )*]
    };
}

fn none(_: &Registers) -> u64 {
    0
}

fn as_they_are(_: &mut Registers) {}

fn never(_: &Registers) -> bool {
    false
}

/// Logic leaves AF undefined.
fn logic(_: &Registers) -> u64 {
    AF
}

fn multiplication(_: &Registers) -> u64 {
    SF | ZF | AF | PF
}

fn all(_: &Registers) -> u64 {
    CF | PF | AF | ZF | SF | OF
}

/// A shift by CL: nothing happens by 0; OF is defined by 1; CF is not defined beyond the operand.
fn shift(before: &Registers) -> u64 {
    match before.ecx & 31 {
        0 => 0,
        1 => AF,
        2..=7 => AF | OF,
        _ => AF | OF | CF,
    }
}

/// SAR, whose CF is the sign beyond the operand.
fn shift_arithmetic(before: &Registers) -> u64 {
    shift(before) & !CF
}

fn rotate(before: &Registers) -> u64 {
    if before.ecx & 31 > 1 { OF } else { 0 }
}

fn by_one(_: &Registers) -> u64 {
    AF
}

fn double_shift(before: &Registers) -> u64 {
    match before.ecx & 31 {
        0 => 0,
        1 => AF,
        _ => AF | OF,
    }
}

/// Counts within 16-bit operands.
fn small_count(before: &mut Registers) {
    before.ecx &= 0xf;
}

fn scan(_: &Registers) -> u64 {
    CF | PF | AF | SF | OF
}

fn bit_test(_: &Registers) -> u64 {
    OF | SF | AF | PF
}

fn divides_8(before: &Registers) -> bool {
    let (dividend, divisor) = (before.eax as u16, before.ecx as u8);
    divisor == 0 || dividend / u16::from(divisor) > 0xff
}

fn divides_16(before: &Registers) -> bool {
    let (dividend, divisor) = (before.edx << 16 | before.eax & 0xffff, before.ecx & 0xffff);
    divisor == 0 || dividend / divisor > 0xffff
}

fn divides_32(before: &Registers) -> bool {
    let dividend = u64::from(before.edx) << 32 | u64::from(before.eax);
    before.ecx == 0 || dividend / u64::from(before.ecx) > 0xffff_ffff
}

fn divides_signed_8(before: &Registers) -> bool {
    let (dividend, divisor) = (i32::from(before.eax as i16), i32::from(before.ecx as i8));
    divisor == 0 || i8::try_from(dividend / divisor).is_err()
}

fn divides_signed_16(before: &Registers) -> bool {
    let (dividend, divisor) = ((before.edx << 16 | before.eax & 0xffff) as i32, i32::from(before.ecx as i16));
    divisor == 0 || i16::try_from(i64::from(dividend) / i64::from(divisor)).is_err()
}

fn divides_signed_32(before: &Registers) -> bool {
    let dividend = (u64::from(before.edx) << 32 | u64::from(before.eax)) as i64;
    let divisor = i64::from(before.ecx as i32);
    divisor == 0 || i32::try_from(i128::from(dividend) / i128::from(divisor)).is_err()
}

/// Half of the dividends are those that small divisors have quotients for.
fn small_dividend(before: &mut Registers) {
    if before.eax & 0x100 != 0 {
        before.edx = if before.eax & 0x8000 != 0 { u32::MAX } else { before.ecx >> 3 };
        before.eax = before.eax & !0xff00 | (before.ecx & 0xff) << 6 & 0xff00;
    }
}

const ARITHMETIC: &[Case] = sizes! {
    "add", none, as_they_are, [never, never, never], 0x00 0x01 0xc8;
    "or", logic, as_they_are, [never, never, never], 0x08 0x09 0xc8;
    "adc", none, as_they_are, [never, never, never], 0x10 0x11 0xc8;
    "sbb", none, as_they_are, [never, never, never], 0x18 0x19 0xc8;
    "and", logic, as_they_are, [never, never, never], 0x20 0x21 0xc8;
    "sub", none, as_they_are, [never, never, never], 0x28 0x29 0xc8;
    "xor", logic, as_they_are, [never, never, never], 0x30 0x31 0xc8;
    "cmp", none, as_they_are, [never, never, never], 0x38 0x39 0xc8;
    "test", logic, as_they_are, [never, never, never], 0x84 0x85 0xc8;
    "xchg", none, as_they_are, [never, never, never], 0x86 0x87 0xc8;
    "mov", none, as_they_are, [never, never, never], 0x88 0x89 0xc8;
    "not", none, as_they_are, [never, never, never], 0xf6 0xf7 0xd0;
    "neg", none, as_they_are, [never, never, never], 0xf6 0xf7 0xd8;
    "mul", multiplication, as_they_are, [never, never, never], 0xf6 0xf7 0xe1;
    "imul", multiplication, as_they_are, [never, never, never], 0xf6 0xf7 0xe9;
    "div", all, small_dividend, [divides_8, divides_16, divides_32], 0xf6 0xf7 0xf1;
    "idiv", all, small_dividend, [divides_signed_8, divides_signed_16, divides_signed_32], 0xf6 0xf7 0xf9;
    "inc", none, as_they_are, [never, never, never], 0xfe 0xff 0xc0;
    "dec", none, as_they_are, [never, never, never], 0xfe 0xff 0xc8;
    "rol cl", rotate, as_they_are, [never, never, never], 0xd2 0xd3 0xc0;
    "ror cl", rotate, as_they_are, [never, never, never], 0xd2 0xd3 0xc8;
    "rcl cl", rotate, as_they_are, [never, never, never], 0xd2 0xd3 0xd0;
    "rcr cl", rotate, as_they_are, [never, never, never], 0xd2 0xd3 0xd8;
    "shl cl", shift, as_they_are, [never, never, never], 0xd2 0xd3 0xe0;
    "shr cl", shift, as_they_are, [never, never, never], 0xd2 0xd3 0xe8;
    "sar cl", shift_arithmetic, as_they_are, [never, never, never], 0xd2 0xd3 0xf8;
    "rol 1", none, as_they_are, [never, never, never], 0xd0 0xd1 0xc0;
    "ror 1", none, as_they_are, [never, never, never], 0xd0 0xd1 0xc8;
    "rcl 1", none, as_they_are, [never, never, never], 0xd0 0xd1 0xd0;
    "rcr 1", none, as_they_are, [never, never, never], 0xd0 0xd1 0xd8;
    "shl 1", by_one, as_they_are, [never, never, never], 0xd0 0xd1 0xe0;
    "shr 1", by_one, as_they_are, [never, never, never], 0xd0 0xd1 0xe8;
    "sar 1", by_one, as_they_are, [never, never, never], 0xd0 0xd1 0xf8;
};

const TWO_BYTES: &[Case] = wide! {
    "imul two operands", multiplication, as_they_are, 0xaf 0xc1;
    "shld cl", double_shift, small_count, 0xa5 0xd0;
    "shrd cl", double_shift, small_count, 0xad 0xd0;
    "bt", bit_test, as_they_are, 0xa3 0xc8;
    "bts", bit_test, as_they_are, 0xab 0xc8;
    "btr", bit_test, as_they_are, 0xb3 0xc8;
    "btc", bit_test, as_they_are, 0xbb 0xc8;
    "bsf", scan, as_they_are, 0xbc 0xc1;
    "bsr", scan, as_they_are, 0xbd 0xc1;
    "cmpxchg", none, as_they_are, 0xb1 0xca;
    "xadd", none, as_they_are, 0xc1 0xc8;
    "xadd of itself", none, as_they_are, 0xc1 0xc0;
    "movzx byte", none, as_they_are, 0xb6 0xc1;
    "movzx high byte", none, as_they_are, 0xb6 0xc5;
    "movzx word", none, as_they_are, 0xb7 0xc1;
    "movsx byte", none, as_they_are, 0xbe 0xc1;
    "movsx word", none, as_they_are, 0xbf 0xc1;
    "cmovo", none, as_they_are, 0x40 0xc1;
    "cmovno", none, as_they_are, 0x41 0xc1;
    "cmovb", none, as_they_are, 0x42 0xc1;
    "cmovae", none, as_they_are, 0x43 0xc1;
    "cmove", none, as_they_are, 0x44 0xc1;
    "cmovne", none, as_they_are, 0x45 0xc1;
    "cmovbe", none, as_they_are, 0x46 0xc1;
    "cmova", none, as_they_are, 0x47 0xc1;
    "cmovs", none, as_they_are, 0x48 0xc1;
    "cmovns", none, as_they_are, 0x49 0xc1;
    "cmovp", none, as_they_are, 0x4a 0xc1;
    "cmovnp", none, as_they_are, 0x4b 0xc1;
    "cmovl", none, as_they_are, 0x4c 0xc1;
    "cmovge", none, as_they_are, 0x4d 0xc1;
    "cmovle", none, as_they_are, 0x4e 0xc1;
    "cmovg", none, as_they_are, 0x4f 0xc1;
};

const OTHERS: &[Case] = &[
    case!("cmpxchg byte", 0, [0x0f, 0xb0, 0xca]),
    case!("xadd byte", 0, [0x0f, 0xc0, 0xc8]),
    case!("sub of high bytes", 0, [0x28, 0xec]),
    case!("imul by a byte", SF | ZF | AF | PF, [0x6b, 0xc1, 0x85]),
    case!("imul by a word", SF | ZF | AF | PF, [0x66, 0x69, 0xc1, 0x34, 0xf2]),
    case!("imul by a double word", SF | ZF | AF | PF, [0x69, 0xc1, 0x78, 0x56, 0x34, 0xf2]),
    case!("add of a sign-extended byte", 0, [0x83, 0xc0, 0xfe]),
    case!("sub of an immediate", 0, [0x2d, 0x78, 0x56, 0x34, 0xf2]),
    case!("shld 5", AF | OF, [0x0f, 0xa4, 0xd0, 5]),
    case!("shrd 31", AF | OF, [0x0f, 0xac, 0xd0, 31]),
    case!("shl 0", 0, [0xc1, 0xe0, 0x20]),
    case!("bts 37", OF | SF | AF | PF, [0x0f, 0xba, 0xe8, 37]),
    case!("bswap", 0, [0x0f, 0xc9]),
    case!("setc", 0, [0x0f, 0x92, 0xc1]),
    case!("setle of a high byte", 0, [0x0f, 0x9e, 0xc5]),
    case!("cbw", 0, [0x66, 0x98]),
    case!("cwde", 0, [0x98]),
    case!("cwd", 0, [0x66, 0x99]),
    case!("cdq", 0, [0x99]),
    case!("lahf", 0, [0x9f]),
    case!("sahf", 0, [0x9e]),
    case!("cmc", 0, [0xf5]),
    case!("clc", 0, [0xf8]),
    case!("stc", 0, [0xf9]),
    case!("lea", 0, [0x8d, 0x44, 0x8a, 0x85]),
];

/// Everything that is compared.
pub const CASES: [&[Case]; 3] = [ARITHMETIC, TWO_BYTES, OTHERS];
