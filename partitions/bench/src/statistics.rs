//! Taking figures, and telling them.

use bulkhead_runtime::{println, time};

/// Figures of one measurement.
pub const COUNT: usize = 1000;
/// Repetitions before the first figure is taken.
pub const WARM_UP: usize = 100;

/// Fills `figures` with the ticks that `operation` took each time.
#[inline(always)]
pub fn measure(figures: &mut [u64; COUNT], mut operation: impl FnMut()) {
    for _ in 0..WARM_UP {
        operation();
    }
    for figure in figures {
        let start = time::now();
        operation();
        *figure = time::now().wrapping_sub(start);
    }
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
