//! Watchdogs, and faults that are injected.

use super::Context;
use crate::{model::Restart, read::show_time};

/// Shortest watchdog: init and the program need time of their own.
const MIN_WATCHDOG_US: u64 = 100_000;
/// Shortest time between two faults.
const MIN_EVERY_US: u64 = 10_000;

/// A watchdog is of use only if the partition is started anew, and waits long enough.
pub(super) fn watchdogs_can_act(context: &Context<'_>) {
    for partition in &context.manifest.partitions {
        let Some(watchdog) = &partition.watchdog_us else {
            continue;
        };
        if watchdog.value < MIN_WATCHDOG_US {
            let message = format!("a watchdog of {} is too short", show_time(watchdog.value));
            context
                .reporter
                .error("restart::watchdog_too_short", &watchdog.span, message)
                .help(format!("write at least {}", show_time(MIN_WATCHDOG_US)));
        }
        if partition.restart == Restart::Never {
            context
                .reporter
                .error("restart::watchdog_without_restart", &watchdog.span, "what hangs is not started anew")
                .help(r#"add `restart = "always"`, or a limit"#);
        }
    }
}

/// Faults leave the partition time, and are few enough to be counted.
pub(super) fn faults_are_sensible(context: &Context<'_>) {
    for partition in &context.manifest.partitions {
        let Some(inject) = &partition.inject else {
            continue;
        };
        if inject.every_us < MIN_EVERY_US || !(1..=1_000_000).contains(&inject.times) {
            context
                .reporter
                .error("restart::fault_out_of_range", &inject.span, "these faults cannot be injected")
                .help(format!("`every` is at least {}, `times` 1 to 1000000", show_time(MIN_EVERY_US)));
        }
        if partition.restart == Restart::Never {
            context
                .reporter
                .error("restart::fault_without_restart", &inject.span, "the partition would stay stopped")
                .help(r#"add `restart = "always"`, or a limit"#);
        }
    }
}
