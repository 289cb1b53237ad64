//! Decimal arithmetic: DAA, DAS, AAA, AAS, AAM, AAD (SDM vol. 2). Flags that the manual leaves undefined are as after the last
//! addition or untouched.

use super::interpreter::Interpreter;
use super::{Break, Environment, vector};
use crate::emulate::alu::result_flags;
use crate::emulate::registers::{flags::*, write_flags};
use crate::memory::GuestMemory;
use bulkhead_abi::register::RAX;

/// AL, CF and AF after DAA, or DAS if `subtract`.
fn adjust_packed(al: u8, flags: u64, subtract: bool) -> (u8, u64) {
    let add = |value: u8, step: u8| if subtract { value.wrapping_sub(step) } else { value.wrapping_add(step) };
    let (mut result, mut after) = (al, 0);
    if al & 0xf > 9 || flags & AF != 0 {
        result = add(result, 6);
        let carried = if subtract { al < 6 } else { al > 0xf9 };
        after |= AF | if carried { CF } else { flags & CF };
    }
    if al > 0x99 || flags & CF != 0 {
        result = add(result, 0x60);
        after |= CF;
    }
    (result, after)
}

impl<M: GuestMemory, E: Environment> Interpreter<'_, M, E> {
    /// DAA, or DAS if `subtract`.
    pub fn adjust_packed(&mut self, subtract: bool) {
        let (al, after) = adjust_packed(self.register(RAX) as u8, self.machine.state.rflags, subtract);
        self.set_register(RAX, 1, al.into());
        write_flags(self.machine.state, ARITHMETIC & !OF, after | result_flags(al.into(), 1));
    }

    /// AAA, or AAS if `subtract`.
    pub fn adjust_unpacked(&mut self, subtract: bool) {
        let mut ax = self.register(RAX) as u16;
        let adjust = ax & 0xf > 9 || self.machine.state.rflags & AF != 0;
        if adjust {
            ax = if subtract { ax.wrapping_sub(0x106) } else { ax.wrapping_add(0x106) };
        }
        self.set_register(RAX, 2, u64::from(ax & 0xff0f));
        write_flags(self.machine.state, CF | AF, if adjust { CF | AF } else { 0 });
    }

    /// AAM.
    pub fn adjust_after_multiplication(&mut self, base: u8) -> Result<(), Break> {
        let al = self.register(RAX) as u8;
        let high = al.checked_div(base).ok_or(Break::plain(vector::DIVIDE))?;
        let low = al % base;
        self.set_register(RAX, 2, u64::from(high) << 8 | u64::from(low));
        write_flags(self.machine.state, SF | ZF | PF, result_flags(low.into(), 1));
        Ok(())
    }

    /// AAD.
    pub fn adjust_before_division(&mut self, base: u8) {
        let ax = self.register(RAX) as u16;
        let al = (ax as u8).wrapping_add(((ax >> 8) as u8).wrapping_mul(base));
        self.set_register(RAX, 2, al.into());
        write_flags(self.machine.state, SF | ZF | PF, result_flags(al.into(), 1));
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn packed_sums_and_differences_are_decimal() {
        let bcd = |value: u32| (value / 10 * 16 + value % 10) as u8;
        for left in 0..100 {
            for right in 0..100 {
                let (a, b) = (bcd(left), bcd(right));
                let sum = u32::from(a) + u32::from(b);
                let flags = if (a & 0xf) + (b & 0xf) > 0xf { AF } else { 0 } | u64::from(sum > 0xff);
                let (result, after) = adjust_packed(sum as u8, flags, false);
                assert_eq!((result, after & CF), (bcd((left + right) % 100), u64::from(left + right > 99)));
                let flags = if a & 0xf < b & 0xf { AF } else { 0 } | u64::from(a < b);
                let (result, after) = adjust_packed(a.wrapping_sub(b), flags, true);
                assert_eq!(
                    (result, after & CF),
                    (bcd((100 + left - right) % 100), u64::from(left < right)),
                    "{left} - {right}"
                );
            }
        }
    }
}
