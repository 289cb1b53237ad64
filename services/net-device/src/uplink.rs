//! The port of the switch that is a physical network card: the outside. It is in all VLANs, whose frames have a tag there.

use crate::frame::{Addresses, Mac, fill_checksum};
use crate::header::{Header, MAX_FRAME};
use crate::port::{PortStatistics, Taken};
use crate::vlan::{TAG_BYTES, Untagged, Vlan};
use bulkhead_driver::{Checksum, Nic, NicInformation, Offload};
use heapless::Vec;

/// The card.
pub struct Uplink<'a> {
    nic: &'a mut dyn Nic,
    /// A frame with the tag that it gets.
    tagged: Vec<u8, MAX_FRAME>,
    pub(crate) statistics: PortStatistics,
}

impl<'a> Uplink<'a> {
    /// The port of a card that runs.
    pub fn new(nic: &'a mut dyn Nic) -> Self {
        // Behind it are the guests' cards, each with an address of its own.
        nic.set_promiscuous(true);
        Self { nic, tagged: Vec::new(), statistics: PortStatistics::default() }
    }

    /// What the card offers.
    pub fn information(&self) -> &NicInformation {
        self.nic.information()
    }

    /// Whether there is a link.
    pub(crate) fn link(&self) -> bool {
        self.nic.link().up
    }

    /// To be called at every interrupt of the card.
    pub(crate) fn on_interrupt(&mut self) -> bool {
        self.nic.on_interrupt()
    }

    /// What it has seen.
    pub fn statistics(&self) -> PortStatistics {
        self.statistics
    }

    /// Takes the card's next frame into `buffer`, without the tag that says its VLAN. One under an address that `is_inside` was not sent outside.
    pub(crate) fn take(&mut self, buffer: &mut [u8], is_inside: impl Fn(Mac) -> bool) -> Taken {
        let drops = &mut self.statistics.dropped;
        let mut taken = Taken::Nothing;
        self.nic.receive(&mut |frame, _| {
            taken = Taken::Dropped { length: frame.len() };
            let Some(addresses) = Addresses::of(frame) else {
                drops.length += 1;
                return;
            };
            if addresses.source.is_group() || is_inside(addresses.source) {
                drops.source += 1;
                return;
            }
            let Some(untagged) = Untagged::of(frame) else {
                drops.tag += 1;
                return;
            };
            let length = untagged.addresses.len() + untagged.rest.len();
            let parts = buffer.get_mut(..length).and_then(|place| place.split_at_mut_checked(untagged.addresses.len()));
            let Some((addresses_place, rest_place)) = parts else {
                drops.length += 1;
                return;
            };
            addresses_place.copy_from_slice(untagged.addresses);
            rest_place.copy_from_slice(untagged.rest);
            taken = Taken::Frame { header: Header::default(), length, addresses, vlan: untagged.vlan };
        });
        taken
    }

    /// Sends a frame, with the tag of its VLAN; false if it is not sent. A checksum that was filled in in `frame` is no longer open in
    /// `header`.
    pub(crate) fn give(&mut self, header: &mut Header, frame: &mut [u8], vlan: Option<Vlan>) -> bool {
        let sent = match vlan {
            None => send(self.nic, header, frame),
            Some(vlan) => self.give_tagged(*header, frame, vlan),
        };
        if sent {
            self.statistics.received += 1;
            self.statistics.received_bytes += frame.len() as u64;
        } else {
            self.statistics.missed += 1;
        }
        sent
    }

    /// No card is asked to cut a tagged train into segments: none is sent.
    fn give_tagged(&mut self, header: Header, frame: &[u8], vlan: Vlan) -> bool {
        if header.segments.is_some() || !vlan.tag(frame, &mut self.tagged) {
            return false;
        }
        // It covers nothing before the tag, see `Header::parse`.
        let checksum = header.checksum.map(|(start, offset)| (start.saturating_add(TAG_BYTES), offset));
        send(self.nic, &mut Header { checksum, segments: None }, &mut self.tagged)
    }
}

/// Has the card send a frame. A checksum that the card does not fill in is filled in here; a train that it does not cut is not sent.
fn send(nic: &mut dyn Nic, header: &mut Header, frame: &mut [u8]) -> bool {
    if let (Some((start, offset)), None, false) =
        (header.checksum, header.segments, nic.information().transmit_checksum)
    {
        fill_checksum(frame, start.into(), offset.into());
        header.checksum = None;
    }
    let checksum = header.checksum.map(|(start, offset)| Checksum { start, offset });
    let (segment, header) = header.segments.map_or((None, 0), |(size, header)| (Some(size), header));
    nic.transmit(frame, Offload { checksum, segment, header }).is_ok()
}
