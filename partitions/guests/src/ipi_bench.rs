//! `ipi-bench`: what an interrupt from one processor to another takes, from the instruction that sends it to the first
//! instruction of its handler. The processors' counters must be one, as they are under Bochs.

use crate::bench::{self, COUNT, WARM_UP};
use crate::instructions::{disable_interrupts, enable_interrupts};
use crate::interrupts::{self, MEASURED};
use crate::machine::{self, ticks};
use crate::smp::{self, wait_until};
use crate::{apic, println};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The processor that is interrupted.
const TARGET: usize = 1;
/// Until this has passed a halting processor has halted, and a monitor has nothing left to do for it.
const SETTLE: u64 = 20_000;

/// What the other processor does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Busy,
    Halted,
}

const STATES: [(State, &str); 2] = [(State::Busy, "ipi.busy"), (State::Halted, "ipi.halted")];
/// The APIC's modes, in the order in which they are measured: there is no way back.
const VARIANTS: [&str; 2] = [".xapic", ".x2apic"];

/// The round for which the other processor waits.
static READY: AtomicU32 = AtomicU32::new(0);
/// How long each took, by mode and state.
static FIGURES: [[[AtomicU64; COUNT]; STATES.len()]; VARIANTS.len()] =
    [const { [const { [const { AtomicU64::new(0) }; COUNT] }; STATES.len()] }; VARIANTS.len()];

unsafe extern "C" {
    fn guest_wait_busy(word: *const AtomicU32, value: u32);
    fn guest_wait_halted();
    fn guest_wait_halted_end();
}

/// Takes all figures. The plain names are those of the faster of the modes that there are.
pub fn run() {
    smp::start();
    if smp::count() <= TARGET {
        println!("ipi-bench: one processor has nobody to interrupt");
        machine::exit(2);
    }
    bench::run(".smp");
    let modes = if apic::offers_x2apic() { 2 } else { 1 };
    for (mode, figures) in FIGURES.iter().enumerate().take(modes) {
        if mode == 1 {
            apic::choose_x2apic();
            smp::on_all(&|_| apic::enable());
        }
        for ((state, _), figures) in STATES.into_iter().zip(figures) {
            READY.store(0, Ordering::SeqCst);
            smp::on_all(&|processor| match processor {
                0 => interrupt(state, figures),
                TARGET => be_interrupted(state),
                _ => {}
            });
        }
    }
    for (number, (_, name)) in STATES.into_iter().enumerate() {
        for (mode, variant) in VARIANTS.iter().enumerate().take(modes) {
            bench::print(name, variant, &sorted(&FIGURES[mode][number]));
        }
        let fastest = (0..modes).min_by_key(|mode| sorted(&FIGURES[*mode][number])[COUNT / 2]).unwrap_or(0);
        bench::print(name, "", &sorted(&FIGURES[fastest][number]));
    }
}

fn sorted(figures: &[AtomicU64; COUNT]) -> [u64; COUNT] {
    let mut figures = figures.each_ref().map(|figure| figure.load(Ordering::SeqCst));
    figures.sort_unstable();
    figures
}

/// Sends, and notes how long it took.
fn interrupt(state: State, figures: &[AtomicU64; COUNT]) {
    let command = apic::ASSERT | MEASURED as u32;
    let destination = smp::identifier(TARGET);
    if !apic::is_x2apic() {
        // It stays, so that sending is one instruction.
        apic::write(apic::COMMAND_DESTINATION, destination << 24);
    }
    for round in 0..WARM_UP + COUNT {
        wait_until("the other processor", || READY.load(Ordering::SeqCst) == round as u32 + 1);
        let before = interrupts::count(TARGET, MEASURED);
        let settled = ticks() + SETTLE;
        while ticks() < settled {
            core::hint::spin_loop();
        }
        let start = if apic::is_x2apic() {
            let start = ticks();
            apic::send(command, destination);
            start
        } else {
            let start = ticks();
            apic::write(apic::COMMAND, command);
            start
        };
        wait_until("the interrupt", || interrupts::count(TARGET, MEASURED) != before);
        if state == State::Halted {
            let place = guest_wait_halted_end as *const () as u64;
            assert_eq!(interrupts::interrupted(TARGET), place, "the other processor was not halted");
        }
        if let Some(figure) = round.checked_sub(WARM_UP).and_then(|index| figures.get(index)) {
            figure.store(interrupts::entered().wrapping_sub(start as u32).into(), Ordering::SeqCst);
        }
    }
}

/// Waits for each interrupt in one of the two ways.
fn be_interrupted(state: State) {
    for round in 0..WARM_UP + COUNT {
        disable_interrupts();
        let place = interrupts::count_place(TARGET, MEASURED);
        let before = place.load(Ordering::SeqCst);
        READY.store(round as u32 + 1, Ordering::SeqCst);
        // SAFETY: both let interrupts in, wait for one, and keep them out again.
        unsafe {
            match state {
                State::Busy => guest_wait_busy(place, before),
                State::Halted => guest_wait_halted(),
            }
        }
        enable_interrupts();
    }
}
