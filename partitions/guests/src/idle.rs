//! `idle MILLIONS`: one long HLT, which the local APIC's timer ends after so many million ticks.

use crate::instructions::{disable_interrupts, halt, write_msr};
use crate::machine::{cpuid, ticks};
use crate::{apic, interrupts, println, smp};

const VECTOR: usize = 0xd0;
const DEADLINE: u32 = 2 << 17;
const DEADLINE_MSR: u32 = 0x6e0;

pub fn run(millions: u64) {
    // CPUID: TSC-deadline.
    assert!(cpuid(1, 0).ecx >> 24 & 1 != 0, "the timer has no deadline");
    smp::prepare();
    disable_interrupts();
    println!("idle: for {millions} million ticks");
    apic::write(apic::TIMER, VECTOR as u32 | DEADLINE);
    let end = ticks() + millions * 1_000_000;
    write_msr(DEADLINE_MSR, end);
    while interrupts::count(0, VECTOR) == 0 {
        disable_interrupts();
        halt();
    }
    assert!(ticks() >= end, "the timer came too early");
    println!("idle: over");
}
