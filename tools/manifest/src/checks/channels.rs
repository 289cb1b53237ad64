//! Channels and endpoints.

use super::Context;
use crate::model::{Console, Located};

/// Signal bits of a partition that the compiler gives away; bit 63 belongs to the runtime.
pub(crate) const USABLE_BITS: usize = 63;
/// Kinds of channel that a manifest can ask for.
const KINDS: [&str; 2] = ["text", "raw"];

/// Both ends of a channel, and all of an endpoint, exist.
pub(super) fn ends_are_known(context: &Context<'_>) {
    let manifest = context.manifest;
    let partitions = manifest.partition_names();
    for channel in &manifest.channels {
        for end in channel.first.iter().chain(&channel.second) {
            if manifest.guests.iter().any(|guest| guest.name.value == end.value) {
                context
                    .reporter
                    .error(
                        "channels::end_unknown",
                        &end.span,
                        format!("`{}` is a guest: channels connect native partitions", end.value),
                    )
                    .help("a guest reaches others through its devices: `console`, `[[guest.NAME.disk]]`");
            } else if !partitions.contains(&end.value.as_str()) {
                context.unknown("channels::end_unknown", end, "native partition", &partitions);
            }
        }
    }
    for endpoint in &manifest.endpoints {
        for name in endpoint.server.iter().chain(endpoint.clients()) {
            if !partitions.contains(&name.value.as_str()) {
                context.unknown("channels::end_unknown", name, "native partition", &partitions);
            }
        }
        if endpoint.clients.as_ref().is_some_and(Vec::is_empty) {
            context
                .reporter
                .error(
                    "channels::no_clients",
                    &endpoint.name.span,
                    format!("nobody calls endpoint `{}`", endpoint.name.value),
                )
                .help("list at least one partition in `clients`");
        }
    }
}

/// Nobody has a channel or an endpoint with itself, and a client calls an endpoint once.
pub(super) fn ends_differ(context: &Context<'_>) {
    for channel in &context.manifest.channels {
        let (Some(first), Some(second)) = (&channel.first, &channel.second) else {
            continue;
        };
        if first.value == second.value {
            context
                .reporter
                .error(
                    "channels::to_itself",
                    &second.span,
                    format!("channel `{}` leads from `{}` to itself", channel.name.value, first.value),
                )
                .also(&first.span, "the same partition")
                .help("a channel connects two different partitions");
        }
    }
    for endpoint in &context.manifest.endpoints {
        let mut seen: Vec<&Located<String>> = endpoint.server.iter().collect();
        for client in endpoint.clients() {
            if let Some(first) = seen.iter().find(|name| name.value == client.value) {
                context
                    .reporter
                    .error(
                        "channels::to_itself",
                        &client.span,
                        format!("`{}` is already part of endpoint `{}`", client.value, endpoint.name.value),
                    )
                    .also(&first.span, "first here")
                    .help("a partition is either the server or one of the clients");
            }
            seen.push(client);
        }
    }
}

/// A channel's kind is one that a manifest can ask for.
pub(super) fn kinds_are_known(context: &Context<'_>) {
    for kind in context.manifest.channels.iter().filter_map(|channel| channel.kind.as_ref()) {
        if !KINDS.contains(&kind.value.as_str()) {
            context.unknown("channels::kind_unknown", kind, "kind of channel", &KINDS);
        }
    }
}

/// Calls switch from client to server directly: both run on one CPU.
pub(super) fn endpoints_are_on_one_cpu(context: &Context<'_>) {
    let manifest = context.manifest;
    for endpoint in &manifest.endpoints {
        let server = endpoint.server.as_ref().and_then(|server| manifest.partition(&server.value));
        let Some(server) = server else { continue };
        for name in endpoint.clients() {
            let Some(client) = manifest.partition(&name.value) else {
                continue;
            };
            if client.cpu.value != server.cpu.value {
                context
                    .reporter
                    .error(
                        "channels::endpoint_across_cpus",
                        &name.span,
                        format!(
                            "`{}` runs on CPU {}, its server `{}` on CPU {}",
                            name.value, client.cpu.value, server.name.value, server.cpu.value
                        ),
                    )
                    .help("put both on one CPU, or connect them by a channel");
            }
        }
    }
}

/// A partition has a signal bit for each of its channels and interrupts.
pub(super) fn signal_bits_suffice(context: &Context<'_>) {
    let manifest = context.manifest;
    for partition in &manifest.partitions {
        let name = &partition.name.value;
        let is = |end: &Option<Located<String>>| end.as_ref().is_some_and(|end| end.value == *name);
        let channels = manifest.channels.iter().filter(|channel| is(&channel.first) || is(&channel.second)).count();
        let interrupts: usize = (partition.devices.iter())
            .filter_map(|device| manifest.device(&device.value))
            .map(|device| {
                device.interrupts.len() + device.pci.as_ref().map_or(0, |pci| pci.vectors.value.min(64) as usize)
            })
            .sum();
        let has_console = usize::from(manifest.console_of(crate::model::Subject::Partition(partition)).is_some());
        let served = |console: &Console| match console {
            Console::Default => name == crate::model::DEFAULT_CONSOLE,
            Console::Named(console) => console.value == *name,
            Console::Off => false,
        };
        let texts =
            manifest.partitions.iter().filter(|other| other.name.value != *name && served(&other.console)).count();
        // A guest has two: its serial port and its monitor's text. Init has one, on the default console.
        let guests = 2 * manifest.guests.iter().filter(|guest| served(&guest.console)).count();
        let init = usize::from(name == crate::model::DEFAULT_CONSOLE);
        let disks = manifest.guests.iter().flat_map(|guest| &guest.disks).filter(|disk| is(&disk.service)).count();
        let bits =
            channels + interrupts + has_console + texts + guests + init + disks + manifest.ports_of(name).count();
        if bits > USABLE_BITS {
            context
                .reporter
                .error(
                    "channels::too_many_bits",
                    &partition.name.span,
                    format!("`{name}` needs {bits} signal bits, and has {USABLE_BITS}"),
                )
                .help("each channel, disk, console and interrupt takes one: split the partition in two");
        }
    }
    let count = manifest.subjects().count() + 1;
    let most = bulkhead_plan::layout::MAX_PARTITIONS;
    if let (true, Some(last)) = (count > most, manifest.subjects().last()) {
        context
            .reporter
            .error("channels::too_many_partitions", &last.name().span, format!("{count} partitions are too many"))
            .help(format!("a system has at most {most} partitions and guests, init included"));
    }
}
