//! Devices and who owns them.

use super::Context;
use crate::machine::{Device, is_shared};

/// Interrupt lines that an I/O APIC of a PC can have.
const MAX_LINE: u64 = 239;

/// Partitions own devices that the machine has.
pub(super) fn devices_are_known(context: &Context<'_>) {
    let manifest = context.manifest;
    let known: Vec<&str> = manifest.machine.devices.iter().map(|device| device.name.as_str()).collect();
    for name in manifest.partitions.iter().flat_map(|partition| &partition.devices) {
        if !known.contains(&name.value.as_str()) {
            context.unknown("devices::unknown", name, "device", &known);
        }
    }
}

/// A device has one owner, and is listed once.
pub(super) fn devices_have_one_owner(context: &Context<'_>) {
    let mut owned: Vec<(&str, &crate::model::Located<String>)> = Vec::new();
    for partition in &context.manifest.partitions {
        for device in &partition.devices {
            if let Some((owner, first)) = owned.iter().find(|(_, first)| first.value == device.value) {
                context
                    .reporter
                    .error(
                        "devices::owned_twice",
                        &device.span,
                        format!("device `{}` already belongs to `{owner}`", device.value),
                    )
                    .label("second owner")
                    .also(&first.span, "first owner")
                    .help("a device has one owner; others reach it through a channel to that partition");
            }
            owned.push((&partition.name.value, device));
        }
    }
}

/// What `[machine.device.NAME]` says can be: ports and lines that exist.
pub(super) fn descriptions_are_possible(context: &Context<'_>) {
    for device in &context.manifest.machine.devices {
        let Some(span) = &device.span else { continue };
        for range in &device.ports {
            if range.count == 0 || range.first.saturating_add(range.count) > 0x1_0000 {
                context
                    .reporter
                    .error(
                        "devices::bad_description",
                        span,
                        format!("there are no {} ports at {:#x}", range.count, range.first),
                    )
                    .help("ports go from 0 to 0xffff");
            }
        }
        for interrupt in device.interrupts.iter().filter(|interrupt| interrupt.line > MAX_LINE) {
            context
                .reporter
                .error("devices::bad_description", span, format!("there is no interrupt line {}", interrupt.line))
                .help(format!("lines go from 0 to {MAX_LINE}"));
        }
    }
}

/// Devices that are owned share neither ports nor interrupts.
pub(super) fn resources_are_apart(context: &Context<'_>) {
    let manifest = context.manifest;
    let mut owned: Vec<(&Device, &crate::diagnostic::Span)> = Vec::new();
    for name in manifest.partitions.iter().flat_map(|partition| &partition.devices) {
        let Some(device) = manifest.device(&name.value) else {
            continue;
        };
        if owned.iter().any(|(other, _)| other.name == device.name) {
            continue;
        }
        for (other, place) in &owned {
            let overlap = device.ports.iter().any(|range| {
                !is_shared(*range)
                    && other.ports.iter().any(|taken| {
                        range.first < taken.first.saturating_add(taken.count)
                            && taken.first < range.first.saturating_add(range.count)
                    })
            });
            let line = device
                .interrupts
                .iter()
                .find(|interrupt| other.interrupts.iter().any(|taken| taken.line == interrupt.line));
            let shared = match (overlap, line) {
                (true, _) => "I/O ports".to_owned(),
                (false, Some(interrupt)) => format!("interrupt line {}", interrupt.line),
                (false, None) => continue,
            };
            context
                .reporter
                .error(
                    "devices::resources_overlap",
                    &name.span,
                    format!("devices `{}` and `{}` share {shared}", device.name, other.name),
                )
                .also(place, "the other device")
                .help("correct one of their descriptions in [machine.device.NAME]");
        }
        owned.push((device, &name.span));
    }
}
