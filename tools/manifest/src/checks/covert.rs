//! What they share between whom nothing must flow: by the time that one takes, the other one learns of it. One warning for each
//! thing that is shared, not for each pair.

use super::{Context, pci::owners_with_all_memory};
use crate::{
    diagnostic::Span,
    model::{Flow, Manifest, Subject},
};
use std::collections::BTreeSet;

/// Everybody between whom `[policy]` forbids flows, in pairs.
fn separated(manifest: &Manifest) -> Vec<(Subject<'_>, Subject<'_>)> {
    let denied = manifest.policy.deny.iter().filter_map(|rule| Flow::parse(&rule.value));
    let denied = denied.filter_map(|flow| Some((manifest.subject(flow.from)?, manifest.subject(flow.to)?)));
    denied.chain(manifest.higher_and_lower()).filter(|(one, other)| one.name().value != other.name().value).collect()
}

/// Whether the frame of a CPU never lets both of a pair run in one window, or in the gaps: neither takes time from the other.
fn are_in_windows_apart(manifest: &Manifest, one: &str, other: &str, cpu: u64) -> bool {
    let frame = manifest.frames.iter().find(|frame| frame.number() == Some(cpu));
    frame.is_some_and(|frame| {
        let together = frame.windows.iter().any(|window| {
            let has = |name: &str| window.partitions.iter().any(|partition| partition.value == name);
            has(one) && has(other)
        });
        !together && (frame.names(one) || frame.names(other))
    })
}

/// Whether two take time from one another on a CPU.
fn share(manifest: &Manifest, one: Subject<'_>, other: Subject<'_>, cpu: u64) -> bool {
    one.runs_on(cpu)
        && other.runs_on(cpu)
        && !are_in_windows_apart(manifest, &one.name().value, &other.name().value, cpu)
}

/// The names of pairs, each once, as a sentence has them, and the place of the first CPU that one of them says.
fn named<'m>(manifest: &'m Manifest, pairs: &[(Subject<'m>, Subject<'m>)]) -> (String, Vec<Subject<'m>>) {
    let names: BTreeSet<&str> =
        pairs.iter().flat_map(|(one, other)| [one, other]).map(|subject| subject.name().value.as_str()).collect();
    let subjects: Vec<_> =
        manifest.subjects().filter(|subject| names.contains(subject.name().value.as_str())).collect();
    let quoted: Vec<_> = subjects.iter().map(|subject| format!("`{}`", subject.name().value)).collect();
    let text = match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => quoted.concat(),
    };
    (text, subjects)
}

/// The place of a CPU in a subject's table.
fn place<'m>(subject: Subject<'m>, cpu: u64) -> &'m Span {
    let said = subject.cpus().iter().find(|own| own.value == cpu);
    said.map_or(&subject.name().span, |own| &own.span)
}

/// Whoever shares a CPU sees when the other one runs, and what it leaves in the CPU's caches and predictors.
pub(super) fn processors_are_not_shared(context: &Context<'_>) {
    let manifest = context.manifest;
    let pairs = separated(manifest);
    let cpus: BTreeSet<u64> =
        pairs.iter().flat_map(|(one, other)| [one, other]).flat_map(|one| one.cpus()).map(|cpu| cpu.value).collect();
    for cpu in cpus {
        let here: Vec<_> = pairs.iter().copied().filter(|(one, other)| share(manifest, *one, *other, cpu)).collect();
        let (names, subjects) = named(manifest, &here);
        let Some((first, others)) = subjects.split_first() else {
            continue;
        };
        let message = format!("{names} share CPU {cpu}, though [policy] separates them");
        let mut report = context.reporter.warning("covert::same_cpu", place(*first, cpu), message);
        for other in others {
            report = report.also(place(*other, cpu), "and here");
        }
        report.help(
            "each can tell by time and caches what the other does: give them CPUs, on cores of their own, or windows of a frame",
        );
    }
}

/// CPUs of one machine share a cache and the way to memory, and windows of one CPU the more so.
pub(super) fn caches_are_not_shared(context: &Context<'_>) {
    let manifest = context.manifest;
    let pairs = separated(manifest);
    let share_a_cpu = |one: Subject<'_>, other| one.cpus().iter().any(|cpu| share(manifest, one, other, cpu.value));
    let apart: Vec<_> = pairs.into_iter().filter(|(one, other)| !share_a_cpu(*one, *other)).collect();
    let (names, subjects) = named(manifest, &apart);
    let policy = manifest.policy.deny.first().or(manifest.policy.levels.first());
    if let (Some(policy), false) = (policy, subjects.is_empty()) {
        context
            .reporter
            .warning(
                "covert::same_cache",
                &policy.span,
                format!("{names} are on different CPUs or in different windows, and share caches and memory bandwidth"),
            )
            .label("does not see that")
            .help("nothing divides them: whoever must not learn even that way needs a machine of its own");
    }
}

/// A device that reaches all memory is a way past every rule, for its owner.
pub(super) fn memory_is_not_open(context: &Context<'_>) {
    let manifest = context.manifest;
    if separated(manifest).is_empty() {
        return;
    }
    for (owner, device) in owners_with_all_memory(manifest) {
        if manifest.policy.trusts(&owner.name.value) {
            continue;
        }
        context
            .reporter
            .warning(
                "covert::no_iommu",
                &device.span,
                format!("`{}` could pass on anything: its device reaches all memory", owner.name.value),
            )
            .label("no IOMMU is asked for")
            .help("add `iommu = true` to [machine], or name it in `trusted` of [policy]");
    }
}
