//! Guests' network cards, and the policy of switches.

use super::Context;
use crate::model::{Flow, Guest, Network, parse_mac};

/// Smallest MTU (RFC 791, 3.2), and the largest of a frame.
const MTU: std::ops::RangeInclusive<u64> = 68..=1500;
/// VLANs: 0 is none, and 4095 is reserved (IEEE 802.1Q-2018, table 9-2).
const VLANS: std::ops::RangeInclusive<u64> = 1..=4094;
/// Ports of a switch.
const MAX_PORTS: usize = 16;
/// The program of a switch.
const PROGRAM: &str = "switch";
const FORM: &str = r#"write "A -> B", or "A <-> B" for both ways"#;

fn networks<'a>(context: &Context<'a>) -> impl Iterator<Item = (&'a Guest, &'a Network)> {
    context.manifest.guests.iter().flat_map(|guest| guest.networks.iter().map(move |network| (guest, network)))
}

/// A card's switch is a native partition with that program.
pub(super) fn switches_are_known(context: &Context<'_>) {
    let manifest = context.manifest;
    let named = networks(context).filter_map(|(_, network)| network.switch.as_ref());
    for switch in named.chain(manifest.switches.iter().map(|policy| &policy.name)) {
        match manifest.partition(&switch.value) {
            None => {
                context.unknown("networks::switch_unknown", switch, "native partition", &manifest.partition_names());
            }
            Some(partition) if partition.program.as_ref().is_some_and(|program| program.value != PROGRAM) => {
                context
                    .reporter
                    .error("networks::no_switch", &switch.span, format!("`{}` is no switch", switch.value))
                    .also(&partition.name.span, "the partition")
                    .help("give it `program = \"switch\"`");
            }
            Some(_) => {}
        }
    }
}

/// Addresses are of stations, and each has one card.
pub(super) fn addresses_are_apart(context: &Context<'_>) {
    let all: Vec<_> = networks(context).filter_map(|(guest, network)| Some((guest, network.mac.as_ref()?))).collect();
    for (index, (_, mac)) in all.iter().enumerate() {
        let Some(parsed) = parse_mac(&mac.value) else {
            context
                .reporter
                .error("networks::address_invalid", &mac.span, format!("`{}` is no station's address", mac.value))
                .help("write six bytes as in \"52:54:00:00:00:01\"; an odd first byte means a group");
            continue;
        };
        let same = all.iter().take(index).find(|(_, other)| parse_mac(&other.value) == Some(parsed));
        if let Some((guest, other)) = same {
            context
                .reporter
                .error("networks::address_twice", &mac.span, format!("`{}` is the address of another card", mac.value))
                .also(&other.span, format!("a card of `{}`", guest.name.value))
                .help("give each card an address of its own, or none: then it gets one");
        }
    }
}

/// Frames have a length that a card can have.
pub(super) fn frames_fit(context: &Context<'_>) {
    for (_, network) in networks(context) {
        if !MTU.contains(&network.mtu.value) {
            let message = format!("frames cannot carry {} bytes", network.mtu.value);
            context.reporter.error("networks::mtu_out_of_range", &network.mtu.span, message).help(format!(
                "an MTU is {} to {}",
                MTU.start(),
                MTU.end()
            ));
        }
        if let Some(rate) = network.rate.as_ref().filter(|rate| rate.value < 1024) {
            context
                .reporter
                .error("networks::rate_too_low", &rate.span, "at this rate a frame takes seconds")
                .help("write at least \"1 KiB\" (a second), or leave it out for no limit");
        }
    }
}

/// VLANs have numbers that a frame's tag can name.
pub(super) fn vlans_are_numbers(context: &Context<'_>) {
    let named = networks(context).filter_map(|(_, network)| network.vlan.as_ref());
    for vlan in named.filter(|vlan| !VLANS.contains(&vlan.value)) {
        context
            .reporter
            .error("networks::vlan_out_of_range", &vlan.span, format!("there is no VLAN {}", vlan.value))
            .help(format!("write {} to {}, or leave it out for no VLAN", VLANS.start(), VLANS.end()));
    }
}

/// The rules of a switch name guests that have a card there, or its own card.
pub(super) fn rules_name_ports(context: &Context<'_>) {
    let manifest = context.manifest;
    for policy in &manifest.switches {
        let cards = manifest.ports_of(&policy.name.value).map(|(guest, _)| guest.name.value.as_str());
        let known: Vec<_> = cards.chain(manifest.uplink_of(&policy.name.value)).collect();
        for rule in &policy.allow {
            let Some(flow) = Flow::parse(&rule.value) else {
                context
                    .reporter
                    .error("networks::rule_invalid", &rule.span, format!("`{}` is no rule", rule.value))
                    .help(FORM);
                continue;
            };
            for name in [flow.from, flow.to].into_iter().filter(|name| !known.contains(name)) {
                context
                    .reporter
                    .error("networks::rule_names_nobody", &rule.span, format!("`{name}` has no card on this switch"))
                    .help(format!("the switch has cards of {}", known.join(", ")));
            }
            if flow.from == flow.to {
                context
                    .reporter
                    .error("networks::rule_for_oneself", &rule.span, "a guest's frames do not come back to it")
                    .help(FORM);
            }
        }
    }
}

/// A switch has a bounded number of ports.
pub(super) fn ports_are_not_too_many(context: &Context<'_>) {
    for partition in &context.manifest.partitions {
        let name = &partition.name.value;
        let uplinks = usize::from(context.manifest.uplink_of(name).is_some());
        let count = context.manifest.ports_of(name).count() + uplinks;
        if let (true, Some((_, last))) = (count > MAX_PORTS, context.manifest.ports_of(&partition.name.value).last()) {
            let message = format!("`{}` would have {count} ports", partition.name.value);
            context
                .reporter
                .error("networks::too_many_ports", &last.span, message)
                .help(format!("a switch has at most {MAX_PORTS}"));
        }
    }
}

/// A card without any rule, or with rules for cards in other VLANs alone, reaches nobody, and nobody it: probably not what was meant.
pub(super) fn cards_reach_somebody(context: &Context<'_>) {
    for (guest, network) in networks(context) {
        let Some(switch) = &network.switch else { continue };
        let name = guest.name.value.as_str();
        let rules = context
            .manifest
            .switches
            .iter()
            .filter(|policy| policy.name.value == switch.value)
            .flat_map(|policy| &policy.allow);
        // The outside is in all VLANs. Names without a card have been reported.
        let meets = |other: &str| {
            let cards = context.manifest.ports_of(&switch.value).filter(|(guest, _)| guest.name.value == other);
            let mut cards = cards.peekable();
            cards.peek().is_none() || cards.any(|(_, card)| card.vlan() == network.vlan())
        };
        let mut flows = rules.filter_map(|rule| Flow::parse(&rule.value));
        if !flows.any(|flow| (flow.from == name && meets(flow.to)) || (flow.to == name && meets(flow.from))) {
            let place = network.vlan.as_ref().map_or_else(String::new, |vlan| format!(" in VLAN {}", vlan.value));
            context
                .reporter
                .warning("networks::isolated", &network.span, format!("no rule lets `{name}` talk to anybody{place}"))
                .help(format!("add a line to `allow` in [switch.{}] for another card{place}", switch.value));
        }
    }
}
