//! Features that one guest is not to have, though the machine stands behind them.

use super::features::{basic_ecx, structured_ebx, structured_ecx};

/// A feature that can be withheld, and what is cleared for it.
#[derive(Clone, Copy, Debug)]
pub struct Feature {
    /// Its name in manifests.
    pub name: &'static str,
    hidden: Hidden,
}

/// What a guest does not see: bits of CPUID, by the register that shows them, and states that it cannot enable.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Hidden {
    /// Leaf 1, ECX.
    pub basic_ecx: u32,
    /// Leaf 7, subleaf 0, EBX.
    pub structured_ebx: u32,
    /// Leaf 7, subleaf 0, ECX.
    pub structured_ecx: u32,
    /// Leaf 0x8000_0001, EDX.
    pub extended_edx: u32,
    /// States of XCR0, with all instructions that use them.
    pub states: u64,
}

const NOTHING: Hidden = Hidden { basic_ecx: 0, structured_ebx: 0, structured_ecx: 0, extended_edx: 0, states: 0 };
/// The states of XCR0 that AVX and AVX-512 add.
const AVX: u64 = 1 << 2;
const AVX512: u64 = 7 << 5;

const fn basic(name: &'static str, basic_ecx: u32) -> Feature {
    Feature { name, hidden: Hidden { basic_ecx, ..NOTHING } }
}

const fn structured(name: &'static str, structured_ebx: u32) -> Feature {
    Feature { name, hidden: Hidden { structured_ebx, ..NOTHING } }
}

const fn states(name: &'static str, states: u64) -> Feature {
    Feature { name, hidden: Hidden { states, ..NOTHING } }
}

/// All that can be withheld. The place of a feature here is its bit in a [`Withheld`].
pub const FEATURES: [Feature; 21] = [
    basic("aes", 1 << 25),
    states("avx", AVX | AVX512),
    // AVX-512 builds on it.
    Feature { name: "avx2", hidden: Hidden { structured_ebx: structured_ebx::AVX, states: AVX512, ..NOTHING } },
    states("avx512", AVX512),
    structured("adx", 1 << 19),
    structured("bmi1", 1 << 3),
    structured("bmi2", 1 << 8),
    structured("clflushopt", 1 << 23),
    structured("clwb", 1 << 24),
    structured("erms", 1 << 9),
    structured("fsgsbase", 1 << 0),
    Feature { name: "large-pages", hidden: Hidden { extended_edx: 1 << 26, ..NOTHING } },
    basic("pclmulqdq", 1 << 1),
    basic("rdrand", 1 << 30),
    structured("rdseed", 1 << 18),
    structured("sha", 1 << 29),
    structured("smap", 1 << 20),
    structured("smep", 1 << 7),
    basic("tsc-deadline", basic_ecx::TSC_DEADLINE),
    basic("x2apic", basic_ecx::X2APIC),
    states("xsave", u64::MAX),
];

/// A set of [`FEATURES`].
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Withheld(pub u64);

impl Withheld {
    /// The bit of the feature of this name.
    pub fn named(name: &str) -> Option<Self> {
        let place = FEATURES.iter().position(|feature| feature.name == name)?;
        Some(Self(1 << place))
    }

    /// Everything that is cleared for these features.
    pub fn hidden(self) -> Hidden {
        let chosen = FEATURES.iter().enumerate().filter(|(place, _)| self.0 >> place & 1 != 0);
        let mut all = chosen.fold(NOTHING, |all, (_, Feature { hidden, .. })| Hidden {
            basic_ecx: all.basic_ecx | hidden.basic_ecx,
            structured_ebx: all.structured_ebx | hidden.structured_ebx,
            structured_ecx: all.structured_ecx | hidden.structured_ecx,
            extended_edx: all.extended_edx | hidden.extended_edx,
            states: all.states | hidden.states,
        });
        // The wide forms of two instruction sets are of no use without the narrow ones.
        if all.basic_ecx & (1 << 25 | 1 << 1) != 0 {
            all.structured_ecx |= structured_ecx::AVX;
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_apart() {
        for (place, feature) in FEATURES.iter().enumerate() {
            assert_eq!(Withheld::named(feature.name), Some(Withheld(1 << place)));
            assert_ne!(Withheld(1 << place).hidden(), NOTHING, "{}", feature.name);
        }
        assert_eq!(Withheld::named("mmx"), None);
        assert_eq!(Withheld::default().hidden(), NOTHING);
        assert_eq!(Withheld(u64::MAX).hidden().states, u64::MAX);
    }
}
