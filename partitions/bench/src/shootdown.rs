//! What it costs to take a page of a guest's memory away (`shootdown.ept`), and whether it is gone then.

use crate::monitor::{GONE, Guest, MAX_PROCESSORS, PRESENT};
use crate::statistics::{COUNT, WARM_UP, print};
use bulkhead_runtime::{Program, println, time};

/// Rounds of the stress.
const ROUNDS: u32 = 5000;
/// Ticks for which the first processor runs at a time: enough to use what shadow tables have to be filled for.
const TURN: u64 = 10_000;
/// Ticks after which a processor inside a guest has surely gone round its loop some times.
const SETTLE: u64 = 500;
/// Milliseconds after which a processor is given up.
const PATIENCE: u64 = 1000;

/// The content of the window in a round.
fn content(round: u32) -> u32 {
    PRESENT << 16 | round & 0xffff
}

/// The stress first: figures of something that does not work would be of no use.
pub fn run(program: &Program) -> Result<(), &'static str> {
    let mut guest = Guest::start(program)?;
    stress(&mut guest)?;
    let mut inside = [0; COUNT];
    measure(&guest, &mut inside, |round| wait_for_others(&guest, content(round)))?;
    guest.put(0, content(0))?;
    guest.halt_others()?;
    guest.take(0);
    let mut outside = [0; COUNT];
    measure(&guest, &mut outside, |_| Ok(()))?;
    print("shootdown.ept", &mut inside);
    print("shootdown.ept.outside", &mut outside);
    Ok(())
}

/// Fills `figures` with the ticks that it took to unmap the window's page, after `ready`.
fn measure(
    guest: &Guest,
    figures: &mut [u64; COUNT],
    ready: impl Fn(u32) -> Result<(), &'static str>,
) -> Result<(), &'static str> {
    for round in 0..WARM_UP + COUNT {
        guest.put(round, content(round as u32))?;
        ready(round as u32)?;
        let start = time::now_low();
        let done = guest.take(round);
        let ticks = u64::from(time::now_low().wrapping_sub(start));
        if !done {
            return Err("a page cannot be unmapped");
        }
        if let Some(figure) = round.checked_sub(WARM_UP).and_then(|index| figures.get_mut(index)) {
            *figure = ticks;
        }
    }
    Ok(())
}

/// Waits until the other processors read this from the window, so that they are inside the guest, and stay there.
fn wait_for_others(guest: &Guest, content: u32) -> Result<(), &'static str> {
    let patience = time::now().saturating_add(time::milliseconds(PATIENCE));
    while guest.others().any(|processor| guest.results(processor).content != content) {
        if time::now() > patience {
            return Err("a processor does not see the window");
        }
    }
    let settled = time::now().saturating_add(SETTLE);
    while time::now() < settled {
        core::hint::spin_loop();
    }
    Ok(())
}

/// Puts two pages into the window by turns while all processors use it. The first processor is outside the guest meanwhile,
/// with what it has cached, the others are inside. A page that was taken out is changed at once: nobody may read that, or write to it.
fn stress(guest: &mut Guest) -> Result<(), &'static str> {
    let mut left = [0, 1].map(|page| guest.written(page));
    let mut late = 0u32;
    guest.put(0, content(0))?;
    for round in 1..=ROUNDS {
        let new = round as usize % 2;
        let old = 1 - new;
        guest.run_first(TURN)?;
        // A little later each time, so that the removal meets the other processor wherever it may be.
        for _ in 0..round % 128 {
            core::hint::spin_loop();
        }
        if !guest.take(old) {
            return Err("a page cannot be unmapped");
        }
        left[old] = guest.written(old);
        guest.change(old, GONE << 16 | round & 0xffff);
        late += u32::from(left[new] != guest.written(new));
        guest.put(new, content(round))?;
        if round % 4 == 0 {
            wait_for_others(guest, content(round))?;
        }
    }
    guest.take(ROUNDS as usize);
    let mut old = 0;
    for processor in (0..MAX_PROCESSORS).take(guest.others().end() + 1) {
        let results = guest.results(processor);
        println!("shootdown: processor {processor} went round {} times", results.rounds);
        if results.rounds < ROUNDS {
            return Err("a processor of the guest did not run enough");
        }
        old += results.old;
    }
    println!("shootdown: {ROUNDS} removals, old content was read {old} times, {late} late writes");
    if old + late == 0 { Ok(()) } else { Err("removed memory was still used") }
}
