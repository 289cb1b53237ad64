//! Channels and endpoints.

use super::Context;
use crate::model::{Channel, Console, Located, ONE_WAY, Subject};
use bulkhead_plan::{ChannelKind, Role};

/// Signal bits of a partition that the compiler gives away; bit 63 belongs to the runtime.
pub(crate) const USABLE_BITS: usize = 63;
/// Kinds of channel that a manifest can ask for.
const KINDS: [&str; 2] = ["text", "raw"];
/// Which way a channel can lead.
const DIRECTIONS: [&str; 2] = ["both", ONE_WAY];
/// Channels that a guest can have, to its disks' services, too: ports of its virtio console.
const MAX_PORTS: usize = 6;

/// Both ends of a channel, and all of an endpoint, exist.
pub(super) fn ends_are_known(context: &Context<'_>) {
    let manifest = context.manifest;
    let (partitions, subjects) = (manifest.partition_names(), manifest.subject_names());
    for channel in &manifest.channels {
        for end in channel.first.iter().chain(&channel.second).filter(|end| manifest.subject(&end.value).is_none()) {
            context.unknown("channels::end_unknown", end, "partition or guest", &subjects);
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

/// A channel's direction is one that there is. A ring's reader writes how far it is: only a raw channel can be one way.
pub(super) fn directions_can_be_kept(context: &Context<'_>) {
    let manifest = context.manifest;
    for channel in &manifest.channels {
        let Some(direction) = &channel.direction else { continue };
        if !DIRECTIONS.contains(&direction.value.as_str()) {
            context.unknown("channels::direction_unknown", direction, "direction of a channel", &DIRECTIONS);
        }
        if !channel.is_one_way() {
            continue;
        }
        let is_guest = |end: &&Located<String>| matches!(manifest.subject(&end.value), Some(Subject::Guest(_)));
        let guest = channel.first.iter().chain(&channel.second).find(is_guest);
        let text = channel.kind.as_ref().filter(|kind| kind.value == "text");
        if let Some(reason) = guest.or(text) {
            context
                .reporter
                .error(
                    "channels::one_way_text",
                    &direction.span,
                    format!("channel `{}` is a stream of bytes, and cannot be one way", channel.name.value),
                )
                .also(&reason.span, "a stream of bytes")
                .help("its receiver has to write how much it has read; a raw channel between two native partitions can be one way");
        }
    }
}

/// A guest sees a stream of bytes, so a channel with a guest is two byte rings; and it has a port for each.
pub(super) fn guests_take_their_channels(context: &Context<'_>) {
    let manifest = context.manifest;
    for guest in &manifest.guests {
        let is_end = |end: &Option<Located<String>>| end.as_ref().is_some_and(|end| end.value == guest.name.value);
        let has = |channel: &&Channel| is_end(&channel.first) || is_end(&channel.second);
        let channels: Vec<_> = manifest.channels.iter().filter(has).collect();
        let controls = guest.disks.iter().filter(|disk| disk.control).map(|disk| &disk.span);
        let ports = channels.iter().map(|channel| &channel.name.span).chain(controls);
        if let Some(span) = ports.into_iter().nth(MAX_PORTS) {
            let message = format!("`{}` has more than {MAX_PORTS} channels", guest.name.value);
            context
                .reporter
                .error("channels::too_many_ports", span, message)
                .help("let one channel carry what several would; `control` of a disk takes one, too");
        }
        for channel in channels {
            if let Some(kind) = channel.kind.as_ref().filter(|kind| kind.value == "raw") {
                let message = format!("`{}` is a guest, and has no raw channels", guest.name.value);
                context
                    .reporter
                    .error("channels::raw_to_guest", &kind.span, message)
                    .help(r#"leave `kind` out, or write "text": a guest sees a stream of bytes"#);
            }
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

/// Bits of a disk or network at its owner.
const OF_DEVICE: usize = ChannelKind::Device.bits(Role::Second) as usize;

fn bits_suffice(context: &Context<'_>, name: &Located<String>, bits: usize, help: &str) {
    if bits > USABLE_BITS {
        let message = format!("`{}` needs {bits} signal bits, and has {USABLE_BITS}", name.value);
        context.reporter.error("channels::too_many_bits", &name.span, message).help(help);
    }
}

/// A partition has a signal bit for each of its channels and interrupts.
pub(super) fn signal_bits_suffice(context: &Context<'_>) {
    let manifest = context.manifest;
    for partition in &manifest.partitions {
        let name = &partition.name.value;
        let is = |end: &Option<Located<String>>| end.as_ref().is_some_and(|end| end.value == *name);
        let takes_a_bit = |channel: &&Channel| is(&channel.second) || (is(&channel.first) && !channel.is_one_way());
        let channels = manifest.channels.iter().filter(takes_a_bit).count();
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
        let served = manifest.disks().filter(|(_, disk)| is(&disk.service));
        let served: usize = served.map(|(_, disk)| 1 + usize::from(disk.control)).sum();
        let disks = served + OF_DEVICE * partition.disks.len();
        let bits =
            channels + interrupts + has_console + texts + guests + init + disks + manifest.ports_of(name).count();
        let help =
            "each channel, disk, console and interrupt takes one, a disk of its own three: split the partition in two";
        bits_suffice(context, &partition.name, bits, help);
    }
    for guest in &manifest.guests {
        let is = |end: &Option<Located<String>>| end.as_ref().is_some_and(|end| end.value == guest.name.value);
        let channels = manifest.channels.iter().filter(|channel| is(&channel.first) || is(&channel.second)).count();
        let controls = guest.disks.iter().filter(|disk| disk.control).count();
        // Its serial port and its monitor's text.
        let texts = if manifest.console_of(crate::model::Subject::Guest(guest)).is_some() { 2 } else { 0 };
        let bits = channels + controls + texts + OF_DEVICE * (guest.disks.len() + guest.networks.len());
        bits_suffice(
            context,
            &guest.name,
            bits,
            "each channel and control channel takes one, each disk and network three",
        );
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
