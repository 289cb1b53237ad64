//! A network card, from start to loss.

use super::configuration::{self, Agreement, LINK_UP, STATUS_AT};
use super::header::Header;
use super::memory::{Memory, RECEIVE_BUFFERS};
use super::receive::{Arrival, Receiver};
use super::transmit::Sender;
use crate::structures::Structures;
use crate::transport::Transport;
use crate::unusable::Unusable;
use crate::virtqueue::MOST_ENTRIES;
use bulkhead_driver::{
    Clock, DmaMemory, Link, Nic, NicInformation, NicStatistics, Offload, Received, Registers, TransmitError,
};

/// The queues (virtio 1.2, 5.1.2).
const RECEIVE: u16 = 0;
const TRANSMIT: u16 = 1;
/// Fewest entries of each.
const FEWEST_ENTRIES: u16 = 2;
/// The device is told of buffers to receive in so many at a time.
const BATCH: u16 = 16;
/// How long all buffers to send may be in use without one coming back, in milliseconds.
const TRANSMIT_LIMIT: u64 = 10_000;

/// A network card. It has no way back from a fault: its user starts anew.
pub struct VirtioNet<'a, R, C> {
    transport: Transport<R>,
    clock: C,
    receiver: Receiver<'a>,
    sender: Sender<'a>,
    information: NicInformation,
    tells_link: bool,
    /// The link as it was last seen.
    up: bool,
    /// Since when there has been no room to send.
    full_since: Option<u64>,
    statistics: NicStatistics,
    dead: bool,
}

impl<'a, R: Registers, C: Clock> VirtioNet<'a, R, C> {
    /// Resets the device, whose structures lie in the first `window` bytes of the registers, and sets it going with MSI-X vector 0.
    /// This waits, within limits. [`NET_MEMORY_BYTES`](crate::NET_MEMORY_BYTES) are cut off `memory`.
    pub fn start(
        registers: R,
        window: u32,
        structures: &Structures,
        clock: C,
        memory: &mut DmaMemory<'a>,
    ) -> Result<Self, Unusable> {
        let transport = Transport::new(registers, window, structures)?;
        let memory = Memory::new(memory).ok_or(Unusable::Memory)?;
        transport.reset_and_wait(&clock)?;
        let begun = begin(&transport, &memory);
        if begun.is_err() {
            transport.reset_and_wait(&clock)?;
        }
        let Begun { mut receiver, sender, agreement } = begun?;
        receiver.take_untold();
        transport.notify(receiver.queue());
        let mut card = Self {
            transport,
            clock,
            receiver,
            sender,
            information: agreement.information,
            tells_link: configuration::tells_link(agreement.features),
            up: true,
            full_since: None,
            statistics: NicStatistics::default(),
            dead: false,
        };
        card.up = card.look().unwrap_or(false);
        Ok(card)
    }

    /// Whether there is a link; `None` if nothing answers.
    fn look(&self) -> Option<bool> {
        if !self.tells_link {
            return Some(true);
        }
        let status = self.transport.field_u16(STATUS_AT);
        (status != u16::MAX).then_some(status & LINK_UP != 0)
    }

    fn die(&mut self) {
        self.transport.reset();
        self.dead = true;
        self.up = false;
    }

    /// Takes back what was sent; says whether there was something.
    fn reclaim(&mut self) -> bool {
        match self.sender.reclaim() {
            Ok(any) => {
                if any {
                    self.full_since = None;
                }
                any
            }
            Err(_) => {
                self.die();
                false
            }
        }
    }

    /// There was no room: the device is to say when there is. A card that has made none for long is lost.
    fn retry(&mut self, frame: &[u8], header: &Header) -> Result<(), TransmitError> {
        self.sender.queue().set_interrupts(true);
        // What came back before the device could know is found now.
        if self.reclaim() && self.sender.put(frame, header) {
            self.sender.queue().set_interrupts(false);
            return Ok(());
        }
        let now = self.clock.milliseconds();
        let since = *self.full_since.get_or_insert(now);
        if !self.dead && now.saturating_sub(since) >= TRANSMIT_LIMIT {
            self.die();
        }
        Err(if self.dead { TransmitError::Dead } else { TransmitError::Full })
    }

    /// Tells the device of the buffers that it got back, if they are enough.
    fn tell(&mut self, enough: u16) {
        if self.receiver.untold() >= enough {
            self.receiver.take_untold();
            self.transport.notify(self.receiver.queue());
        }
    }
}

/// A card that was set going.
struct Begun<'a> {
    receiver: Receiver<'a>,
    sender: Sender<'a>,
    agreement: Agreement,
}

/// Sets the device going.
fn begin<'a, R: Registers>(transport: &Transport<R>, memory: &Memory<'a>) -> Result<Begun<'a>, Unusable> {
    let offered = transport.offered();
    let agreement = configuration::agree(offered, |widths, bytes| transport.configuration(widths, bytes))?;
    transport.accept(agreement.features)?;
    transport.set_configuration_vector()?;
    let receive = transport.queue(RECEIVE, memory.receive_queue, FEWEST_ENTRIES, RECEIVE_BUFFERS)?;
    let transmit = transport.queue(TRANSMIT, memory.transmit_queue, FEWEST_ENTRIES, MOST_ENTRIES)?;
    let receiver = Receiver::new(receive, memory.receive);
    let sender = Sender::new(transmit, memory.small, memory.large);
    transport.go();
    Ok(Begun { receiver, sender, agreement })
}

impl<R: Registers, C: Clock> Nic for VirtioNet<'_, R, C> {
    fn information(&self) -> &NicInformation {
        &self.information
    }

    fn link(&self) -> Link {
        let up = !self.dead && self.look().unwrap_or(false);
        Link { up, speed: 0, full_duplex: up }
    }

    fn transmit(&mut self, frame: &[u8], offload: Offload) -> Result<(), TransmitError> {
        if self.dead {
            return Err(TransmitError::Dead);
        }
        let header = Header::new(&self.information, frame.len(), offload)?;
        self.reclaim();
        if self.dead {
            return Err(TransmitError::Dead);
        }
        if !self.sender.put(frame, &header) {
            self.retry(frame, &header)?;
        }
        self.transport.notify(self.sender.queue());
        self.statistics.sent = self.statistics.sent.wrapping_add(1);
        self.statistics.sent_bytes = self.statistics.sent_bytes.wrapping_add(frame.len() as u64);
        Ok(())
    }

    fn receive(&mut self, take: &mut dyn FnMut(&[u8], Received)) -> bool {
        // Buffers without a frame are passed over, as many as there are.
        for _ in 0..RECEIVE_BUFFERS {
            if self.dead {
                return false;
            }
            match self.receiver.next() {
                Ok(Some(Arrival::Frame(frame))) => {
                    self.statistics.received = self.statistics.received.wrapping_add(1);
                    self.statistics.received_bytes = self.statistics.received_bytes.wrapping_add(frame.len() as u64);
                    take(frame, Received::default());
                    self.tell(BATCH);
                    return true;
                }
                Ok(Some(Arrival::Bad)) => {
                    self.statistics.errors = self.statistics.errors.wrapping_add(1);
                    self.tell(BATCH);
                }
                Ok(None) => break,
                Err(_) => self.die(),
            }
        }
        if !self.dead {
            self.tell(1);
        }
        false
    }

    fn on_interrupt(&mut self) -> bool {
        if self.dead {
            return false;
        }
        if self.reclaim() {
            self.sender.queue().set_interrupts(false);
        } else if !self.receiver.queue().is_waiting() {
            // An interrupt for neither is rare: only then is the time for a look at the status.
            let status = self.transport.status();
            if status.is_gone() || status.is_failed() {
                self.die();
            }
        }
        match self.look().filter(|_| !self.dead) {
            Some(up) => up != core::mem::replace(&mut self.up, up),
            None => {
                self.die();
                true
            }
        }
    }

    /// Nothing to do: a card without a control queue, by which its filter would be set, takes frames for any address (5.1.6.5).
    fn set_promiscuous(&mut self, _promiscuous: bool) {}

    fn statistics(&self) -> NicStatistics {
        self.statistics
    }

    fn is_dead(&self) -> bool {
        self.dead
    }
}
