//! Control, debug and model-specific registers, for setting tests up. What a test tries is a piece of code instead.

use super::run::DR6_CLEAR;
use core::arch::asm;
use core::arch::x86_64::__cpuid_count;

macro_rules! accessors {
    ($($read:ident $write:ident $register:literal)*) => { $(
        /// Reads the register.
        pub fn $read() -> u64 {
            let value;
            // SAFETY: reading it changes nothing.
            unsafe { asm!(concat!("mov {}, ", $register), out(reg) value, options(nostack, preserves_flags)) };
            value
        }

        /// Writes the register.
        pub fn $write(value: u64) {
            // SAFETY: tests set values that this program can run with.
            unsafe { asm!(concat!("mov ", $register, ", {}"), in(reg) value, options(nostack, preserves_flags)) };
        }
    )* };
}

accessors! {
    cr0 set_cr0 "cr0"
    cr3 set_cr3 "cr3"
    cr4 set_cr4 "cr4"
    dr0 set_dr0 "dr0"
    dr1 set_dr1 "dr1"
    dr2 set_dr2 "dr2"
    dr3 set_dr3 "dr3"
    dr6 set_dr6 "dr6"
    dr7 set_dr7 "dr7"
}

/// CR2.
pub fn cr2() -> u64 {
    let value;
    // SAFETY: reading it changes nothing.
    unsafe { asm!("mov {}, cr2", out(reg) value, options(nostack, preserves_flags)) };
    value
}

/// DR6, which is clear from then on, as a handler of debug exceptions has it.
pub fn take_dr6() -> u64 {
    let value = dr6();
    set_dr6(DR6_CLEAR);
    value
}

/// Reads a model-specific register that must be there.
pub fn msr(index: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reading has no effects.
    unsafe { asm!("rdmsr", in("ecx") index, out("eax") low, out("edx") high, options(nostack, preserves_flags)) };
    u64::from(high) << 32 | u64::from(low)
}

/// Writes a model-specific register that must be there.
pub fn set_msr(index: u32, value: u64) {
    let (low, high) = (value as u32, (value >> 32) as u32);
    // SAFETY: tests set values that this program can run with.
    unsafe { asm!("wrmsr", in("ecx") index, in("eax") low, in("edx") high, options(nostack, preserves_flags)) };
}

/// Drops the translation of a linear address.
pub fn invalidate(address: u64) {
    // SAFETY: no harm is done by forgetting a translation.
    unsafe { asm!("invlpg [{}]", in(reg) address, options(nostack, preserves_flags)) };
}

/// A register of CPUID: 0 to 3 for EAX to EDX.
pub fn cpuid(leaf: u32, subleaf: u32, register: usize) -> u32 {
    let answer = __cpuid_count(leaf, subleaf);
    [answer.eax, answer.ebx, answer.ecx, answer.edx][register & 3]
}

/// IA32_EFER.
pub const EFER: u32 = 0xc000_0080;
/// EFER.NXE.
pub const NXE: u64 = 1 << 11;

/// INT3, whose handler returns.
pub fn breakpoint() {
    // SAFETY: the handler leaves all registers as they are.
    unsafe { asm!("int3") };
}
