//! Arithmetic that [`alu`](crate::emulate::alu) lacks: rotation through carry, double shifts, multiplication, division.

use crate::emulate::alu::{self, flag, result_flags, top};
use crate::emulate::registers::{flags::*, mask};

/// A result, the flags of it, and which of them change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changed {
    pub value: u64,
    pub flags: u64,
    pub mask: u64,
}

/// RCL (`left`) or RCR.
pub fn rotate_through_carry(left: bool, value: u64, count: u64, width: u8, flags: u64) -> Changed {
    let bits = 8 * u32::from(width);
    // 8- and 16-bit operands turn through 9 and 17 bits; 32-bit ones see counts below 32.
    let count = (count as u32 & 31) % (bits + 1);
    if count == 0 {
        return Changed { value: value & mask(width), flags, mask: 0 };
    }
    let ring = u128::from(value & mask(width)) | u128::from(flags & CF) << bits;
    let turn = if left { count } else { bits + 1 - count };
    let turned = ring << turn | ring >> (bits + 1 - turn);
    let value = turned as u64 & mask(width);
    let carry = (turned >> bits) as u64 & 1;
    let overflow = if left { top(value, width) ^ carry } else { top(value ^ value << 1, width) };
    Changed { value, flags: flag(carry, CF) | flag(overflow, OF), mask: CF | OF }
}

/// SHLD (`left`) or SHRD: `fill` moves in. What the manual leaves undefined (16-bit operands, counts above 16) is what a shift of
/// the operands one behind the other gives.
pub fn double_shift(left: bool, value: u64, fill: u64, count: u64, width: u8, flags: u64) -> Changed {
    let bits = 8 * u32::from(width);
    let count = count as u32 & 31;
    let value = value & mask(width);
    if count == 0 {
        return Changed { value, flags, mask: 0 };
    }
    let (value_wide, fill) = (u128::from(value), u128::from(fill & mask(width)));
    let (result, carry) = if left {
        let pair = (value_wide << bits | fill) << count;
        ((pair >> bits) as u64 & mask(width), (pair >> (2 * bits)) as u64 & 1)
    } else {
        let pair = fill << bits | value_wide;
        ((pair >> count) as u64 & mask(width), (pair >> (count - 1)) as u64 & 1)
    };
    let overflow = top(result ^ value, width);
    let flags = flag(carry, CF) | flag(overflow, OF) | result_flags(result, width);
    Changed { value: result, flags, mask: ARITHMETIC & !AF }
}

/// Low and high half of a product of two operands of `width` (1, 2, 4) bytes, and whether the high half says more than the low one.
pub fn multiply(signed: bool, left: u64, right: u64, width: u8) -> (u64, u64, bool) {
    let bits = 8 * u32::from(width);
    let extend = |value: u64| if signed { alu::sign_extend(value, width) } else { value & mask(width) };
    // At most 32 bits each: the product's low 64 bits are all of it.
    let product = extend(left).wrapping_mul(extend(right));
    let low = product & mask(width);
    let high = product >> bits & mask(width);
    let significant = if signed { alu::sign_extend(low, width) != product } else { high != 0 };
    (low, high, significant)
}

/// Quotient and remainder of `high:low` by `divisor`, operands of `width` (1, 2, 4) bytes; nothing where the processor raises #DE.
pub fn divide(signed: bool, high: u64, low: u64, divisor: u64, width: u8) -> Option<(u64, u64)> {
    let bits = 8 * u32::from(width);
    let dividend = (high & mask(width)) << bits | low & mask(width);
    if !signed {
        let divisor = divisor & mask(width);
        let quotient = dividend.checked_div(divisor)?;
        return (quotient <= mask(width)).then_some((quotient, dividend % divisor));
    }
    let unused = 64 - 2 * bits;
    let dividend = (dividend << unused) as i64 >> unused;
    let divisor = alu::sign_extend(divisor, width) as i64;
    let quotient = dividend.checked_div(divisor)?;
    let remainder = dividend.checked_rem(divisor)?;
    let fits = alu::sign_extend(quotient as u64, width) as i64 == quotient;
    fits.then_some((quotient as u64 & mask(width), remainder as u64 & mask(width)))
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn rotation_through_carry() {
        let turn = |left, value, count, width, flags| {
            let changed = rotate_through_carry(left, value, count, width, flags);
            (changed.value, changed.flags & changed.mask & CF)
        };
        assert_eq!(turn(true, 0x80, 1, 1, 0), (0, CF));
        assert_eq!(turn(true, 0x80, 1, 1, CF), (1, CF));
        assert_eq!(turn(false, 1, 1, 4, CF), (0x8000_0000, CF));
        assert_eq!(rotate_through_carry(true, 0x5a, 9, 1, CF), Changed { value: 0x5a, flags: CF, mask: 0 });
    }

    #[test]
    fn division_refuses_what_does_not_fit() {
        assert_eq!(divide(false, 0, 7, 0, 4), None);
        assert_eq!(divide(false, 1, 0, 1, 4), None);
        assert_eq!(divide(false, 1, 0, 2, 4), Some((0x8000_0000, 0)));
        assert_eq!(divide(true, 0xff, 0x80, 0xff, 1), None, "-128 / -1");
        assert_eq!(divide(true, 0xff, 0xf9, 2, 1), Some((0xfd, 0xff)), "-7 / 2");
        assert_eq!(divide(true, 0x8000_0000, 0, 0xffff_ffff, 4), None);
    }

    #[test]
    fn products() {
        assert_eq!(multiply(false, 0xff, 0xff, 1), (1, 0xfe, true));
        assert_eq!(multiply(true, 0xff, 0xff, 1), (1, 0, false));
        assert_eq!(multiply(true, 0x8000_0000, 0x8000_0000, 4), (0, 0x4000_0000, true));
    }
}
