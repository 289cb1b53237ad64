//! IA32_APIC_BASE: off, x2APIC, elsewhere (SDM vol. 3, 11.4.3, 11.4.4 and 11.12).
//!
//! Bochs 2.7 by itself never switches an APIC on again, so that this is the last of all areas.

use super::apic;
use super::bits::GP;
use super::checks::Checks;
use super::memory::{self, APIC};
use super::model_specific::{read, refuses};
use super::registers::{self, cpuid};

const APIC_BASE: u32 = 0x1b;
const ENABLE: u64 = 1 << 11;
const EXTENDED: u64 = 1 << 10;

pub fn run(checks: &mut Checks) {
    let value = registers::msr(APIC_BASE);
    checks.equal("APIC base after reset", value, APIC | 1 << 8 | ENABLE);
    let width = cpuid(0x8000_0008, 0, 0) & 0xff;
    for wrong in [1, 0x80, 0x200] {
        refuses(checks, "APIC base: a reserved bit", APIC_BASE, value | wrong);
    }
    refuses(checks, "APIC base: no physical address", APIC_BASE, value | 1 << width);
    refuses(checks, "x2APIC with the APIC off", APIC_BASE, value & !ENABLE | EXTENDED);
    checks.raises("x2APIC registers in xAPIC mode", read(0x802), GP, 0);
    if cpuid(1, 0, 2) & 1 << 21 == 0 {
        refuses(checks, "x2APIC that is not offered", APIC_BASE, value | EXTENDED);
    } else {
        let identifier = apic::read(0x20) >> 24;
        registers::set_msr(APIC_BASE, value | EXTENDED);
        checks.equal("x2APIC identifier", registers::msr(0x802), identifier.into());
        refuses(checks, "from x2APIC to xAPIC", APIC_BASE, value);
        refuses(checks, "a register that x2APIC has not", 0x802, 5);
        checks.raises("an x2APIC register that is none", read(0x831), GP, 0);
        registers::set_msr(APIC_BASE, value & !ENABLE);
        registers::set_msr(APIC_BASE, value);
    }
    // Off: its page is memory like any other, and CPUID says that there is none.
    registers::set_msr(APIC_BASE, value & !ENABLE);
    checks.equal("CPUID with the APIC off", u64::from(cpuid(1, 0, 3) >> 9 & 1), 0);
    registers::set_msr(APIC_BASE, value);
    checks.equal("CPUID with the APIC on", u64::from(cpuid(1, 0, 3) >> 9 & 1), 1);
    apic::install();
    // Elsewhere: the registers are there, and no longer here.
    let elsewhere = memory::NOTHING;
    apic::write(apic::INITIAL_COUNT, 0x1234_5678);
    registers::set_msr(APIC_BASE, value & 0xfff | elsewhere);
    let count = crate::machine::read_register(elsewhere as u32 + apic::INITIAL_COUNT);
    registers::set_msr(APIC_BASE, value);
    checks.equal("registers at another address", count.into(), 0x1234_5678);
    apic::stop_timer();
}
