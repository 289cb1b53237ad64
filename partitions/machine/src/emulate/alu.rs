//! Arithmetic with the flags that the processor would set (SDM vol. 1, 3.4.3.1). Flags that it leaves undefined are left alone or
//! cleared.

use super::instruction::{Alu, Condition, Shift};
use super::registers::{flags::*, mask};

/// `mask` if `bit` is 1, nothing if it is 0.
#[inline]
pub const fn flag(bit: u64, mask: u64) -> u64 {
    bit * mask
}

/// SF, ZF and PF of a result.
#[inline]
pub fn result_flags(result: u64, width: u8) -> u64 {
    let sign = result >> (8 * u32::from(width) - 1) & 1;
    let zero = u64::from(result == 0);
    let parity = u64::from((result as u8).count_ones().is_multiple_of(2));
    flag(sign, SF) | flag(zero, ZF) | flag(parity, PF)
}

/// The top bit of a value of `width` bytes.
#[inline]
pub fn top(value: u64, width: u8) -> u64 {
    value >> (8 * u32::from(width) - 1) & 1
}

fn add(left: u64, right: u64, carry: u64, width: u8) -> (u64, u64) {
    let sum = u128::from(left) + u128::from(right) + u128::from(carry);
    let result = sum as u64 & mask(width);
    let carried = u64::from(sum > u128::from(mask(width)));
    let overflow = top((left ^ result) & (right ^ result), width);
    let flags = flag(carried, CF) | flag(overflow, OF) | (left ^ right ^ result) & AF;
    (result, flags | result_flags(result, width))
}

fn subtract(left: u64, right: u64, borrow: u64, width: u8) -> (u64, u64) {
    let result = left.wrapping_sub(right).wrapping_sub(borrow) & mask(width);
    let borrowed = u64::from(u128::from(left) < u128::from(right) + u128::from(borrow));
    let overflow = top((left ^ right) & (left ^ result), width);
    let flags = flag(borrowed, CF) | flag(overflow, OF) | (left ^ right ^ result) & AF;
    (result, flags | result_flags(result, width))
}

/// Result and arithmetic flags of `left operation right`, given the flags before.
#[inline]
pub fn compute(operation: Alu, left: u64, right: u64, width: u8, flags: u64) -> (u64, u64) {
    let (left, right) = (left & mask(width), right & mask(width));
    let logic = |result| (result, result_flags(result, width));
    match operation {
        Alu::Add => add(left, right, 0, width),
        Alu::AddCarry => add(left, right, flags & CF, width),
        Alu::Subtract => subtract(left, right, 0, width),
        Alu::SubtractBorrow => subtract(left, right, flags & CF, width),
        Alu::And => logic(left & right),
        Alu::Or => logic(left | right),
        Alu::Xor => logic(left ^ right),
    }
}

/// Result, flags and the mask of the flags that change, of a shift by `count`.
pub fn shift(operation: Shift, value: u64, count: u64, width: u8, flags: u64) -> (u64, u64, u64) {
    let bits = 8 * u32::from(width);
    let count = count as u32 & if width == 8 { 63 } else { 31 };
    let value = value & mask(width);
    if count == 0 {
        return (value, flags, 0);
    }
    let wide = u128::from(value);
    match operation {
        Shift::Left => {
            let shifted = wide << count;
            let result = shifted as u64 & mask(width);
            let carry = (shifted >> bits) as u64 & 1;
            let overflow = top(result, width) ^ carry;
            (result, flag(carry, CF) | flag(overflow, OF) | result_flags(result, width), ARITHMETIC & !AF)
        }
        Shift::Right => {
            let result = (wide >> count) as u64;
            let carry = (wide >> (count - 1)) as u64 & 1;
            (result, flag(carry, CF) | flag(top(value, width), OF) | result_flags(result, width), ARITHMETIC & !AF)
        }
        Shift::RightArithmetic => {
            let signed = (value << (64 - bits)) as i64 >> (64 - bits);
            let result = (signed >> count.min(63)) as u64 & mask(width);
            let carry = (signed >> (count - 1).min(63)) as u64 & 1;
            (result, flag(carry, CF) | result_flags(result, width), ARITHMETIC & !AF)
        }
        Shift::RotateLeft => {
            let turn = count % bits;
            let result = (wide << turn | wide >> (bits - turn)) as u64 & mask(width);
            let carry = result & 1;
            (result, flag(carry, CF) | flag(top(result, width) ^ carry, OF), CF | OF)
        }
        Shift::RotateRight => {
            let turn = count % bits;
            let result = (wide >> turn | wide << (bits - turn)) as u64 & mask(width);
            let carry = top(result, width);
            let next = result >> (bits - 2) & 1;
            (result, flag(carry, CF) | flag(carry ^ next, OF), CF | OF)
        }
    }
}

/// Low half and flags of a signed multiplication.
pub fn multiply_signed(left: u64, right: u64, width: u8) -> (u64, u64) {
    let product = i128::from(sign_extend(left, width) as i64) * i128::from(sign_extend(right, width) as i64);
    let result = product as u64 & mask(width);
    let lost = u64::from(i128::from(sign_extend(result, width) as i64) != product);
    (result, flag(lost, CF | OF))
}

/// `value`'s low `width` bytes as a signed number in 64 bits.
#[inline]
pub fn sign_extend(value: u64, width: u8) -> u64 {
    let unused = 64 - 8 * u32::from(width);
    ((value << unused) as i64 >> unused) as u64
}

/// Whether `flags` meet `condition` (SDM vol. 2, appendix B.1.4.7).
pub fn holds(condition: Condition, flags: u64) -> bool {
    let set = |flag| flags & flag != 0;
    let less = set(SF) != set(OF);
    let plain = match condition.0 >> 1 {
        0 => set(OF),
        1 => set(CF),
        2 => set(ZF),
        3 => set(CF) || set(ZF),
        4 => set(SF),
        5 => set(PF),
        6 => less,
        _ => set(ZF) || less,
    };
    plain != (condition.0 & 1 != 0)
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_results() {
        assert_eq!(compute(Alu::Add, 0xff, 1, 1, 0), (0, CF | AF | ZF | PF));
        assert_eq!(compute(Alu::Add, 0x7fff_ffff, 1, 4, 0), (0x8000_0000, OF | SF | AF | PF));
        assert_eq!(compute(Alu::Subtract, 0, 1, 8, 0), (u64::MAX, CF | AF | SF | PF));
        assert_eq!(compute(Alu::SubtractBorrow, 0, u64::MAX, 8, CF), (0, CF | AF | ZF | PF));
        assert_eq!(compute(Alu::AddCarry, u64::MAX, 0, 8, CF), (0, CF | AF | ZF | PF));
        assert_eq!(compute(Alu::And, 0xf0f0, 0x0ff0, 2, CF), (0x00f0, PF));
        assert_eq!(shift(Shift::Left, 0x81, 1, 1, 0), (2, CF | OF, ARITHMETIC & !AF));
        assert_eq!(shift(Shift::RightArithmetic, 0x80, 31, 1, 0).0, 0xff);
        assert_eq!(shift(Shift::RotateRight, 1, 1, 4, 0), (0x8000_0000, CF | OF, CF | OF));
        assert_eq!(shift(Shift::RotateLeft, 0x1234, 16, 2, 0).0, 0x1234);
        assert_eq!(multiply_signed(0xffff, 0xffff, 2), (1, 0));
        assert_eq!(multiply_signed(0x4000, 4, 2), (0, CF | OF));
        assert!(holds(Condition(15), 0) && !holds(Condition(15), ZF) && holds(Condition(12), OF));
    }

    proptest! {
        #[test]
        fn agrees_with_wide_arithmetic(left: u64, right: u64, carry in 0u64..2, width in prop::sample::select(std::vec![1u8, 2, 4, 8])) {
            let (left, right) = (left & mask(width), right & mask(width));
            let signed = |value| i128::from(sign_extend(value, width) as i64);
            let (sum, flags) = compute(Alu::AddCarry, left, right, width, carry);
            prop_assert_eq!(flags & OF != 0, signed(sum) != signed(left) + signed(right) + i128::from(carry));
            let (difference, flags) = compute(Alu::SubtractBorrow, left, right, width, carry);
            prop_assert_eq!(flags & OF != 0, signed(difference) != signed(left) - signed(right) - i128::from(carry));
            prop_assert_eq!(flags & CF != 0, left < right || carry == 1 && left == right);
        }

        #[test]
        fn shifts_do_not_panic(value: u64, count: u64, width in prop::sample::select(std::vec![1u8, 2, 4, 8])) {
            for operation in [Shift::Left, Shift::Right, Shift::RightArithmetic, Shift::RotateLeft, Shift::RotateRight] {
                let (result, ..) = shift(operation, value, count, width, 0);
                prop_assert_eq!(result & !mask(width), 0);
            }
        }
    }
}
