//! Exits of a guest between two checkpoints that it sets, as its monitor counts them.

use super::figure::{Figure, Value};
use crate::statistics::{At, Counts};

/// A figure of exits for each of `n` operations.
pub fn figure(name: &str, exits: f64, n: u64, model: &str) -> Figure {
    Figure { n, ..Figure::once(name, (Value::Ratio(exits), "exits"), model) }
}

/// Exits for each of `n` operations between a checkpoint and the next, in hundredths.
pub fn between(counts: &[Counts], guest: &str, checkpoint: u32, n: u64) -> Option<f64> {
    Some(rounded(total(counts, guest, checkpoint)? as f64 / n as f64, 100.0))
}

/// The same, in thousandths, without what an idle guest would have exited for in the same time: its exits are those from checkpoint
/// `idle` on. `ticks` says how long it was from a checkpoint to the next.
pub fn caused(
    counts: &[Counts],
    guest: &str,
    (checkpoint, idle): (u32, u32),
    ticks: impl Fn(u32) -> Option<u64>,
    n: u64,
) -> Option<f64> {
    let share = ticks(checkpoint)? as f64 / ticks(idle).filter(|ticks| *ticks != 0)? as f64;
    let anyhow = total(counts, guest, idle)? as f64 * share;
    let exits = (total(counts, guest, checkpoint)? as f64 - anyhow).max(0.0);
    Some(rounded(exits / n as f64, 1000.0))
}

/// What the counts of these names are together for each of `n` operations, in thousandths, between a checkpoint and the next.
pub fn counted(counts: &[Counts], guest: &str, checkpoint: u32, names: &[&str], n: u64) -> Option<f64> {
    let at = |number| {
        let found = find(counts, guest, number)?;
        Some(names.iter().map(|name| found.get(name)).sum::<u64>())
    };
    Some(rounded(at(checkpoint + 1)?.checked_sub(at(checkpoint)?)? as f64 / n as f64, 1000.0))
}

fn rounded(value: f64, parts: f64) -> f64 {
    (value * parts).round() / parts
}

fn find<'c>(counts: &'c [Counts], guest: &str, checkpoint: u32) -> Option<&'c Counts> {
    counts.iter().find(|counts| counts.guest == guest && counts.at == At::Checkpoint(checkpoint))
}

fn total(counts: &[Counts], guest: &str, checkpoint: u32) -> Option<u64> {
    let at = |number| find(counts, guest, number).map(Counts::exits);
    // The second checkpoint has been counted itself.
    at(checkpoint + 1)?.checked_sub(at(checkpoint)? + 1)
}
