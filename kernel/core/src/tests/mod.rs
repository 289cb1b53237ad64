//! Property tests: random operations against simple reference models.
//!
//! `BULKHEAD_SEED` replays a campaign, `BULKHEAD_OPERATIONS` sets its length.

mod campaign;
mod check;
mod frame;
mod frames;
mod interleaved;
mod linear;
mod machine;
mod model;
mod page_table;
mod queue;
mod random;
mod shadow;
mod shootdown;

use core::cell::Cell;
use std::thread_local;

thread_local! {
    static ELEMENTARY_STEPS: Cell<u64> = const { Cell::new(0) };
}

/// Called by the code under test for each elementary step.
pub(crate) fn count_elementary_step() {
    ELEMENTARY_STEPS.with(|steps| steps.set(steps.get() + 1));
}

/// Most elementary steps of one step on the small machines of the tests, whose mappings have at most three groups of pages.
const MOST_ELEMENTARY_STEPS: u64 = 8 * 1024;
const _: () = assert!(MOST_ELEMENTARY_STEPS < crate::engine::MOST_ELEMENTARY_STEPS);

/// Fails if more elementary steps were taken since the last call than one step may take.
fn assert_one_step() {
    let steps = take_elementary_steps();
    assert!(steps <= MOST_ELEMENTARY_STEPS, "{steps} elementary steps in one step");
}

/// Elementary steps since the last call.
fn take_elementary_steps() -> u64 {
    ELEMENTARY_STEPS.with(Cell::take)
}
