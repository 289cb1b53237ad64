//! What ends HLT: an interrupt, an NMI though interrupts are off, and a debug exception (SDM vol. 2, HLT).
//!
//! Bochs 2.7 by itself does not get through the last of these: a single step does not end its HLT. Under this project's monitor
//! HLT is not Bochs' affair.

use super::apic;
use super::checks::Checks;
use super::run::{INTERRUPTS, Run};
use super::step::steps;
use crate::code;

const NMI: u8 = 2;
const INTERRUPT: u8 = 0x40;
/// Ticks of the timer until the interrupt: longer than it takes to halt.
const MOMENT: u32 = 100_000;

pub fn run(checks: &mut Checks) {
    apic::interrupt_later(INTERRUPT, MOMENT);
    checks.events("HLT until a timer", Run::new(code!("sti", "nop"; "hlt", "nop")), &[(INTERRUPT, 1)]);
    apic::interrupt_later(INTERRUPT, MOMENT);
    let run = Run::new(code!("nop"; "hlt", "nop")).flags(INTERRUPTS);
    checks.events("HLT without STI right before it", run, &[(INTERRUPT, 1)]);
    apic::stop_timer();
    apic::nmi_later();
    checks.events("HLT until an NMI, interrupts off", Run::new(code!("nop"; "hlt", "nop")).resume(&[2]), &[(NMI, 1)]);
    apic::stop_nmi();
    steps(checks, "HLT, stepped", Run::new(code!("hlt", "nop")), &[1, 2]);
}
