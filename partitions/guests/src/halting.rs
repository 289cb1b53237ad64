//! What wakes a processor that has halted, and what does not (SDM vol. 2, HLT).

use crate::instructions::{disable_interrupts, enable_interrupts, halt, halt_without_interrupts, write_cr8};
use crate::interrupts::{self, NMI};
use crate::smp::{self, MAXIMUM, wait_until};
use crate::{apic, delay};
use core::sync::atomic::{AtomicU32, Ordering};

const VECTOR: usize = 0x41;

/// How far each processor has come.
static STEPS: [AtomicU32; MAXIMUM] = [const { AtomicU32::new(0) }; MAXIMUM];

/// Checks it with each of the other processors in turn, which halt; processor 0 wakes them.
pub fn check() {
    for target in smp::others() {
        STEPS[target].store(0, Ordering::SeqCst);
        smp::on_all(&|processor| match processor {
            0 => wake(target),
            _ if processor == target => be_woken(target),
            _ => {}
        });
    }
}

fn has_come_to(target: usize, step: u32) -> bool {
    STEPS[target].load(Ordering::SeqCst) == step
}

fn expect(target: usize, step: u32, what: &str) {
    wait_until(what, || has_come_to(target, step));
    // From the step to HLT is not far, and what must not happen has its time.
    delay::microseconds(1000);
    assert!(has_come_to(target, step), "processor {target} did not halt before {what}");
}

fn wake(target: usize) {
    let [interrupts, nmis] = [VECTOR, NMI].map(|vector| interrupts::count(target, vector));
    let came = || [interrupts::count(target, VECTOR) - interrupts, interrupts::count(target, NMI) - nmis];
    let interrupt = || apic::send(apic::ASSERT | VECTOR as u32, smp::identifier(target));
    let nmi = || apic::send(apic::ASSERT | apic::NMI, smp::identifier(target));

    for (step, what) in [(1, "an interrupt that is held back"), (2, "an interrupt that is kept out")] {
        expect(target, step, what);
        interrupt();
        expect(target, step, "an NMI");
        assert_eq!(came(), [step - 1, step - 1], "processor {target}: interrupts and NMIs while it is halted");
        nmi();
        expect(target, step + 1, "an NMI");
        assert_eq!(came(), [step, step], "processor {target}: interrupts and NMIs after it has been woken");
    }
}

fn be_woken(target: usize) {
    let step = |number| STEPS[target].store(number, Ordering::SeqCst);
    write_cr8(15);
    step(1);
    halt();
    write_cr8(0);
    wait_until("what was held back", || interrupts::count(target, VECTOR) != 0);
    disable_interrupts();
    step(2);
    halt_without_interrupts();
    enable_interrupts();
    smp::spin(1000);
    step(3);
}
