//! Property tests: random operations against simple reference models.
//!
//! `BULKHEAD_SEED` replays a campaign, `BULKHEAD_OPERATIONS` sets its length.

mod campaign;
mod frames;
mod interleaved;
mod linear;
mod machine;
mod model;
mod page_table;
mod queue;
mod random;

use core::cell::Cell;
use std::thread_local;

thread_local! {
    static ELEMENTARY_STEPS: Cell<u64> = const { Cell::new(0) };
}

/// Called by the code under test for each elementary step.
pub(crate) fn count_elementary_step() {
    ELEMENTARY_STEPS.with(|steps| steps.set(steps.get() + 1));
}

/// Elementary steps since the last call.
fn take_elementary_steps() -> u64 {
    ELEMENTARY_STEPS.with(Cell::take)
}
