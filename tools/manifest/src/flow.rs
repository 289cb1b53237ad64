//! Who can pass information to whom: the graph that a manifest implies, and the shortest way through it.
//!
//! An edge is a resource that two share: a channel, an endpoint, memory, a disk, a network card, a console. What two partitions learn of
//! each other by time, because they share a CPU or a cache, is no edge: docs/security.md says what is done about that.
//!
//! A way ends at whom the policy trusts not to pass on what it hears ([`crate::model::Policy::trusted`]): a switch, a block service.

use crate::model::{Manifest, Subject};
use std::collections::{BTreeMap, VecDeque};

/// A way for information from one partition or guest to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// Who can send.
    pub from: String,
    /// Who can learn of it.
    pub to: String,
    /// What they share, as in "channel `greetings`".
    pub by: String,
}

/// Every edge.
#[derive(Debug, Default)]
pub(crate) struct FlowGraph {
    edges: Vec<Edge>,
}

impl FlowGraph {
    /// The graph of a manifest. What could not be read has no edges.
    pub(crate) fn new(manifest: &Manifest) -> Self {
        let mut graph = Self::default();
        graph.channels(manifest);
        graph.memories(manifest);
        graph.disks(manifest);
        graph.networks(manifest);
        graph.consoles(manifest);
        graph.ports(manifest);
        graph
    }

    /// Ports that several have: those of PCI configuration space come with the IDE controllers and with the bus.
    fn ports(&mut self, manifest: &Manifest) {
        let owned = manifest.partitions.iter().flat_map(|partition| {
            let devices = partition.devices.iter().filter_map(|name| manifest.device(&name.value));
            devices.flat_map(|device| &device.ports).map(move |range| (partition.name.value.as_str(), range))
        });
        let owned: Vec<_> = owned.collect();
        for (index, (one, range)) in owned.iter().enumerate() {
            for (other, shared) in owned.iter().skip(index + 1) {
                let first = range.first.max(shared.first);
                let end = range.first.saturating_add(range.count).min(shared.first.saturating_add(shared.count));
                if first < end {
                    self.both_ways(one, other, &format!("ports {first:#x} to {:#x}", end - 1));
                }
            }
        }
    }

    /// All edges.
    pub(crate) fn into_edges(self) -> Vec<Edge> {
        self.edges
    }

    fn add(&mut self, from: &str, to: &str, by: &str) {
        let edge = Edge { from: from.to_owned(), to: to.to_owned(), by: by.to_owned() };
        if from != to && !self.edges.contains(&edge) {
            self.edges.push(edge);
        }
    }

    fn both_ways(&mut self, one: &str, other: &str, by: &str) {
        self.add(one, other, by);
        self.add(other, one, by);
    }

    fn channels(&mut self, manifest: &Manifest) {
        for channel in &manifest.channels {
            if let (Some(first), Some(second)) = (&channel.first, &channel.second) {
                let by = format!("channel `{}`", channel.name.value);
                self.add(&first.value, &second.value, &by);
                if !channel.is_one_way() {
                    self.add(&second.value, &first.value, &by);
                }
            }
        }
        for endpoint in &manifest.endpoints {
            let Some(server) = &endpoint.server else { continue };
            for client in endpoint.clients() {
                self.both_ways(&server.value, &client.value, &format!("endpoint `{}`", endpoint.name.value));
            }
        }
    }

    /// Memory that several have: nobody writes what is read-only.
    fn memories(&mut self, manifest: &Manifest) {
        for memory in manifest.memories.iter().filter(|memory| !memory.read_only) {
            let owners = memory.partitions.iter().flatten();
            for (index, one) in owners.clone().enumerate() {
                for other in owners.clone().skip(index + 1) {
                    self.both_ways(&one.value, &other.value, &format!("memory `{}`", memory.name.value));
                }
            }
        }
    }

    fn disks(&mut self, manifest: &Manifest) {
        for (owner, disk) in manifest.disks() {
            if let Some(service) = &disk.service {
                self.both_ways(&owner.name().value, &service.value, "a disk");
            }
        }
    }

    fn networks(&mut self, manifest: &Manifest) {
        for guest in &manifest.guests {
            let name = guest.name.value.as_str();
            // Whoever serves a guest has its memory, and so has what another one writes there.
            let disks = guest.disks.iter().filter(|disk| !disk.is_copied).filter_map(|disk| disk.service.as_ref());
            let services = disks.chain(guest.networks.iter().filter_map(|network| network.switch.as_ref()));
            for (index, one) in services.clone().enumerate() {
                for other in services.clone().skip(index + 1) {
                    self.both_ways(&one.value, &other.value, &format!("memory of guest `{name}`"));
                }
            }
            for network in &guest.networks {
                let Some(switch) = network.switch.as_ref().map(|switch| switch.value.as_str()) else {
                    continue;
                };
                self.both_ways(name, switch, "a network card");
                let by = format!("switch `{switch}`");
                let count = manifest.ports_of(switch).count();
                for (index, (peer, card)) in manifest.ports_of(switch).enumerate() {
                    if manifest.may_send(switch, name, index) && card.vlan() == network.vlan() {
                        self.add(name, &peer.name.value, &by);
                    }
                }
                // What is sent outside may come back from there.
                let Some(outside) = manifest.uplink_of(switch) else { continue };
                if manifest.may_send(switch, name, count) {
                    self.add(name, outside, &by);
                }
                let number = manifest.ports_of(switch).position(|(guest, _)| guest.name.value == name);
                if number.is_some_and(|number| manifest.may_send(switch, outside, number)) {
                    self.add(outside, name, &by);
                }
            }
        }
    }

    fn consoles(&mut self, manifest: &Manifest) {
        for subject in manifest.subjects() {
            let Some(console) = manifest.console_of(subject) else {
                continue;
            };
            let console = console.name.value.as_str();
            match subject {
                Subject::Partition(partition) => self.both_ways(&partition.name.value, console, "its console"),
                Subject::Guest(guest) => self.both_ways(&guest.name.value, console, "its serial port"),
            }
        }
    }

    /// The shortest way from one to another that passes through none of `trusted`.
    pub(crate) fn way(&self, from: &str, to: &str, trusted: &[&str]) -> Option<Vec<&Edge>> {
        let mut reached: BTreeMap<&str, &Edge> = BTreeMap::new();
        let mut open = VecDeque::from([from]);
        while let Some(here) = open.pop_front() {
            if here != from && trusted.contains(&here) {
                continue;
            }
            for edge in self.edges.iter().filter(|edge| edge.from == here) {
                if edge.to == from || reached.contains_key(edge.to.as_str()) {
                    continue;
                }
                reached.insert(&edge.to, edge);
                open.push_back(&edge.to);
            }
        }
        let mut way = Vec::new();
        let mut here = to;
        while here != from {
            let edge = *reached.get(here)?;
            way.push(edge);
            here = &edge.from;
        }
        way.reverse();
        Some(way)
    }
}

/// A way in words.
pub(crate) fn describe(way: &[&Edge]) -> String {
    let mut text = way.first().map_or_else(String::new, |edge| format!("`{}`", edge.from));
    for edge in way {
        text.push_str(&format!(" -> {} -> `{}`", edge.by, edge.to));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(&str, &str)]) -> FlowGraph {
        let mut graph = FlowGraph::default();
        for (from, to) in edges {
            graph.add(from, to, "x");
        }
        graph
    }

    #[test]
    fn the_shortest_way_is_found() {
        let graph = graph(&[("a", "b"), ("b", "c"), ("c", "d"), ("a", "e"), ("e", "d"), ("d", "a")]);
        let way = graph.way("a", "d", &[]).unwrap();
        assert_eq!(describe(&way), "`a` -> x -> `e` -> x -> `d`");
        assert_eq!(graph.way("a", "d", &["e"]).unwrap().len(), 3);
        assert_eq!(graph.way("a", "d", &["e", "b"]), None);
        assert_eq!(graph.way("b", "nobody", &[]), None);
        // Whoever is trusted can still be an end.
        assert_eq!(graph.way("e", "d", &["e", "d"]).unwrap().len(), 1);
    }
}
