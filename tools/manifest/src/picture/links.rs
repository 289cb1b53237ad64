//! What partitions and guests share, as a picture shows it.

use super::{Link, LinkEnd, LinkKind};
use crate::{
    model::{Disk, Guest, Located, Manifest, Network, Subject},
    read::show_size,
};

/// Everything that is shared; consoles are [`super::Subject::console`].
pub(super) fn links(manifest: &Manifest) -> Vec<Link> {
    let reader = Reader { manifest };
    let channels = manifest.channels.iter().map(|channel| {
        let first = channel.first.iter().filter_map(|name| reader.end(name, !channel.is_one_way(), false));
        let second = channel.second.iter().filter_map(|name| reader.end(name, true, false));
        let kind = channel.kind.as_ref().map(|kind| kind.value.clone());
        link(LinkKind::Channel, &channel.name.value, [Some(show_size(channel.memory.value)), kind], first.chain(second))
    });
    let endpoints = manifest.endpoints.iter().map(|endpoint| {
        let server = endpoint.server.iter().filter_map(|name| reader.end(name, true, true));
        // They hear the answer to what they ask: the arrow shows who asks whom.
        let clients = endpoint.clients().iter().filter_map(|name| reader.end(name, false, false));
        link(LinkKind::Endpoint, &endpoint.name.value, [], server.chain(clients))
    });
    let memories = manifest.memories.iter().filter(|memory| memory.partitions().len() > 1).map(|memory| {
        let ends = memory.partitions().iter().filter_map(|name| reader.end(name, !memory.read_only, false));
        let size = memory.size.as_ref().map(|size| show_size(size.value));
        let details = [size, memory.read_only.then(read_only), memory.dma.then(|| "DMA".to_owned())];
        link(LinkKind::Memory, &memory.name.value, details, ends)
    });
    let devices = manifest.subjects().flat_map(|owner| {
        let disks = owner.disks().iter().enumerate().map(move |(number, disk)| reader.disk(owner, number, disk));
        let cards = match owner {
            Subject::Partition(_) => Vec::new(),
            Subject::Guest(guest) => {
                guest.networks.iter().enumerate().map(|(number, card)| reader.card(guest, number, card)).collect()
            }
        };
        disks.chain(cards)
    });
    channels.chain(endpoints).chain(memories).chain(devices).collect()
}

fn link(
    kind: LinkKind,
    name: &str,
    details: impl IntoIterator<Item = Option<String>>,
    ends: impl Iterator<Item = LinkEnd>,
) -> Link {
    Link { kind, name: name.to_owned(), details: details.into_iter().flatten().collect(), ends: ends.collect() }
}

fn read_only() -> String {
    "read-only".to_owned()
}

/// A number, if there are several.
fn number_of(number: usize, count: usize) -> String {
    if count > 1 { number.to_string() } else { String::new() }
}

#[derive(Clone, Copy)]
struct Reader<'m> {
    manifest: &'m Manifest,
}

impl Reader<'_> {
    fn end(&self, name: &Located<String>, hears: bool, serves: bool) -> Option<LinkEnd> {
        let subject = self.manifest.subjects().position(|subject| subject.name().value == name.value)?;
        Some(LinkEnd { subject, hears, serves })
    }

    fn disk(&self, owner: Subject<'_>, number: usize, disk: &Disk) -> Link {
        let service = disk.service.iter().filter_map(|name| self.end(name, !disk.read_only, true));
        let ends = self.end(owner.name(), true, false).into_iter().chain(service);
        let size = disk.size.as_ref().map(|size| show_size(size.value));
        // The data of a native partition's disk always are; it says nothing of them.
        let copied = (disk.is_copied && disk.data.is_some()).then(|| "copied".to_owned());
        let details = [size, disk.read_only.then(read_only), disk.control.then(|| "control".to_owned()), copied];
        link(LinkKind::Disk, &number_of(number, owner.disks().len()), details, ends)
    }

    /// A card has an arrow to its switch if somebody hears the guest there, and one to the guest if it hears somebody.
    fn card(&self, guest: &Guest, number: usize, card: &Network) -> Link {
        let switch = card.switch.as_ref();
        let (heard, hears) = switch.map_or((false, false), |switch| self.reach(guest, card, &switch.value));
        let service = switch.into_iter().filter_map(|name| self.end(name, heard, true));
        let ends = self.end(&guest.name, hears, false).into_iter().chain(service);
        let rate = card.rate.as_ref().map(|rate| format!("{}/s", show_size(rate.value)));
        let nobody = (!heard && !hears).then(|| "reaches nobody".to_owned());
        let details = [card.vlan.as_ref().map(|vlan| format!("VLAN {}", vlan.value)), rate, nobody];
        link(LinkKind::Card, &number_of(number, guest.networks.len()), details, ends)
    }

    /// Whether somebody hears the guest on a switch, and whether it hears somebody.
    fn reach(&self, guest: &Guest, card: &Network, switch: &str) -> (bool, bool) {
        let manifest = self.manifest;
        let may = |from: &str, port: usize| manifest.may_send(switch, from, port);
        let ports: Vec<_> = manifest.ports_of(switch).collect();
        let same = |other: &Guest| other.name.value == guest.name.value;
        let Some(own) = ports.iter().position(|(other, _)| same(other)) else { return (false, false) };
        let name = guest.name.value.as_str();
        let peers = ports.iter().enumerate().filter(|(_, (other, port))| !same(other) && port.vlan() == card.vlan());
        let peers: Vec<_> = peers.map(|(number, (other, _))| (number, other.name.value.as_str())).collect();
        let outside = manifest.uplink_of(switch).map(|uplink| (ports.len(), uplink));
        let all = peers.into_iter().chain(outside);
        all.fold((false, false), |(heard, hears), (port, other)| (heard || may(name, port), hears || may(other, own)))
    }
}
