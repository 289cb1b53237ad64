//! The local APIC's timer on one processor: one-shot, periodic, and by deadline (SDM vol. 3, 11.5.4).

use crate::emulators::Platform;
use crate::instructions::{disable_interrupts, enable_interrupts, halt, read_msr, write_msr};
use crate::machine::{cpuid, ticks};
use crate::{apic, interrupts, smp};

const VECTOR: usize = 0xd0;
const PERIODIC: u32 = 1 << 17;
const DEADLINE: u32 = 2 << 17;
const DEADLINE_MSR: u32 = 0x6e0;
const DIVIDE_BY_1: u32 = 0b1011;
/// Long enough that a period is longer than its interrupt takes.
const COUNT: u32 = 400_000;

/// Checks all of it on this processor.
pub fn check(processor: usize) {
    apic::write(apic::DIVIDE, DIVIDE_BY_1);
    check_one_shot(processor);
    check_periodic(processor);
    check_masked(processor);
    // CPUID: TSC-deadline.
    if cpuid(1, 0).ecx >> 24 & 1 != 0 {
        check_deadline(processor);
    }
    apic::write(apic::TIMER, apic::MASKED);
}

fn came(processor: usize) -> u32 {
    interrupts::count(processor, VECTOR)
}

/// Halts until the timer has come this often.
fn halt_until(processor: usize, times: u32) {
    loop {
        disable_interrupts();
        if came(processor).wrapping_sub(times) as i32 >= 0 {
            break;
        }
        halt();
    }
    enable_interrupts();
}

/// Waits longer than the timer takes.
fn pass_time() {
    let start = ticks();
    smp::spin(COUNT / 4);
    // The counter may be faster than instructions, but never slower.
    while ticks().wrapping_sub(start) < 4 * u64::from(COUNT) {
        core::hint::spin_loop();
    }
}

fn check_one_shot(processor: usize) {
    let before = came(processor);
    apic::write(apic::TIMER, VECTOR as u32);
    apic::write(apic::INITIAL_COUNT, COUNT);
    let current = apic::read(apic::CURRENT_COUNT);
    assert!(current <= COUNT, "the count goes down");
    halt_until(processor, before + 1);
    assert_eq!(apic::read(apic::CURRENT_COUNT), 0);
    pass_time();
    assert_eq!(came(processor), before + 1, "processor {processor}: a one-shot timer comes once");
}

fn check_periodic(processor: usize) {
    const TIMES: u32 = 10;
    let before = came(processor);
    apic::write(apic::TIMER, VECTOR as u32 | PERIODIC);
    apic::write(apic::INITIAL_COUNT, COUNT);
    halt_until(processor, before + TIMES);
    apic::write(apic::INITIAL_COUNT, 0);
    // One more may have been under way.
    pass_time();
    let after = came(processor);
    pass_time();
    assert_eq!(came(processor), after, "processor {processor}: a timer that was stopped comes no more");
    assert!(after - before <= TIMES + 1);
}

fn check_masked(processor: usize) {
    let before = came(processor);
    apic::write(apic::TIMER, VECTOR as u32 | apic::MASKED);
    apic::write(apic::INITIAL_COUNT, COUNT);
    pass_time();
    assert_eq!(came(processor), before, "processor {processor}: a masked timer does not come");
    apic::write(apic::INITIAL_COUNT, 0);
}

fn check_deadline(processor: usize) {
    apic::write(apic::TIMER, VECTOR as u32 | DEADLINE);
    for distance in [u64::from(COUNT), 1] {
        let before = came(processor);
        let deadline = ticks() + distance;
        write_msr(DEADLINE_MSR, deadline);
        halt_until(processor, before + 1);
        assert!(ticks() >= deadline, "processor {processor}: the deadline's interrupt came before it");
        if Platform::detect() != Platform::Bare {
            assert_eq!(read_msr(DEADLINE_MSR), 0, "a deadline is over once it has come");
        }
    }
    let before = came(processor);
    write_msr(DEADLINE_MSR, ticks() + u64::from(COUNT));
    write_msr(DEADLINE_MSR, 0);
    pass_time();
    assert_eq!(came(processor), before, "processor {processor}: a deadline of 0 is none");
}
