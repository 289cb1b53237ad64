//! Memory type range registers (SDM vol. 3, 12.11): kept as the guest sets them, without effect. RAM of a guest is write-back
//! whatever they say, and devices are not memory.

use super::GeneralProtection;

/// IA32_MTRRCAP: eight variable ranges, fixed ranges, write combining.
const CAPABILITIES: u64 = 8 | 1 << 8 | 1 << 10;
/// Write-back.
const WRITE_BACK: u64 = 6;

/// The registers.
#[derive(Clone, Debug)]
pub struct MemoryTypes {
    default_type: u64,
    variable: [u64; 16],
    fixed: [u64; 11],
    /// Bits of a guest-physical address above those that exist.
    reserved: u64,
}

impl MemoryTypes {
    /// As firmware sets them: write-back, but uncached from `devices` (a power of two's multiple below 4 GiB) to 4 GiB, and in
    /// the display area.
    pub const fn new(devices: u64, physical_address_bits: u32) -> Self {
        let bits = if physical_address_bits > 52 { 52 } else { physical_address_bits };
        let reserved = !((1 << bits) - 1);
        let mut variable = [0; 16];
        variable[0] = devices & 0xffff_f000;
        variable[1] = !reserved & !((1 << 32) - 1 - devices) & !0xfff | 1 << 11;
        let write_back = 0x0606_0606_0606_0606;
        let mut fixed = [write_back; 11];
        // 0xA0000 to 0xBFFFF.
        fixed[2] = 0;
        Self { default_type: 3 << 10 | WRITE_BACK, variable, fixed, reserved }
    }

    /// Reads a register; none if `index` is not one of them.
    pub fn read(&self, index: u32) -> Option<u64> {
        match index {
            0xfe => Some(CAPABILITIES),
            0x2ff => Some(self.default_type),
            0x200..=0x20f => self.variable.get((index - 0x200) as usize).copied(),
            _ => self.fixed.get(fixed_index(index)?).copied(),
        }
    }

    /// Writes a register; none if `index` is not one of them.
    pub fn write(&mut self, index: u32, value: u64) -> Option<Result<(), GeneralProtection>> {
        let (register, valid) = match index {
            0xfe => return Some(Err(GeneralProtection)),
            0x2ff => (&mut self.default_type, value & !0xcff == 0 && is_type(value)),
            0x200..=0x20f => {
                let control = if index & 1 == 0 { 0xff } else { 1 << 11 };
                let reserved = self.reserved | 0xfff & !control;
                let valid = value & reserved == 0 && (index & 1 == 1 || is_type(value));
                (self.variable.get_mut((index - 0x200) as usize)?, valid)
            }
            _ => {
                let valid = value.to_le_bytes().iter().all(|byte| is_type(u64::from(*byte)));
                (self.fixed.get_mut(fixed_index(index)?)?, valid)
            }
        };
        if !valid {
            return Some(Err(GeneralProtection));
        }
        *register = value;
        Some(Ok(()))
    }
}

const fn is_type(value: u64) -> bool {
    matches!(value & 0xff, 0 | 1 | 4 | 5 | 6)
}

const fn fixed_index(index: u32) -> Option<usize> {
    match index {
        0x250 => Some(0),
        0x258 | 0x259 => Some((index - 0x257) as usize),
        0x268..=0x26f => Some((index - 0x265) as usize),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn firmware_setting() {
        let types = MemoryTypes::new(0xc000_0000, 40);
        assert_eq!(types.read(0x2ff), Some(0xc06));
        assert_eq!(types.read(0x200), Some(0xc000_0000));
        assert_eq!(types.read(0x201), Some(0xff_c000_0800));
        assert_eq!(types.read(0x250), Some(0x0606_0606_0606_0606));
        assert_eq!(types.read(0x259), Some(0));
        assert_eq!(types.read(0x26f), Some(0x0606_0606_0606_0606));
        assert_eq!(types.read(0x270), None);
    }

    #[test]
    fn values_are_checked() {
        let mut types = MemoryTypes::new(0xc000_0000, 40);
        assert_eq!(types.write(0xfe, 0), Some(Err(GeneralProtection)));
        assert_eq!(types.write(0x2ff, 0x02), Some(Err(GeneralProtection)));
        assert_eq!(types.write(0x2ff, 0x1000), Some(Err(GeneralProtection)));
        assert_eq!(types.write(0x2ff, 0xc00), Some(Ok(())));
        assert_eq!(types.write(0x202, 1 << 40), Some(Err(GeneralProtection)));
        assert_eq!(types.write(0x203, 0xff_8000_0800), Some(Ok(())));
        assert_eq!(types.write(0x203, 0x1), Some(Err(GeneralProtection)));
        assert_eq!(types.write(0x26a, 0x0606_0606_0606_0607), Some(Err(GeneralProtection)));
        assert_eq!(types.write(0x300, 0), None);
    }
}
