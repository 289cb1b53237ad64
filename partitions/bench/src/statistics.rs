//! Taking figures, and telling them.

use bulkhead_runtime::{println, time};

/// Figures of one measurement.
pub const COUNT: usize = 1000;
/// Repetitions before the first figure is taken.
pub const WARM_UP: usize = 100;

/// Fills `figures` with the ticks that `operation` took each time; returns how often it failed.
#[inline(always)]
pub fn measure(figures: &mut [u64; COUNT], mut operation: impl FnMut() -> bool) -> u32 {
    let mut failed = 0;
    for _ in 0..WARM_UP {
        failed += u32::from(!operation());
    }
    for figure in figures {
        // Half of the counter is enough for a difference, and costs no instructions to put together.
        let start = time::now_low();
        let done = operation();
        *figure = u64::from(time::now_low().wrapping_sub(start));
        failed += u32::from(!done);
    }
    failed
}

/// Prints the figures' summary as a JSON object.
pub fn print(name: &str, figures: &mut [u64; COUNT]) {
    figures.sort_unstable();
    let at = |index: usize| figures.get(index).copied().unwrap_or_default();
    println!(
        "{{\"name\": \"{name}\", \"unit\": \"instructions\", \"n\": {COUNT}, \"min\": {}, \"median\": {}, \"p95\": {}}}",
        at(0),
        at(COUNT / 2),
        at(COUNT * 95 / 100)
    );
}
