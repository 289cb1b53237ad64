//! Cyclic major frames.

use super::Context;
use crate::{
    model::{Frame, Located, MIN_WINDOW_US, Manifest, Subject},
    read::show_time,
};
use bulkhead_abi::MAX_FRAME_SLOTS;
use bulkhead_plan::layout::MAX_CPUS;

/// Shortest and longest frame, in microseconds.
const FRAME_US: std::ops::RangeInclusive<u64> = 200..=10_000_000;
/// Longest time that the kernel can promise to a call.
const MAX_CALL_US: u64 = bulkhead_plan::LONGEST_CALL_US;

/// A frame is of a CPU that the machine has.
pub(super) fn cpus_are_there(context: &Context<'_>) {
    let count = context.manifest.machine.cpus.value.min(u64::from(MAX_CPUS));
    for frame in &context.manifest.frames {
        if frame.number().is_none_or(|cpu| cpu >= count) {
            let message = format!("there is no CPU `{}`", frame.cpu.value);
            let report = context.reporter.error("frames::cpu_does_not_exist", &frame.cpu.span, message);
            report.help(format!("write [cpu.N] with a number from 0 to {}", count.saturating_sub(1)));
        }
    }
}

/// A frame has a length that can be kept.
pub(super) fn lengths_can_be_kept(context: &Context<'_>) {
    for length in context.manifest.frames.iter().filter_map(|frame| frame.length_us.as_ref()) {
        if !FRAME_US.contains(&length.value) {
            let message = format!("a frame of {} cannot be kept", show_time(length.value));
            let range = (show_time(*FRAME_US.start()), show_time(*FRAME_US.end()));
            let report = context.reporter.error("frames::length_out_of_range", &length.span, message);
            report.help(format!("frames go from {} to {}", range.0, range.1));
        }
    }
}

/// Each window lies inside its frame, and is long enough to get something done.
pub(super) fn windows_are_inside(context: &Context<'_>) {
    for frame in &context.manifest.frames {
        for window in &frame.windows {
            let (Some(length), Some((start, end))) = (&frame.length_us, window.range()) else { continue };
            if end > length.value {
                let message = format!("the window ends at {}, after its frame", show_time(end));
                let report = context.reporter.error("frames::window_outside_frame", &window.span, message);
                report.also(&length.span, "the frame").help("make it shorter, or the frame longer");
            }
            if end - start < MIN_WINDOW_US {
                let message = format!("a window of {} is mostly switching", show_time(end - start));
                let report = context.reporter.error("frames::window_too_short", &window.span, message);
                report.help(format!("give it at least {}", show_time(MIN_WINDOW_US)));
            }
        }
    }
}

/// No two windows of a CPU overlap.
pub(super) fn windows_are_apart(context: &Context<'_>) {
    for frame in &context.manifest.frames {
        let ranges = frame.windows.iter().filter_map(|window| {
            let (start, end) = window.range()?;
            let names: Vec<_> = window.partitions.iter().map(|name| name.value.as_str()).collect();
            Some((start, end - start, &window.span, format!("the window of {}", names.join(", "))))
        });
        let show = |start, length| format!("{} to {}", show_time(start), show_time(start + length));
        let help = "whoever shares a window is named in one: partitions = [\"one\", \"two\"]";
        context.overlaps("frames::windows_overlap", &ranges.collect::<Vec<_>>(), show, help);
    }
}

/// A window is for partitions and guests that run on the CPU.
pub(super) fn windows_are_for_somebody(context: &Context<'_>) {
    let manifest = context.manifest;
    for (frame, name) in named(manifest) {
        let Some(subject) = manifest.subject(&name.value) else {
            context.unknown("frames::unknown", name, "partition or guest", &manifest.subject_names());
            continue;
        };
        if frame.number().is_some_and(|number| !subject.cpus().iter().any(|cpu| cpu.value == number)) {
            let message = format!("`{}` does not run on CPU {}", name.value, frame.cpu.value);
            let report = context.reporter.error("frames::not_on_this_cpu", &name.span, message);
            report.help("move its window to the frame of its CPU, or it to this CPU");
        }
    }
}

/// Every name in every window.
fn named(manifest: &Manifest) -> impl Iterator<Item = (&Frame, &Located<String>)> {
    let windows = manifest.frames.iter().flat_map(|frame| frame.windows.iter().map(move |window| (frame, window)));
    windows.flat_map(|(frame, window)| window.partitions.iter().map(move |name| (frame, name)))
}

/// Those who run on the CPU of a frame.
fn runs_on<'m>(manifest: &'m Manifest, frame: &'m Frame) -> impl Iterator<Item = Subject<'m>> {
    let number = frame.number();
    manifest.subjects().filter(move |subject| subject.cpus().iter().any(|cpu| Some(cpu.value) == number))
}

/// Nobody has more windows than the kernel keeps; the gaps are those of whoever has none.
pub(super) fn windows_are_not_too_many(context: &Context<'_>) {
    for frame in &context.manifest.frames {
        let (named, rest): (Vec<_>, Vec<_>) = runs_on(context.manifest, frame)
            .map(|subject| subject.name().value.as_str())
            .partition(|name| frame.names(name));
        let gaps = (!rest.is_empty() || frame.number() == Some(0)).then_some("");
        for name in named.into_iter().chain(gaps) {
            let count = frame.slots(name).len();
            if count > MAX_FRAME_SLOTS {
                let message = if name.is_empty() {
                    format!("the frame has {count} gaps for those without a window")
                } else {
                    format!("`{name}` has {count} windows")
                };
                let report = context.reporter.error("frames::too_many_windows", &frame.cpu.span, message);
                report.help(format!(
                    "at most {MAX_FRAME_SLOTS} are possible in a frame; windows that touch count as one"
                ));
            }
        }
    }
}

/// Whoever runs on a CPU with a frame has a window, or there are gaps. Init runs in those of CPU 0.
pub(super) fn everybody_has_time(context: &Context<'_>) {
    for frame in &context.manifest.frames {
        if frame.length_us.is_none() || !frame.slots("").is_empty() {
            continue;
        }
        let init = (frame.number() == Some(0)).then_some("init");
        let rest = runs_on(context.manifest, frame).map(|subject| subject.name().value.as_str());
        let without: Vec<_> = init.into_iter().chain(rest.filter(|name| !frame.names(name))).collect();
        if !without.is_empty() {
            let message = format!("the frame of CPU {} has no time for {}", frame.cpu.value, without.join(", "));
            let report = context.reporter.error("frames::no_time_left", &frame.cpu.span, message);
            report.help("leave a gap between windows: whoever has no window runs there, init on CPU 0 too");
        }
    }
}

/// Budgets are for those without a window.
pub(super) fn budgets_are_for_the_rest(context: &Context<'_>) {
    let manifest = context.manifest;
    for subject in manifest.subjects() {
        let window = named(manifest).find(|(_, name)| name.value == subject.name().value);
        let (Some((_, window)), Some(budget)) = (window, &subject.schedule().budget_us) else { continue };
        let message = format!("`{}` has a window and a budget", window.value);
        let report = context.reporter.error("frames::budget_in_window", &budget.span, message);
        report.also(&window.span, "its window").help("the window is its share: leave `budget` and `period` away");
    }
}

/// The frame of the CPU that an endpoint is on, with each of its clients.
fn framed_clients<'m>(
    manifest: &'m Manifest,
    endpoint: &'m crate::model::Endpoint,
) -> impl Iterator<Item = (&'m Frame, &'m Located<String>)> {
    let cpu =
        endpoint.server.as_ref().and_then(|server| manifest.partition(&server.value)).map(|server| server.cpu.value);
    let frame = manifest.frames.iter().find(|frame| frame.number().is_some() && frame.number() == cpu);
    frame.into_iter().flat_map(|frame| endpoint.clients().iter().map(move |client| (frame, client)))
}

/// The longest call that a server declares fits a window of each client, or a gap if it has none.
pub(super) fn calls_fit_a_window(context: &Context<'_>) {
    for endpoint in &context.manifest.endpoints {
        let Some(worst_case) = &endpoint.worst_case_us else { continue };
        if !(1..=MAX_CALL_US).contains(&worst_case.value) {
            let message = format!("a call cannot take {}", show_time(worst_case.value));
            let report = context.reporter.error("frames::worst_case_out_of_range", &worst_case.span, message);
            report.help(format!("write 1 us to {}", show_time(MAX_CALL_US)));
        }
        for (frame, client) in framed_clients(context.manifest, endpoint) {
            let longest = frame.slots(&client.value).iter().map(|(start, end)| end - start).max().unwrap_or(0);
            if longest < worst_case.value {
                let (longest, needed) = (show_time(longest), show_time(worst_case.value));
                let message =
                    format!("a call of `{}` takes up to {needed}, and its longest window {longest}", client.value);
                let report = context.reporter.error("frames::call_does_not_fit", &worst_case.span, message);
                report.also(&client.span, "the client").help("no call would ever begin: make the window longer");
            }
        }
    }
}

/// A server that does not say how long it takes may be cut off in the middle of a call, and then keeps its other clients waiting.
pub(super) fn calls_end_in_time(context: &Context<'_>) {
    for endpoint in context.manifest.endpoints.iter().filter(|endpoint| endpoint.worst_case_us.is_none()) {
        let mut clients = framed_clients(context.manifest, endpoint);
        if let Some((_, client)) = clients.find(|(frame, client)| frame.names(&client.value)) {
            let message = format!("a window may end in the middle of a call of `{}`", client.value);
            let report = context.reporter.warning("frames::call_may_be_cut", &client.span, message);
            report.help("say how long the server takes at most: worst_case = \"50 us\"");
        }
    }
}

/// A device's interrupts wait for the end of windows whose owners have no such device; they come in those of all others.
pub(super) fn interrupts_stay_out(context: &Context<'_>) {
    let manifest = context.manifest;
    for frame in &manifest.frames {
        let here: Vec<_> = manifest
            .partitions
            .iter()
            .filter(|partition| Some(partition.cpu.value) == frame.number())
            .filter_map(|partition| Some((partition, manifest.interrupts_of(partition)?)))
            .collect();
        for (partition, own) in here.iter().filter(|(partition, _)| frame.names(&partition.name.value)) {
            if let Some((other, device)) = here.iter().find(|(other, _)| other.name != partition.name) {
                let name = &partition.name.value;
                let message = format!("interrupts of `{}` come in the window of `{name}`", device.value);
                let report = context.reporter.warning("frames::interrupts_disturb", &own.span, message);
                report
                    .label("this device must interrupt its owner")
                    .help(format!("where that matters, let `{name}` or `{}` run on another CPU", other.name.value));
            }
        }
    }
}
