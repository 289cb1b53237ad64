//! The port of the switch that is a physical network card: the outside.

use crate::frame::{Addresses, Mac, fill_checksum};
use crate::header::Header;
use crate::port::{PortStatistics, Taken};
use bulkhead_driver::{Checksum, Nic, NicInformation, Offload};

/// The card.
pub struct Uplink<'a> {
    nic: &'a mut dyn Nic,
    pub(crate) statistics: PortStatistics,
}

impl<'a> Uplink<'a> {
    /// The port of a card that runs.
    pub fn new(nic: &'a mut dyn Nic) -> Self {
        // Behind it are the guests' cards, each with an address of its own.
        nic.set_promiscuous(true);
        Self { nic, statistics: PortStatistics::default() }
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

    /// Takes the card's next frame into `buffer`. One under an address that `is_inside` was not sent outside.
    pub(crate) fn take(&mut self, buffer: &mut [u8], is_inside: impl Fn(Mac) -> bool) -> Taken {
        let drops = &mut self.statistics.dropped;
        let mut taken = Taken::Nothing;
        self.nic.receive(&mut |frame, _| {
            let (Some(place), Some(addresses)) = (buffer.get_mut(..frame.len()), Addresses::of(frame)) else {
                drops.length += 1;
                taken = Taken::Dropped;
                return;
            };
            if addresses.source.is_group() || is_inside(addresses.source) {
                drops.source += 1;
                taken = Taken::Dropped;
                return;
            }
            place.copy_from_slice(frame);
            taken = Taken::Frame { header: Header::default(), length: frame.len(), addresses };
        });
        taken
    }

    /// Sends a frame; what the card does not do of what its sender asked for is done here, or the frame is not sent. False then.
    pub(crate) fn give(&mut self, header: Header, frame: &mut [u8]) -> bool {
        let information = *self.nic.information();
        let mut offload = Offload::default();
        match (header.checksum, header.segments) {
            (Some((start, offset)), None) if !information.transmit_checksum => {
                fill_checksum(frame, start.into(), offset.into());
            }
            (Some((start, offset)), segments) => {
                offload.checksum = Some(Checksum { start, offset });
                if let Some((size, header)) = segments {
                    (offload.segment, offload.header) = (Some(size), header);
                }
            }
            (None, _) => {}
        }
        let sent = self.nic.transmit(frame, offload).is_ok();
        if sent {
            self.statistics.received += 1;
            self.statistics.received_bytes += frame.len() as u64;
        } else {
            self.statistics.missed += 1;
        }
        sent
    }
}
