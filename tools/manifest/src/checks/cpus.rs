//! Processors.

use super::Context;
use bulkhead_machine::policy::withheld::FEATURES;
use bulkhead_plan::layout::{MAX_CPUS, MAX_VCPUS};

/// A machine has 1 to 64 CPUs.
pub(super) fn machine_has_cpus(context: &Context<'_>) {
    let cpus = &context.manifest.machine.cpus;
    if !(1..=u64::from(MAX_CPUS)).contains(&cpus.value) {
        context
            .reporter
            .error("cpus::machine_has_none", &cpus.span, format!("a machine cannot have {} CPUs", cpus.value))
            .help(format!("write 1 to {MAX_CPUS}"));
    }
}

/// Everybody runs on CPUs that the machine has.
pub(super) fn cpus_exist(context: &Context<'_>) {
    let machine = &context.manifest.machine;
    let count = machine.cpus.value;
    if count == 0 {
        return;
    }
    for subject in context.manifest.subjects() {
        let mut missing: Vec<_> = subject.cpus().iter().filter(|cpu| cpu.value >= count).collect();
        // A range of CPUs stands in one place.
        missing.dedup_by(|next, first| next.span == first.span);
        for cpu in missing {
            let (only, choice) = if count == 1 {
                ("only CPU 0".to_owned(), "0".to_owned())
            } else {
                (format!("CPUs 0 to {}", count - 1), format!("0 to {}", count - 1))
            };
            context
                .reporter
                .error(
                    "cpus::does_not_exist",
                    &cpu.span,
                    format!("CPU {} is not there: the machine has {only}", cpu.value),
                )
                .also(&machine.cpus.span, "the machine's CPUs")
                .help(format!("choose {choice}, or raise `cpus` in [machine]"));
        }
    }
}

/// Two processors of a guest on one CPU take turns: whatever they wait for busily, such as a lock, takes until the turn ends.
pub(super) fn processors_are_apart(context: &Context<'_>) {
    for guest in &context.manifest.guests {
        for (number, cpu) in guest.cpus.iter().enumerate() {
            let Some(first) = guest.cpus.iter().take(number).position(|other| other.value == cpu.value) else {
                continue;
            };
            context
                .reporter
                .warning(
                    "cpus::processors_share_a_cpu",
                    &cpu.span,
                    format!(
                        "processors {first} and {number} of guest `{}` take turns on CPU {}",
                        guest.name.value, cpu.value
                    ),
                )
                .help("give it one processor for each CPU that it may use; more of them are good for tests only");
            break;
        }
    }
}

/// What a guest's processors are not to have is something that its monitor can withhold.
pub(super) fn features_can_be_withheld(context: &Context<'_>) {
    let known: Vec<&str> = FEATURES.iter().map(|feature| feature.name).collect();
    for guest in &context.manifest.guests {
        for feature in guest.without.iter().filter(|feature| !known.contains(&feature.value.as_str())) {
            context.unknown("cpus::feature_unknown", feature, "feature that can be withheld", &known);
        }
        if let (Some(monitor), Some(feature)) = (&guest.monitor, guest.without.first()) {
            context
                .reporter
                .error(
                    "cpus::features_not_withheld",
                    &feature.span,
                    format!("monitor `{}` withholds no features", monitor.value),
                )
                .also(&monitor.span, "the guest's monitor")
                .help("leave `cpu` out, or `monitor`: the virtual machine monitor withholds features");
        }
    }
}

/// A guest has 1 to 16 processors.
pub(super) fn vcpus_are_not_too_many(context: &Context<'_>) {
    for guest in &context.manifest.guests {
        if !(1..=MAX_VCPUS).contains(&guest.cpus.len()) {
            context
                .reporter
                .error(
                    "cpus::vcpu_count",
                    &guest.cpus_span,
                    format!("a guest cannot have {} processors", guest.cpus.len()),
                )
                .help(format!("list 1 to {MAX_VCPUS} CPUs, one for each processor of the guest"));
        }
    }
}
