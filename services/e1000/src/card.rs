//! The card as a whole.

use crate::address;
use crate::memory::Memory;
use crate::model::Model;
use crate::receive::Receiver;
use crate::registers::Card;
use crate::transmit::Transmitter;
use bulkhead_driver::{
    Clock, DmaMemory, Link, Nic, NicInformation, NicStatistics, Offload, Received, Registers, TransmitError,
};

/// Most bytes behind the Ethernet header, without a VLAN tag.
const MTU: u16 = 1500;

/// Why a card could not be started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unusable {
    /// Nothing answers.
    Absent,
    /// It did not come back from its reset.
    Timeout,
    /// The memory is less than [`MEMORY_BYTES`](crate::MEMORY_BYTES).
    Memory,
    /// It has no address, neither in its registers nor in its EEPROM.
    Address,
}

/// A network card. It does not receive, and does not interrupt, before it is started.
pub struct E1000<'a, R> {
    card: Card<R>,
    receiver: Receiver<'a>,
    transmitter: Transmitter<'a>,
    information: NicInformation,
    statistics: NicStatistics,
    dead: bool,
}

impl<'a, R: Registers> E1000<'a, R> {
    /// Resets the card, finds its address, gives it its rings, and lets it run. This waits, within limits. The memory that is needed is
    /// cut off `memory`. The card must be allowed to do DMA (bus master).
    ///
    /// # Errors
    /// [`Unusable`]; the card then neither receives nor interrupts.
    pub fn start(model: Model, registers: R, clock: &impl Clock, memory: &mut DmaMemory<'a>) -> Result<Self, Unusable> {
        let card = Card::new(registers, model);
        if card.is_gone() {
            return Err(Unusable::Absent);
        }
        // After the reset the card does not reach the memory any more that it may still have from a driver before.
        if !card.reset(clock) {
            return Err(Unusable::Timeout);
        }
        let memory = Memory::new(memory).ok_or(Unusable::Memory)?;
        let address = address::find(&card, clock).ok_or(Unusable::Address)?;
        card.set_address(address);
        let mut receiver = Receiver::new(memory.receive);
        let transmitter = Transmitter::new(memory.transmit);
        receiver.install(&card);
        transmitter.install(&card);
        card.run();
        card.unmask();
        let information = NicInformation {
            mac: address::bytes(address),
            mtu: MTU,
            queues: 1,
            transmit_checksum: true,
            receive_checksum: false,
            segmentation: model.cuts_trains(),
        };
        Ok(Self { card, receiver, transmitter, information, statistics: NicStatistics::default(), dead: false })
    }
}

impl<R: Registers> Nic for E1000<'_, R> {
    fn information(&self) -> &NicInformation {
        &self.information
    }

    fn link(&self) -> Link {
        if self.dead { Link::default() } else { self.card.link() }
    }

    fn transmit(&mut self, frame: &[u8], offload: Offload) -> Result<(), TransmitError> {
        if self.dead {
            return Err(TransmitError::Dead);
        }
        if offload.segment.is_some() && !self.information.segmentation {
            return Err(TransmitError::Unsupported);
        }
        self.transmitter.transmit(&self.card, &mut self.statistics, frame, offload)
    }

    fn receive(&mut self, take: &mut dyn FnMut(&[u8], Received)) -> bool {
        !self.dead && self.receiver.receive(&self.card, &mut self.statistics, take)
    }

    fn set_promiscuous(&mut self, promiscuous: bool) {
        if !self.dead {
            self.card.set_promiscuous(promiscuous);
        }
    }

    fn on_interrupt(&mut self) -> bool {
        if self.dead {
            return false;
        }
        let Some(causes) = self.card.causes() else {
            // A card that is there has bits that are always 0 in its status.
            self.dead = self.card.is_gone();
            return self.dead;
        };
        if causes.overrun() {
            self.statistics.missed = self.statistics.missed.saturating_add(self.card.missed());
        }
        self.transmitter.on_interrupt(&self.card, &mut self.statistics);
        causes.link()
    }

    fn statistics(&self) -> NicStatistics {
        self.statistics
    }

    fn is_dead(&self) -> bool {
        self.dead
    }
}
