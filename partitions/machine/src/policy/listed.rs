//! What a guest's manifest says of single model-specific registers: refusals and constants, which count before the model's own answer.
//!
//! There is no rule that shows a register of the machine: what it counts or measures tells of others (energy and temperature of their
//! secrets), and what is written to it concerns them.

use alloc::sync::Arc;

/// What RDMSR of a listed register does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReadRule {
    /// As if the register were not listed.
    Emulate,
    /// #GP(0).
    Deny,
    /// This value.
    Constant(u64),
}

/// What WRMSR to a listed register does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WriteRule {
    /// As if the register were not listed.
    Emulate,
    /// #GP(0).
    Deny,
    /// Nothing.
    Ignore,
}

/// What accesses to one register do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MsrRule {
    /// The register's number.
    pub number: u32,
    /// RDMSR.
    pub read: ReadRule,
    /// WRMSR.
    pub write: WriteRule,
}

/// The rules of a guest, which all its processors share. Of several for one register the first counts.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct MsrRules(Arc<[MsrRule]>);

impl FromIterator<MsrRule> for MsrRules {
    /// Registers that cannot be listed ([`kept`]) are left out.
    fn from_iter<I: IntoIterator<Item = MsrRule>>(rules: I) -> Self {
        Self(rules.into_iter().filter(|rule| kept(rule.number).is_none()).collect())
    }
}

impl MsrRules {
    fn of(&self, number: u32) -> Option<&MsrRule> {
        self.0.iter().find(|rule| rule.number == number)
    }

    /// What RDMSR does.
    #[inline]
    pub fn read(&self, number: u32) -> ReadRule {
        self.of(number).map_or(ReadRule::Emulate, |rule| rule.read)
    }

    /// What WRMSR does.
    #[inline]
    pub fn write(&self, number: u32) -> WriteRule {
        self.of(number).map_or(WriteRule::Emulate, |rule| rule.write)
    }
}

/// Registers with the names that the manuals give them (SDM vol. 4, table 2-2 and following).
pub const NAMED: [(&str, u32); 31] = [
    ("IA32_P5_MC_ADDR", 0x000),
    ("IA32_P5_MC_TYPE", 0x001),
    ("IA32_PLATFORM_ID", 0x017),
    ("MSR_SMI_COUNT", 0x034),
    ("IA32_FEATURE_CONTROL", 0x03a),
    ("IA32_TSC_ADJUST", 0x03b),
    ("IA32_SPEC_CTRL", 0x048),
    ("IA32_PRED_CMD", 0x049),
    ("IA32_BIOS_UPDT_TRIG", 0x079),
    ("IA32_BIOS_SIGN_ID", 0x08b),
    ("MSR_PLATFORM_INFO", 0x0ce),
    ("IA32_MPERF", 0x0e7),
    ("IA32_APERF", 0x0e8),
    ("IA32_MTRRCAP", 0x0fe),
    ("IA32_ARCH_CAPABILITIES", 0x10a),
    ("IA32_FLUSH_CMD", 0x10b),
    ("IA32_MCG_CAP", 0x179),
    ("IA32_MCG_STATUS", 0x17a),
    ("IA32_PERF_STATUS", 0x198),
    ("IA32_PERF_CTL", 0x199),
    ("IA32_CLOCK_MODULATION", 0x19a),
    ("IA32_THERM_STATUS", 0x19c),
    ("IA32_MISC_ENABLE", 0x1a0),
    ("IA32_ENERGY_PERF_BIAS", 0x1b0),
    ("IA32_PACKAGE_THERM_STATUS", 0x1b1),
    ("IA32_DEBUGCTL", 0x1d9),
    ("IA32_MTRR_DEF_TYPE", 0x2ff),
    ("MSR_RAPL_POWER_UNIT", 0x606),
    ("MSR_PKG_ENERGY_STATUS", 0x611),
    ("IA32_XSS", 0xda0),
    ("IA32_TSC_AUX", 0xc000_0103),
];

/// The names in [`NAMED`].
pub const NAMES: [&str; NAMED.len()] = {
    let mut names = [""; NAMED.len()];
    let mut place = 0;
    while place < NAMED.len() {
        names[place] = NAMED[place].0;
        place += 1;
    }
    names
};

const STATE: &str = "the guest's own state is in it, which the processor exchanges at each entry and exit";
const X2APIC: &str =
    "the processor answers for the registers of the x2APIC itself; `without = [\"x2apic\"]` withholds all of them";

/// Registers that cannot be listed, by name, number and the reason.
const KEPT: [(&str, u32, &str); 15] = [
    ("IA32_TIME_STAMP_COUNTER", 0x010, "the processor reads it without the monitor, as RDTSC does"),
    ("IA32_APIC_BASE", 0x01b, "the local APIC, without which no system starts, follows it"),
    ("IA32_SYSENTER_CS", 0x174, STATE),
    ("IA32_SYSENTER_ESP", 0x175, STATE),
    ("IA32_SYSENTER_EIP", 0x176, STATE),
    ("IA32_PAT", 0x277, STATE),
    (
        "IA32_TSC_DEADLINE",
        0x6e0,
        "it is the timer of the local APIC; `without = [\"tsc-deadline\"]` withholds it together with its CPUID bit",
    ),
    ("IA32_EFER", 0xc000_0080, "the mode that the guest runs in is in it, and paging follows it"),
    ("IA32_STAR", 0xc000_0081, STATE),
    ("IA32_LSTAR", 0xc000_0082, STATE),
    ("IA32_CSTAR", 0xc000_0083, STATE),
    ("IA32_FMASK", 0xc000_0084, STATE),
    ("IA32_FS_BASE", 0xc000_0100, STATE),
    ("IA32_GS_BASE", 0xc000_0101, STATE),
    ("IA32_KERNEL_GS_BASE", 0xc000_0102, STATE),
];

/// The number of the register of this name, also of one that cannot be listed.
pub fn named(name: &str) -> Option<u32> {
    let named = NAMED.iter().copied().chain(KEPT.iter().map(|(name, number, _)| (*name, *number)));
    named.into_iter().find(|(known, _)| *known == name).map(|(_, number)| number)
}

/// Why a register cannot be listed; nothing if it can.
pub fn kept(number: u32) -> Option<&'static str> {
    let is_x2apic = (0x800..=0x8ff).contains(&number).then_some(X2APIC);
    is_x2apic.or_else(|| KEPT.iter().find(|(_, kept, _)| *kept == number).map(|(.., reason)| *reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_apart_and_what_is_kept_is_not_offered() {
        for (place, (name, number)) in NAMED.iter().enumerate() {
            assert_eq!((named(name), kept(*number), NAMES[place]), (Some(*number), None, *name));
            assert!(NAMED[..place].iter().all(|(other, at)| other != name && at != number), "{name}");
        }
        for (name, number, _) in KEPT {
            assert_eq!((named(name), kept(number).is_some()), (Some(number), true), "{name}");
        }
        assert_eq!(named("IA32_NOTHING"), None);
        assert!(kept(0x800).is_some() && kept(0x8ff).is_some() && kept(0x900).is_none());
    }

    #[test]
    fn the_first_rule_counts_and_none_is_for_what_is_kept() {
        let rule = |number, read, write| MsrRule { number, read, write };
        let rules: MsrRules = [
            rule(0x1a0, ReadRule::Constant(5), WriteRule::Deny),
            rule(0x1a0, ReadRule::Deny, WriteRule::Ignore),
            rule(0xc000_0080, ReadRule::Deny, WriteRule::Deny),
        ]
        .into_iter()
        .collect();
        assert_eq!((rules.read(0x1a0), rules.write(0x1a0)), (ReadRule::Constant(5), WriteRule::Deny));
        assert_eq!((rules.read(0xc000_0080), rules.write(0xc000_0080)), (ReadRule::Emulate, WriteRule::Emulate));
        assert_eq!(MsrRules::default().read(0x1a0), ReadRule::Emulate);
    }
}
