//! A port of the switch: a guest's network card, with the queues that its driver set up.

use crate::bucket::Bucket;
use crate::card::{CardOffer, RECEIVE, TRANSMIT, feature};
use crate::frame::{Addresses, Mac};
use crate::header::{HEADER_BYTES, Header, HeaderError, MAX_TRAIN};
use crate::vlan::{Vlan, is_tagged};
use bulkhead_channel::{AtomicU64, Command, Configuration, EmulatorSide, Interrupts, PublishError, Signals};
use bulkhead_virtio::{Chain, GuestMemory, MAX_DESCRIPTORS, Queue, QueueError, cut};

/// Most buffers for one frame: as many of 1,536 bytes as a train of segments takes, and some more.
const MAX_BUFFERS: usize = 48;

/// Frames that were not passed on, by reason.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Drops {
    /// Too short, or too long for what was negotiated.
    pub length: u64,
    /// The header before the frame asks for what it must not.
    pub header: u64,
    /// The source is not the port's own address.
    pub source: u64,
    /// It has a VLAN's tag where it must not: from a port in a VLAN, for the outside, or, from there, one that is not understood.
    pub tag: u64,
    /// The policy or the VLANs do not allow it, or nobody has the address.
    pub destination: u64,
    /// The receiver had no buffer, or is not there.
    pub receiver: u64,
}

impl Drops {
    /// All of them.
    pub const fn total(&self) -> u64 {
        let Self { length, header, source, tag, destination, receiver } = *self;
        length
            .saturating_add(header)
            .saturating_add(source)
            .saturating_add(tag)
            .saturating_add(destination)
            .saturating_add(receiver)
    }
}

/// What a port has seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PortStatistics {
    /// Frames taken from the guest and passed on to somebody.
    pub sent: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Frames given to the guest.
    pub received: u64,
    /// Their bytes.
    pub received_bytes: u64,
    /// Frames of the guest that were dropped.
    pub dropped: Drops,
    /// Frames for the guest, or the outside, that were dropped for want of buffers, or because they cannot be given to it.
    pub missed: u64,
}

struct Queues {
    receive: Queue,
    transmit: Queue,
    features: u64,
    /// Whether the driver was told to ring for its next frame, if anything since a frame was taken.
    rings: Option<bool>,
}

/// A frame that was taken from a guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Taken {
    /// There is none, or none may be sent now.
    Nothing,
    /// There was one that is not passed on, of which so many bytes were copied.
    Dropped { length: usize },
    /// It is in the buffer.
    Frame { header: Header, length: usize, addresses: Addresses, vlan: Option<Vlan> },
}

/// One guest's card.
pub struct Port<'a, M> {
    channel: EmulatorSide<'a>,
    memory: M,
    offer: CardOffer,
    vlan: Option<Vlan>,
    queues: Option<Queues>,
    bucket: Bucket,
    pub(crate) statistics: PortStatistics,
    signals: Signals,
}

impl<'a, M: GuestMemory> Port<'a, M> {
    /// Offers the card on the channel in `words`; its guest's memory is `memory`. It sends at most `rate` bytes a second, 0 for no limit.
    pub fn publish(words: &'a [AtomicU64], memory: M, offer: CardOffer, rate: u64) -> Result<Self, PublishError> {
        Ok(Self {
            channel: EmulatorSide::publish(words, offer.description())?,
            memory,
            offer,
            vlan: None,
            queues: None,
            bucket: Bucket::new(rate),
            statistics: PortStatistics::default(),
            signals: Signals::LOOK,
        })
    }

    /// The same port in a VLAN, or in none: its frames go to ports in the same one alone, and have no tag.
    #[must_use]
    pub fn in_vlan(self, vlan: Option<Vlan>) -> Self {
        Self { vlan, ..self }
    }

    /// Its VLAN.
    pub fn vlan(&self) -> Option<Vlan> {
        self.vlan
    }

    /// The address of the card.
    pub fn mac(&self) -> Mac {
        self.offer.mac
    }

    /// Tells the guest that there is a link, or none.
    pub(crate) fn set_link(&mut self, link: bool) {
        if self.offer.link != link {
            self.offer.link = link;
            self.signals |= self.channel.set_configuration(&self.offer.configuration());
        }
    }

    /// What the port has seen.
    pub fn statistics(&self) -> PortStatistics {
        self.statistics
    }

    /// The same, where the monitor has a signal for each of the first `queues` queues' interrupts.
    #[must_use]
    pub fn with_direct_interrupts(self, queues: u32) -> Self {
        Self { channel: self.channel.with_direct_interrupts(queues), ..self }
    }

    /// What the monitor has to be signalled, once.
    pub(crate) fn take_signals(&mut self) -> Signals {
        core::mem::take(&mut self.signals)
    }

    /// Obeys the monitor's next command. It gives no other before the answer; one that does, again and again, has no more than its turn.
    pub(crate) fn obey(&mut self) {
        let Some(command) = self.channel.next_command() else { return };
        let done = match command {
            Command::Reset => {
                self.queues = None;
                self.signals |= self.channel.set_needs_reset(false);
                true
            }
            Command::Configure(configuration) => self.queues.is_none() && self.configure(&configuration, false),
            // The monitor had told the last life, and this one took it for its own: it is told twice.
            Command::Resume(_) if self.queues.is_some() => true,
            Command::Resume(configuration) => self.configure(&configuration, true),
            Command::Refused(_) => false,
        };
        self.channel.acknowledge(done);
        self.signals |= Signals::LOOK;
    }

    /// A frame is taken and given back in one step, so that a restart finds none in flight.
    fn configure(&mut self, configuration: &Configuration, resumed: bool) -> bool {
        let make = |index: usize| {
            let at = (*configuration.queues.get(index)?)?;
            let queue = match resumed {
                true => Queue::resume(at, configuration.features, &self.memory, 0),
                false => Queue::new(at, configuration.features, &self.memory),
            };
            queue.ok()
        };
        let (Some(receive), Some(transmit)) = (make(RECEIVE), make(TRANSMIT)) else {
            return false;
        };
        self.queues = Some(Queues { receive, transmit, features: configuration.features, rings: None });
        if resumed {
            // What the last life did may not have been told.
            let both = Interrupts(Interrupts::queue(RECEIVE).0 | Interrupts::queue(TRANSMIT).0);
            self.signals |= self.channel.raise(both);
        }
        true
    }

    /// The driver broke a queue's rules: nothing is done with any until it resets the device.
    pub(crate) fn fail(&mut self, _: QueueError) {
        self.queues = None;
        self.signals |= self.channel.set_needs_reset(true);
    }

    fn accepts(&self, features: u64) -> bool {
        self.queues.as_ref().is_some_and(|queues| queues.features & features == features)
    }

    /// Whether the driver takes frames whose checksum is not filled in.
    pub(crate) fn takes_open_checksums(&self) -> bool {
        self.accepts(feature::GUEST_CHECKSUM)
    }

    /// Takes the guest's next frame into `buffer`, with `chain` for its descriptors.
    pub(crate) fn take(&mut self, chain: &mut Chain, buffer: &mut [u8], now: u64) -> Taken {
        match self.try_take(chain, buffer, now) {
            Ok(taken) => taken,
            Err(error) => {
                self.fail(error);
                Taken::Nothing
            }
        }
    }

    fn try_take(&mut self, chain: &mut Chain, buffer: &mut [u8], now: u64) -> Result<Taken, QueueError> {
        let Some(queues) = &mut self.queues else {
            return Ok(Taken::Nothing);
        };
        if queues.transmit.available(&self.memory)? == 0 || !self.bucket.is_open(now) {
            return Ok(Taken::Nothing);
        }
        if !queues.transmit.take_into(&self.memory, chain)? {
            return Ok(Taken::Nothing);
        }
        queues.rings = None;
        let total: u64 = chain.readable().iter().map(|segment| u64::from(segment.length)).sum();
        let drops = &mut self.statistics.dropped;
        let length = usize::try_from(total).ok().and_then(|total| total.checked_sub(HEADER_BYTES));
        let length = length.filter(|length| *length <= MAX_TRAIN && *length <= buffer.len());
        let mut header = [0; HEADER_BYTES];
        let outcome = match length {
            Some(length) => {
                let frame = buffer.get_mut(..length).unwrap_or_default();
                read(&self.memory, chain, 0, &mut header)?;
                read(&self.memory, chain, HEADER_BYTES, frame)?;
                let can = |bits| queues.features & bits != 0;
                Header::parse(&header, length, can(feature::CHECKSUM), can(feature::HOST_TSO4))
                    .map(|header| (header, length))
            }
            None => Err(HeaderError::Length),
        };
        queues.transmit.give_back(&self.memory, chain.head(), 0)?;
        self.bucket.pay(length.unwrap_or(MAX_TRAIN));
        Ok(match outcome {
            Ok((header, length)) => {
                let vlan = self.vlan;
                let frame = buffer.get(..length).unwrap_or_default();
                match Addresses::of(frame).filter(|addresses| addresses.source == self.offer.mac) {
                    None => {
                        drops.source += 1;
                        Taken::Dropped { length }
                    }
                    Some(_) if vlan.is_some() && is_tagged(frame) => {
                        drops.tag += 1;
                        Taken::Dropped { length }
                    }
                    Some(addresses) => Taken::Frame { header, length, addresses, vlan },
                }
            }
            Err(HeaderError::Length) => {
                drops.length += 1;
                Taken::Dropped { length: length.unwrap_or(0) }
            }
            Err(HeaderError::Offload) => {
                drops.header += 1;
                Taken::Dropped { length: length.unwrap_or(0) }
            }
        })
    }

    /// Whether the driver takes trains of segments.
    pub(crate) fn takes_trains(&self) -> bool {
        self.accepts(feature::GUEST_TSO4)
    }

    /// Gives the guest a frame, with `chain` for the descriptors of its buffers. False if it does not get it.
    pub(crate) fn give(&mut self, chain: &mut Chain, header: Header, frame: &[u8]) -> bool {
        match self.try_give(chain, header, frame) {
            Ok(true) => {
                self.statistics.received += 1;
                self.statistics.received_bytes += frame.len() as u64;
                true
            }
            Ok(false) => {
                self.statistics.missed += 1;
                false
            }
            Err(error) => {
                self.fail(error);
                false
            }
        }
    }

    fn try_give(&mut self, chain: &mut Chain, header: Header, frame: &[u8]) -> Result<bool, QueueError> {
        let Some(queues) = &mut self.queues else {
            return Ok(false);
        };
        let most = if queues.features & feature::MERGED_BUFFERS != 0 { MAX_BUFFERS } else { 1 };
        let needed = HEADER_BYTES + frame.len();
        let (queue, memory) = (&mut queues.receive, &self.memory);
        let buffers = match buffers_for(queue, memory, chain, needed, most)? {
            Some(buffers) => buffers,
            None => return Ok(false),
        };
        // The buffers are walked again, and may have changed: what no longer fits is cut off, to the guest's own harm.
        let mut rest = frame;
        for number in 0..buffers {
            if !queue.take_into(memory, chain)? {
                return Ok(false);
            }
            let mut written = 0;
            if number == 0 {
                written += write(memory, chain, 0, &header.to_bytes(buffers))?;
            }
            let now = write(memory, chain, written, rest)?;
            rest = rest.get(now..).unwrap_or_default();
            queue.put_used(memory, number, chain.head(), (written + now) as u32)?;
        }
        queue.publish_used(memory, buffers)?;
        Ok(rest.is_empty())
    }

    /// Interrupts the driver for what was given back, if it wants that.
    pub(crate) fn tell(&mut self) {
        let Some(queues) = &mut self.queues else {
            return;
        };
        let outcome = [(RECEIVE, &mut queues.receive), (TRANSMIT, &mut queues.transmit)].into_iter().try_fold(
            0,
            |bits, (index, queue)| {
                Ok(if queue.wants_interrupt(&self.memory)? { bits | Interrupts::queue(index).0 } else { bits })
            },
        );
        match outcome {
            Ok(0) => {}
            Ok(bits) => self.signals |= self.channel.raise(Interrupts(bits)),
            Err(error) => self.fail(error),
        }
    }

    /// Has the driver ring for its next frame, or not. Returns whether there is one for which it may not have rung.
    pub(crate) fn set_rings(&mut self, rings: bool) -> bool {
        let Some(queues) = &mut self.queues else {
            return false;
        };
        if queues.rings == Some(rings) {
            return false;
        }
        queues.rings = Some(rings);
        let outcome = if rings {
            queues.transmit.request_doorbell(&self.memory)
        } else {
            queues.transmit.suppress_doorbell(&self.memory).map(|()| false)
        };
        // New buffers are found when they are needed: nobody has to ring for them.
        let outcome = outcome.and_then(|more| queues.receive.suppress_doorbell(&self.memory).map(|()| more));
        outcome.unwrap_or_else(|error| {
            self.fail(error);
            false
        })
    }

    /// When the rate limit may let the next frame go, in milliseconds; nothing if nothing waits for it.
    pub(crate) fn deadline(&self, now: u64) -> Option<u64> {
        let queues = self.queues.as_ref()?;
        let waits = queues.transmit.available(&self.memory).is_ok_and(|count| count != 0);
        waits.then(|| now.saturating_add(1))
    }
}

/// How many buffers of the queue hold so many bytes, if there are enough. None is taken.
fn buffers_for(
    queue: &mut Queue,
    memory: &impl GuestMemory,
    chain: &mut Chain,
    needed: usize,
    most: usize,
) -> Result<Option<u16>, QueueError> {
    let (mut room, mut count, mut walked) = (0u64, 0u16, 0);
    // A driver that cuts its buffers to pieces has others wait for no more than one long chain.
    let may_go_on = |count: u16, walked| usize::from(count) < most && walked < MAX_DESCRIPTORS;
    while room < needed as u64 && may_go_on(count, walked) && queue.take_into(memory, chain)? {
        room += chain.writable().iter().map(|segment| u64::from(segment.length)).sum::<u64>();
        walked += chain.readable().len() + chain.writable().len();
        count += 1;
    }
    queue.untake(count);
    Ok((room >= needed as u64).then_some(count))
}

/// Reads from what the driver lets be read, after the first `skip` bytes.
fn read(memory: &impl GuestMemory, chain: &Chain, skip: usize, mut bytes: &mut [u8]) -> Result<(), QueueError> {
    for (address, length) in cut(chain.readable(), skip as u64, bytes.len() as u64) {
        let (now, later) = bytes.split_at_mut((length as usize).min(bytes.len()));
        memory.read(address, now)?;
        bytes = later;
    }
    Ok(())
}

/// Writes to what the driver lets be written, after the first `skip` bytes; returns how many fitted.
fn write(memory: &impl GuestMemory, chain: &Chain, skip: usize, bytes: &[u8]) -> Result<usize, QueueError> {
    let mut rest = bytes;
    for (address, length) in cut(chain.writable(), skip as u64, bytes.len() as u64) {
        let (now, later) = rest.split_at((length as usize).min(rest.len()));
        memory.write(address, now)?;
        rest = later;
    }
    Ok(bytes.len() - rest.len())
}
