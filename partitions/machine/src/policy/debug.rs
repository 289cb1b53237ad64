//! Debug registers (SDM vol. 3, 18.2): what may be written to them, and which breakpoints an access meets that the processor did
//! not make itself.

use super::GeneralProtection;
use bulkhead_abi::VcpuState;

/// Bits of DR6 and of pending debug exceptions.
pub mod dr6 {
    /// A debug register was accessed while DR7.GD was set.
    pub const DEBUG_REGISTER: u64 = 1 << 13;
    /// Single step.
    pub const SINGLE_STEP: u64 = 1 << 14;
    /// Pending debug exceptions alone: a breakpoint that was met is enabled.
    pub const ENABLED: u64 = 1 << 12;
    /// Bits that can be written.
    pub(super) const WRITABLE: u64 = 0xe00f;
    /// Bits that are always 1.
    pub(super) const FIXED: u64 = 0xffff_0ff0;
}

/// Bits of DR7.
pub mod dr7 {
    /// General detect: any access to a debug register is a debug exception.
    pub const GENERAL_DETECT: u64 = 1 << 13;
    pub(super) const WRITABLE: u64 = 0xffff_23ff;
    pub(super) const FIXED: u64 = 1 << 10;
}

/// Kinds of breakpoint: the R/W fields of DR7.
const EXECUTE: u64 = 0;
const WRITE: u64 = 1;
const PORT: u64 = 2;
const ACCESS: u64 = 3;

/// What DR6 holds after this value was written.
///
/// # Errors
/// A bit of the upper half is set.
pub const fn status(value: u64) -> Result<u64, GeneralProtection> {
    if value >> 32 != 0 {
        return Err(GeneralProtection);
    }
    Ok(value & dr6::WRITABLE | dr6::FIXED)
}

/// What DR7 holds after this value was written.
///
/// # Errors
/// A bit of the upper half is set.
pub const fn control(value: u64) -> Result<u64, GeneralProtection> {
    if value >> 32 != 0 {
        return Err(GeneralProtection);
    }
    Ok(value & dr7::WRITABLE | dr7::FIXED)
}

/// The breakpoints on data and ports that a guest has set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Breakpoints {
    addresses: [u64; 4],
    control: u64,
}

impl Breakpoints {
    /// Those that `state` describes; its groups with DR0 to DR3 and DR7 must be valid.
    pub const fn new(state: &VcpuState) -> Self {
        Self { addresses: state.dr, control: state.dr7 }
    }

    /// Whether any of them is enabled. The processor needs no help with breakpoints on instructions.
    pub fn any(&self) -> bool {
        self.enabled().any(|(_, _, kind, _)| kind != EXECUTE)
    }

    /// The pending debug exception of an access to `size` bytes at a linear address; 0 for none.
    pub fn on_data(&self, linear: u64, size: u8, write: bool) -> u64 {
        self.met(linear, size, |kind| kind == ACCESS || write && kind == WRITE)
    }

    /// The pending debug exception of an access to `size` ports; 0 for none. CR4.DE must be set.
    pub fn on_ports(&self, port: u16, size: u8) -> u64 {
        self.met(port.into(), size, |kind| kind == PORT)
    }

    fn met(&self, address: u64, size: u8, is_kind: impl Fn(u64) -> bool) -> u64 {
        let last = address.wrapping_add(u64::from(size.max(1)) - 1);
        self.enabled()
            .filter(|&(_, start, kind, length)| {
                let start = start & !(length - 1);
                is_kind(kind) && start <= last && address <= start.wrapping_add(length - 1)
            })
            .fold(0, |pending, (number, ..)| pending | 1 << number | dr6::ENABLED)
    }

    /// Number, address, kind and length of every breakpoint that is enabled.
    fn enabled(&self) -> impl Iterator<Item = (u32, u64, u64, u64)> {
        let control = self.control;
        (0..4).zip(self.addresses).filter(move |(number, _)| control >> (2 * number) & 3 != 0).map(
            move |(number, address)| {
                let field = control >> (16 + 4 * number) & 0xf;
                // Table 18-2: 1, 2, 8 and 4 bytes.
                let length = match field >> 2 {
                    0 => 1,
                    1 => 2,
                    2 => 8,
                    _ => 4,
                };
                (number, address, field & 3, length)
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(number: u32, address: u64, field: u64) -> Breakpoints {
        let mut addresses = [0; 4];
        addresses[number as usize] = address;
        Breakpoints { addresses, control: 2 << (2 * number) | field << (16 + 4 * number) }
    }

    #[test]
    fn written_values() {
        assert_eq!(status(0), Ok(0xffff_0ff0));
        assert_eq!(status(0xffff_ffff), Ok(0xffff_efff));
        assert_eq!(status(1 << 32), Err(GeneralProtection));
        assert_eq!(control(0), Ok(0x400));
        assert_eq!(control(0xffff_ffff), Ok(0xffff_27ff));
        assert_eq!(control(1 << 63), Err(GeneralProtection));
    }

    #[test]
    fn data() {
        let write_4 = one(1, 0x1002, 0b1101);
        assert_eq!(write_4.on_data(0x1003, 1, true), 2 | dr6::ENABLED, "the address is rounded down");
        assert_eq!(write_4.on_data(0xffe, 2, true), 0);
        assert_eq!(write_4.on_data(0xffd, 4, true), 2 | dr6::ENABLED);
        assert_eq!(write_4.on_data(0x1004, 8, true), 0);
        assert_eq!(write_4.on_data(0x1000, 4, false), 0);
        assert_eq!(one(3, u64::MAX, 0b1011).on_data(u64::MAX - 7, 1, false), 8 | dr6::ENABLED);
        assert_eq!(one(0, 0x1000, 0b0000).on_data(0x1000, 1, true), 0, "an instruction breakpoint");
        let disabled = Breakpoints { addresses: [0x1000; 4], control: 0xffff_0000 };
        assert_eq!(disabled.on_data(0x1000, 1, true), 0);
        assert!(!disabled.any() && write_4.any() && !one(0, 0x1000, 0).any());
    }

    #[test]
    fn ports() {
        let port = one(2, 0x80, 0b0010);
        assert_eq!(port.on_ports(0x7e, 4), 4 | dr6::ENABLED);
        assert_eq!(port.on_ports(0x81, 1), 0);
        assert_eq!(port.on_data(0x80, 1, true), 0);
    }
}
