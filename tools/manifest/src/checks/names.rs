//! Names, and what refers to partitions by name.

use super::Context;
use crate::model::{Console, EndCondition, Located, Memory, Subject};
use bulkhead_plan::Name;

/// Longest name that a manifest gives: the compiler adds to it.
const MAX_NAME: usize = 24;
/// Names of entries that every environment may have without asking.
const RESERVED: [&str; 6] = ["console", "serial", "heap", "init", "kernel", "initrd"];

pub(crate) fn is_name(name: &str) -> bool {
    let letters = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    name.len() <= MAX_NAME && name.starts_with(|first: char| first.is_ascii_lowercase()) && name.bytes().all(letters)
}

/// Names are short and plain: they become names of modules, lines on the console, and words in messages.
pub(super) fn names_are_valid(context: &Context<'_>) {
    let manifest = context.manifest;
    let named = (manifest.subjects().map(|subject| subject.name()))
        .chain(manifest.channels.iter().map(|channel| &channel.name))
        .chain(manifest.endpoints.iter().map(|endpoint| &endpoint.name))
        .chain(manifest.memories.iter().map(|memory| &memory.name));
    let help = format!("names have at most {MAX_NAME} letters a to z, digits and hyphens, and begin with a letter");
    for name in named.filter(|name| !is_name(&name.value)) {
        context.reporter.error("names::invalid", &name.span, format!("`{}` is not a name", name.value)).help(&*help);
    }
    for device in manifest.machine.devices.iter().filter(|device| !is_name(&device.name)) {
        if let Some(span) = &device.span {
            context.reporter.error("names::invalid", span, format!("`{}` is not a name", device.name)).help(&*help);
        }
    }
    let system = &manifest.system.name;
    if system.value.is_empty() || Name::new(&system.value).is_none() {
        context
            .reporter
            .error("names::invalid", &system.span, format!("`{}` cannot be the system's name", system.value))
            .help(format!("a system's name has 1 to {} bytes and no control characters", Name::MAX));
    }
}

/// Partitions and guests share one set of names; channels and memory do not take names that every partition has.
pub(super) fn names_are_unique(context: &Context<'_>) {
    let manifest = context.manifest;
    for guest in &manifest.guests {
        if let Some(partition) = manifest.partition(&guest.name.value) {
            context
                .reporter
                .error(
                    "names::duplicate",
                    &guest.name.span,
                    format!("both a guest and a partition are called `{}`", guest.name.value),
                )
                .also(&partition.name.span, "the partition")
                .help("give one of them another name");
        }
    }
    for subject in manifest.subjects().filter(|subject| subject.name().value == "init") {
        context
            .reporter
            .error("names::duplicate", &subject.name().span, "`init` is the partition that builds the others")
            .help("give this one another name");
    }
    let channels = manifest.channels.iter().map(|channel| &channel.name);
    let memories = manifest.memories.iter().map(|memory| &memory.name);
    for name in channels.chain(memories).filter(|name| RESERVED.contains(&name.value.as_str())) {
        context
            .reporter
            .error("names::duplicate", &name.span, format!("`{}` is a name that partitions have already", name.value))
            .help(format!("choose a name other than {}", RESERVED.join(", ")));
    }
}

/// A system has at least one partition or guest.
pub(super) fn system_is_not_empty(context: &Context<'_>) {
    if context.manifest.subjects().next().is_none() {
        context
            .reporter
            .error("names::empty_system", &(0..0), "the manifest has no partition and no guest")
            .help("add a `[partition.NAME]` or a `[guest.NAME]`");
    }
}

/// The end condition waits for somebody that exists and can finish.
pub(super) fn end_names_somebody(context: &Context<'_>) {
    let manifest = context.manifest;
    let end = &manifest.system.end;
    match &end.value {
        EndCondition::Partition(name) if manifest.subject(&name.value).is_none() => {
            context.unknown("names::end_names_nobody", name, "partition or guest", &manifest.subject_names());
        }
        EndCondition::GuestsOff
            if manifest.subjects().next().is_some() && !manifest.subjects().any(Subject::must_finish) =>
        {
            context
                .reporter
                .error(
                    "names::end_names_nobody",
                    &end.span,
                    "the system ends when everybody that must finish has, but nobody must",
                )
                .help("give a guest or partition `must_finish = true`, or choose another end such as \"never\"");
        }
        _ => {}
    }
}

/// A console is a native partition, and another one.
pub(super) fn consoles_are_known(context: &Context<'_>) {
    let manifest = context.manifest;
    for subject in manifest.subjects() {
        let Console::Named(name) = subject.console() else {
            continue;
        };
        if manifest.partition(&name.value).is_none() {
            context.unknown("names::console_unknown", name, "native partition", &manifest.partition_names());
        } else if name.value == subject.name().value {
            context
                .reporter
                .error("names::console_unknown", &name.span, format!("`{}` cannot be its own console", name.value))
                .help("name another partition, or write `console = false`");
        }
    }
}

/// Partitions that the compiler adds have what they need, and nothing else: neither channels nor memory, and nobody waits for them.
pub(super) fn added_partitions_are_not_named(context: &Context<'_>) {
    let manifest = context.manifest;
    let channels = manifest.channels.iter().flat_map(|channel| channel.first.iter().chain(&channel.second));
    let endpoints = manifest.endpoints.iter().flat_map(|endpoint| endpoint.server.iter().chain(endpoint.clients()));
    let memories = manifest.memories.iter().flat_map(Memory::partitions);
    let consoles = manifest.subjects().filter_map(|subject| match subject.console() {
        Console::Named(name) => Some(name),
        Console::Default | Console::Off => None,
    });
    let disks = manifest.disks().filter_map(|(_, disk)| disk.service.as_ref());
    let cards = manifest.guests.iter().flat_map(|guest| &guest.networks).filter_map(|card| card.switch.as_ref());
    let switches = manifest.switches.iter().map(|switch| &switch.name);
    let end = match &manifest.system.end.value {
        EndCondition::Partition(name) => Some(name),
        _ => None,
    };
    let named =
        channels.chain(endpoints).chain(memories).chain(consoles).chain(disks).chain(cards).chain(switches).chain(end);
    for name in named {
        if manifest.partition(&name.value).is_some_and(|partition| partition.is_added) {
            context
                .reporter
                .error(
                    "names::of_an_added_partition",
                    &name.span,
                    format!("`{}` is a partition of the system's own", name.value),
                )
                .help("it has what it needs, and nothing else: name a partition that the manifest describes");
        }
    }
}

/// Settings have names that fit an environment, and values that fit a line.
pub(super) fn settings_are_valid(context: &Context<'_>) {
    const MAX_TEXT: usize = 2048;
    let manifest = context.manifest;
    let too_long = |text: &str| text.len() > MAX_TEXT || text.contains('\0');
    let help = format!("a text has at most {MAX_TEXT} bytes, and no NUL");
    for (key, text) in manifest.partitions.iter().flat_map(|partition| &partition.settings) {
        if !is_name(&key.value.replace('_', "-")) {
            context
                .reporter
                .error("names::invalid", &key.span, format!("`{}` is not a name", key.value))
                .help("settings have names of letters, digits, hyphens and underscores");
        }
        if too_long(text) {
            context.reporter.error("names::text_too_long", &key.span, "this setting is too long").help(&*help);
        }
    }
    let lines = manifest.guests.iter().filter_map(|guest| guest.command_line.as_ref());
    for line in lines.filter(|line: &&Located<String>| too_long(&line.value)) {
        context.reporter.error("names::text_too_long", &line.span, "this command line is too long").help(&*help);
    }
}
