//! Network cards of guests, the switches that they are on, and who may send to whom.

use super::{Guest, Located, Manifest};
use crate::diagnostic::Span;

/// `[[guest.NAME.network]]`.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) span: Span,
    pub(crate) switch: Option<Located<String>>,
    pub(crate) mac: Option<Located<String>>,
    pub(crate) mtu: Located<u64>,
    /// Bytes a second.
    pub(crate) rate: Option<Located<u64>>,
    pub(crate) vlan: Option<Located<u64>>,
    pub(crate) checksum: bool,
    pub(crate) segmentation: bool,
}

impl Network {
    /// Its VLAN; none is 0.
    pub(crate) fn vlan(&self) -> u64 {
        self.vlan.as_ref().map_or(0, |vlan| vlan.value)
    }
}

/// `[switch.NAME]`: the policy of a switch.
#[derive(Debug)]
pub(crate) struct Switch {
    pub(crate) name: Located<String>,
    pub(crate) allow: Vec<Located<String>>,
}

/// A line of `allow`: from whom to whom, and whether back, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flow<'a> {
    pub(crate) from: &'a str,
    pub(crate) to: &'a str,
    pub(crate) both_ways: bool,
}

impl<'a> Flow<'a> {
    /// Reads `A -> B` or `A <-> B`.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let (from, to, both_ways) = match text.split_once("<->") {
            Some((from, to)) => (from, to, true),
            None => text.split_once("->").map(|(from, to)| (from, to, false))?,
        };
        let (from, to) = (from.trim(), to.trim());
        (!from.is_empty() && !to.is_empty()).then_some(Self { from, to, both_ways })
    }
}

/// An Ethernet address of a station, as text.
pub(crate) fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        let part = parts.next().filter(|part| part.len() == 2 && !part.starts_with('+'))?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    // A group has bit 0 of the first byte; all zero is nobody.
    (parts.next().is_none() && mac[0] & 1 == 0 && mac != [0; 6]).then_some(mac)
}

impl Manifest {
    /// The cards on a switch with their guests, in the order of its ports.
    pub(crate) fn ports_of<'m>(&'m self, switch: &'m str) -> impl Iterator<Item = (&'m Guest, &'m Network)> + 'm {
        let all = self.guests.iter().flat_map(|guest| guest.networks.iter().map(move |network| (guest, network)));
        all.filter(move |(_, network)| network.switch.as_ref().is_some_and(|named| named.value == switch))
    }

    /// The network card that is a switch's uplink, its last port: the first device of its partition on the PCI bus.
    pub(crate) fn uplink_of<'m>(&'m self, switch: &'m str) -> Option<&'m str> {
        let devices = self.partition(switch)?.devices.iter().map(|device| device.value.as_str());
        devices.into_iter().find(|device| self.device(device).is_some_and(|device| device.pci.is_some()))
    }

    /// The ports that the frames of a guest, or of the uplink, may go to, as bits.
    pub(crate) fn peers_of(&self, switch: &str, guest: &str) -> u16 {
        let rules = self.switches.iter().filter(|policy| policy.name.value == switch).flat_map(|policy| &policy.allow);
        let flows: Vec<_> = rules.filter_map(|rule| Flow::parse(&rule.value)).collect();
        let may = |other: &str| {
            flows.iter().any(|flow| {
                (flow.from == guest && flow.to == other) || (flow.both_ways && flow.to == guest && flow.from == other)
            })
        };
        let names = self.ports_of(switch).map(|(other, _)| other.name.value.as_str()).chain(self.uplink_of(switch));
        let ports = names.zip(0u32..16).filter(|(other, _)| may(other));
        ports.fold(0, |bits, (_, index)| bits | 1 << index)
    }

    /// Whether the frames of a guest, or of the uplink, may go to a port of a switch. A port beyond the last that a switch can have, which is an
    /// error, gets none.
    pub(crate) fn may_send(&self, switch: &str, from: &str, port: usize) -> bool {
        let shift = u32::try_from(port).unwrap_or(u32::MAX);
        self.peers_of(switch, from).checked_shr(shift).is_some_and(|bits| bits & 1 != 0)
    }
}
