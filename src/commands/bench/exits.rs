//! Exits of a guest between two checkpoints that it sets, as its monitor counts them.

use super::figure::{Figure, Value};
use crate::statistics::{At, Counts};

/// A figure of exits for each of `n` operations.
pub fn figure(name: &str, exits: f64, n: u64, model: &str) -> Figure {
    Figure { n, ..Figure::once(name, (Value::Ratio(exits), "exits"), model) }
}

/// Exits for each of `n` operations between a checkpoint and the next, in thousandths.
pub fn between(counts: &[Counts], guest: &str, checkpoint: u32, n: u64) -> Option<f64> {
    let at = |number| {
        let mut all = counts.iter();
        all.find(|counts| counts.guest == guest && counts.at == At::Checkpoint(number)).map(Counts::exits)
    };
    // The second checkpoint has been counted itself.
    let exits = at(checkpoint + 1)?.checked_sub(at(checkpoint)? + 1)?;
    Some((exits as f64 * 1000.0 / n as f64).round() / 1000.0)
}
