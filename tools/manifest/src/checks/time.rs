//! Priorities, budgets and periods.

use super::Context;
use crate::read::show_time;
use bulkhead_plan::layout::MAX_PRIORITY;

/// Shortest period: shorter ones would cost more in switching than they give.
const MIN_PERIOD_US: u64 = 100;
/// Longest period.
const MAX_PERIOD_US: u64 = 60_000_000;

/// Priorities are 0 to 62: the highest one is init's.
pub(super) fn priorities_are_in_range(context: &Context<'_>) {
    let highest = u64::from(MAX_PRIORITY) - 1;
    for subject in context.manifest.subjects() {
        let priority = &subject.schedule().priority;
        if priority.value > highest {
            context
                .reporter
                .error(
                    "time::priority_out_of_range",
                    &priority.span,
                    format!("priority {} is too high", priority.value),
                )
                .help(format!("priorities go from 0 (lowest) to {highest} (highest)"));
        }
    }
}

/// A budget and a period come together, and the budget fits into the period.
pub(super) fn budgets_fit_their_periods(context: &Context<'_>) {
    for subject in context.manifest.subjects() {
        let schedule = subject.schedule();
        match (&schedule.budget_us, &schedule.period_us) {
            (Some(budget), Some(period)) => {
                if budget.value == 0 || budget.value > period.value {
                    let (budget_text, period_text) = (show_time(budget.value), show_time(period.value));
                    context
                        .reporter
                        .error(
                            "time::budget_exceeds_period",
                            &budget.span,
                            format!("a budget of {budget_text} does not fit a period of {period_text}"),
                        )
                        .also(&period.span, "the period")
                        .help(format!("write a budget above 0 and up to {period_text}, or a longer period"));
                }
                if !(MIN_PERIOD_US..=MAX_PERIOD_US).contains(&period.value) {
                    context
                        .reporter
                        .error(
                            "time::period_out_of_range",
                            &period.span,
                            format!("a period of {} cannot be kept", show_time(period.value)),
                        )
                        .help(format!("periods go from {} to {}", show_time(MIN_PERIOD_US), show_time(MAX_PERIOD_US)));
                }
            }
            (Some(alone), None) | (None, Some(alone)) => {
                context
                    .reporter
                    .error("time::budget_without_period", &alone.span, "a budget needs a period, and a period a budget")
                    .help("add the other one, or leave both away for no limit");
            }
            (None, None) => {}
        }
    }
}

/// The budgets on a CPU add up to at most all of its time.
pub(super) fn cpus_are_not_over_committed(context: &Context<'_>) {
    let manifest = context.manifest;
    for cpu in 0..manifest.machine.cpus.value.min(u64::from(bulkhead_plan::layout::MAX_CPUS)) {
        let mut parts_per_million = 0u64;
        let mut shares = Vec::new();
        let mut last = None;
        for subject in manifest.subjects() {
            let schedule = subject.schedule();
            let (Some(budget), Some(period)) = (&schedule.budget_us, &schedule.period_us) else {
                continue;
            };
            if budget.value > period.value || period.value == 0 {
                continue;
            }
            let share = (u128::from(budget.value) * 1_000_000 / u128::from(period.value)) as u64;
            for _ in subject.cpus().iter().filter(|on| on.value == cpu) {
                parts_per_million = parts_per_million.saturating_add(share);
                shares.push(format!("{} {}.{}%", subject.name().value, share / 10_000, share / 1_000 % 10));
                last = Some(budget);
            }
        }
        if let (true, Some(budget)) = (parts_per_million > 1_000_000, last) {
            let total = parts_per_million.div_ceil(1_000);
            context
                .reporter
                .error(
                    "time::cpu_over_committed",
                    &budget.span,
                    format!("the budgets on CPU {cpu} add up to {}.{}%", total / 10, total % 10),
                )
                .label("with this one")
                .help(format!("lower budgets to at most 100% in all; now {}", shares.join(", ")));
        }
    }
}
