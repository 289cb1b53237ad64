//! Restarts, watchdogs, and faults that are injected.

use super::Context;
use crate::{
    model::{Frame, Manifest, Restart, Subject},
    read::show_time,
};

/// Shortest watchdog: init and the program need time of their own.
const MIN_WATCHDOG_US: u64 = 100_000;
/// Shortest and longest wait before the first restart.
const MIN_BACKOFF_US: u64 = 1_000;
const MAX_BACKOFF_US: u64 = bulkhead_plan::LONGEST_BACKOFF_US;
/// Shortest time between two faults.
const MIN_EVERY_US: u64 = 10_000;

/// A watchdog is of use only if the partition is started anew, and waits long enough.
pub(super) fn watchdogs_can_act(context: &Context<'_>) {
    for subject in context.manifest.subjects() {
        let Some(watchdog) = subject.watchdog_us() else {
            continue;
        };
        if watchdog.value < MIN_WATCHDOG_US {
            let message = format!("a watchdog of {} is too short", show_time(watchdog.value));
            context
                .reporter
                .error("restart::watchdog_too_short", &watchdog.span, message)
                .help(format!("write at least {}", show_time(MIN_WATCHDOG_US)));
        }
        if subject.restart().policy == Restart::Never {
            context
                .reporter
                .error("restart::watchdog_without_restart", &watchdog.span, "what hangs is not started anew")
                .help(r#"add `restart = "always"`, or a limit"#);
        }
    }
}

/// The longest time that somebody goes without a CPU though there is work: between slots of a frame, or with the budget used up.
fn longest_pause(manifest: &Manifest, subject: Subject<'_>) -> u64 {
    let has_threads = |frame: &&Frame| frame.number().is_some_and(|cpu| subject.runs_on(cpu));
    let frames = manifest.frames.iter().filter(has_threads);
    let slots = frames.filter_map(|frame| frame.longest_pause(&subject.name().value)).max();
    let schedule = subject.schedule();
    let budget = schedule.period_us.as_ref().zip(schedule.budget_us.as_ref());
    let budget = budget.map(|(period, budget)| period.value.saturating_sub(budget.value));
    slots.max(budget).unwrap_or(0)
}

/// Init asks for a sign of life after half of a watchdog's time, and waits for it for the other half: within that the partition has to run.
pub(super) fn watchdogs_outlast_pauses(context: &Context<'_>) {
    for partition in &context.manifest.partitions {
        let Some(watchdog) = &partition.watchdog_us else { continue };
        let pause = longest_pause(context.manifest, Subject::Partition(partition));
        if watchdog.value <= pause.saturating_mul(2) {
            let name = &partition.name.value;
            let message =
                format!("`{name}` may be without its CPU for {}, and then be taken for dead", show_time(pause));
            context.reporter.error("restart::watchdog_within_pause", &watchdog.span, message).help(format!(
                "write more than {}: it has half of a watchdog's time to answer",
                show_time(pause.saturating_mul(2))
            ));
        }
    }
}

/// Waits before restarts are within what init can keep.
pub(super) fn backoffs_are_in_range(context: &Context<'_>) {
    let manifest = context.manifest;
    let rules =
        manifest.partitions.iter().map(|one| &one.restart).chain(manifest.guests.iter().map(|one| &one.restart));
    for backoff in rules.filter_map(|rule| rule.backoff_us.as_ref()) {
        if !(MIN_BACKOFF_US..=MAX_BACKOFF_US).contains(&backoff.value) {
            let message = format!("a backoff of {} is out of range", show_time(backoff.value));
            context.reporter.error("restart::backoff_out_of_range", &backoff.span, message).help(format!(
                "write {} to {}: it doubles from restart to restart, up to the latter",
                show_time(MIN_BACKOFF_US),
                show_time(MAX_BACKOFF_US)
            ));
        }
    }
}

/// Faults leave the partition time, and are few enough to be counted.
pub(super) fn faults_are_sensible(context: &Context<'_>) {
    let manifest = context.manifest;
    let partitions = manifest.partitions.iter().map(|one| (&one.inject, one.restart.policy));
    let guests = manifest.guests.iter().map(|one| (&one.inject, one.restart.policy));
    for (inject, policy) in partitions.chain(guests) {
        let Some(inject) = inject else {
            continue;
        };
        if inject.every_us < MIN_EVERY_US || !(1..=1_000_000).contains(&inject.times) {
            context
                .reporter
                .error("restart::fault_out_of_range", &inject.span, "these faults cannot be injected")
                .help(format!("`every` is at least {}, `times` 1 to 1000000", show_time(MIN_EVERY_US)));
        }
        if policy == Restart::Never {
            context
                .reporter
                .error("restart::fault_without_restart", &inject.span, "the partition would stay stopped")
                .help(r#"add `restart = "always"`, or a limit"#);
        }
    }
}
