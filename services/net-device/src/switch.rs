//! Where frames go.

use crate::frame::{Mac, fill_checksum};
use crate::header::{Header, MAX_FRAME, MAX_TRAIN};
use crate::policy::{MAX_PORTS, Policy};
use crate::port::{Port, PortStatistics, Taken};
use crate::train::Train;
use crate::uplink::Uplink;
use crate::vlan::{Vlan, is_tagged};
use bulkhead_channel::Signals;
use bulkhead_driver::Clock;
use bulkhead_virtio::{Chain, GuestMemory};
use heapless::Vec;

/// Frames of one port before the next port has its turn.
pub const BURST: usize = 16;
/// Bytes that are copied for one port before the next port has its turn, each receiver's apart: a train of segments, or a few frames for many.
/// The last frame may go beyond it.
const BURST_BYTES: usize = MAX_TRAIN;
/// Rounds before events are looked at again.
const ROUNDS: usize = 8;

/// There are already [`MAX_PORTS`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooManyPorts;

/// The ports, and the policy between them.
pub struct Switch<'a, C, M> {
    clock: C,
    policy: Policy,
    ports: Vec<Port<'a, M>, MAX_PORTS>,
    /// Its number is the one behind all ports.
    uplink: Option<Uplink<'a>>,
    /// Ports whose guests see the uplink's link as theirs: those that reach it.
    outward: u16,
    /// The link as the guests know it.
    link: bool,
    /// Memory for one frame.
    buffer: &'a mut [u8],
    chain: Chain,
}

impl<'a, C: Clock, M: GuestMemory> Switch<'a, C, M> {
    /// A switch without ports. Longer frames than `buffer` are dropped.
    pub fn new(clock: C, policy: Policy, buffer: &'a mut [u8]) -> Self {
        Self { clock, policy, ports: Vec::new(), uplink: None, outward: 0, link: true, buffer, chain: Chain::new() }
    }

    /// Adds a port; returns its number, which the policy means.
    pub fn add(&mut self, port: Port<'a, M>) -> Result<usize, TooManyPorts> {
        let index = self.ports.len();
        self.ports.push(port).map_err(|_| TooManyPorts)?;
        Ok(index)
    }

    /// Adds the uplink, once all ports are there. Its number is the one behind theirs.
    ///
    /// # Errors
    /// [`TooManyPorts`] if there is no number for it.
    pub fn set_uplink(&mut self, uplink: Uplink<'a>) -> Result<usize, TooManyPorts> {
        let index = self.ports.len();
        if index >= MAX_PORTS {
            return Err(TooManyPorts);
        }
        self.outward =
            (0..index).filter(|port| self.policy.allows(*port, index)).fold(0, |bits, port| bits | 1 << port);
        self.uplink = Some(uplink);
        self.show_link();
        Ok(index)
    }

    /// To be called at every interrupt of the uplink's card.
    pub fn on_interrupt(&mut self) {
        if self.uplink.as_mut().is_some_and(Uplink::on_interrupt) {
            self.show_link();
        }
    }

    /// Tells guests that reach the uplink whether it has a link.
    fn show_link(&mut self) {
        let link = self.uplink.as_ref().is_none_or(Uplink::link);
        if core::mem::replace(&mut self.link, link) != link {
            let outward = self.outward;
            for (_, port) in self.ports.iter_mut().enumerate().filter(|(number, _)| outward >> number & 1 != 0) {
                port.set_link(link);
            }
        }
    }

    /// What the ports have seen, by number, the uplink last.
    pub fn statistics(&self) -> impl Iterator<Item = PortStatistics> {
        self.ports.iter().map(Port::statistics).chain(self.uplink.as_ref().map(Uplink::statistics))
    }

    /// The uplink, if there is one.
    pub fn uplink(&self) -> Option<&Uplink<'a>> {
        self.uplink.as_ref()
    }

    /// The ports, by number.
    pub fn ports(&self) -> &[Port<'a, M>] {
        &self.ports
    }

    /// Hands over the numbers of the ports whose monitors have to be signalled, and what.
    pub fn take_signals(&mut self, mut signal: impl FnMut(usize, Signals)) {
        for (index, port) in self.ports.iter_mut().enumerate() {
            let signals = port.take_signals();
            if signals != Signals::NONE {
                signal(index, signals);
            }
        }
    }

    /// When, in the clock's milliseconds, [`Switch::work`] has to be called at the latest.
    pub fn deadline(&self) -> Option<u64> {
        let now = self.clock.milliseconds();
        self.ports.iter().filter_map(|port| port.deadline(now)).min()
    }

    /// Obeys the monitors and passes frames on. Returns whether there is more to do at once, after a look at events.
    #[must_use]
    pub fn work(&mut self) -> bool {
        for port in &mut self.ports {
            port.obey();
        }
        let now = self.clock.milliseconds();
        let mut more = true;
        for _ in 0..ROUNDS {
            more = false;
            for index in 0..=self.ports.len() {
                more |= self.serve(index, now);
            }
            if !more {
                break;
            }
        }
        for port in &mut self.ports {
            more |= port.set_rings(!more);
            port.tell();
        }
        more
    }

    /// Takes the next frame of a port, or of the uplink, into the buffer.
    fn take(&mut self, index: usize, now: u64) -> Taken {
        if let Some(port) = self.ports.get_mut(index) {
            return port.take(&mut self.chain, self.buffer, now);
        }
        let ports = &self.ports;
        let is_inside = |mac: Mac| ports.iter().any(|port| port.mac() == mac);
        self.uplink.as_mut().map_or(Taken::Nothing, |uplink| uplink.take(self.buffer, is_inside))
    }

    /// The uplink in a set of ports; empty without one.
    fn outside(&self) -> u16 {
        1u16.checked_shl(self.ports.len() as u32).filter(|_| self.uplink.is_some()).unwrap_or_default()
    }

    /// Whether a port is in a frame's VLAN. The uplink is in all.
    fn carries(&self, port: usize, vlan: Option<Vlan>) -> bool {
        self.ports.get(port).is_none_or(|port| port.vlan() == vlan)
    }

    /// The ports that a frame is for, policy and VLANs aside: the one that has its address, which is the uplink if no port has.
    fn meant(&self, destination: Mac) -> u16 {
        let all = (1u32 << self.ports.len()) - 1;
        let outside = self.outside();
        if destination.is_group() {
            return all as u16 | outside;
        }
        self.ports.iter().position(|port| port.mac() == destination).map_or(outside, |port| 1 << port)
    }

    /// Passes on the frames of one port; whether it had as many as it may have at a time.
    fn serve(&mut self, index: usize, now: u64) -> bool {
        let mut copied = 0;
        for _ in 0..BURST {
            if copied >= BURST_BYTES {
                break;
            }
            let (header, length, addresses, vlan) = match self.take(index, now) {
                Taken::Nothing => return false,
                Taken::Dropped { length } => {
                    copied += length;
                    continue;
                }
                Taken::Frame { header, length, addresses, vlan } => (header, length, addresses, vlan),
            };
            let meant = self.meant(addresses.destination);
            let allowed = (0..MAX_PORTS)
                .filter(|port| meant >> port & 1 != 0 && self.policy.allows(index, *port) && self.carries(*port, vlan));
            let mut to = allowed.fold(0u16, |bits, port| bits | 1 << port);
            // Outside, a guest's own tag would choose the VLAN.
            let hops = to & self.outside() != 0 && self.buffer.get(..length).is_some_and(is_tagged);
            if hops {
                to &= !self.outside();
            }
            let passed = self.pass(header, length, vlan, to);
            copied += length * (1 + to.count_ones() as usize);
            let statistics = match self.ports.get_mut(index) {
                Some(port) => Some(&mut port.statistics),
                None => self.uplink.as_mut().map(|uplink| &mut uplink.statistics),
            };
            let Some(statistics) = statistics else { return false };
            if hops {
                statistics.dropped.tag += 1;
            }
            if passed {
                statistics.sent += 1;
                statistics.sent_bytes += length as u64;
            } else if to != 0 {
                statistics.dropped.receiver += 1;
            } else if !hops {
                statistics.dropped.destination += 1;
            }
        }
        true
    }

    /// Gives the frame in the buffer, of a VLAN or none, to the ports of a set; whether one of them got it.
    fn pass(&mut self, mut header: Header, length: usize, vlan: Option<Vlan>, to: u16) -> bool {
        let outside = self.outside();
        let Some(frame) = self.buffer.get_mut(..length) else {
            return false;
        };
        let mut passed = false;
        // A card fills checksums in on its own copy: it comes before those that may have them filled in here.
        if let Some(uplink) = self.uplink.as_mut().filter(|_| to & outside != 0) {
            passed |= uplink.give(&mut header, frame, vlan);
        }
        for (_, port) in self.ports.iter_mut().enumerate().filter(|(number, _)| to >> number & 1 != 0) {
            // A receiver that takes no open checksum gets it filled in; those after it do no harm by that.
            if let Some((start, offset)) = header.checksum
                && header.segments.is_none()
                && !port.takes_open_checksums()
                && fill_checksum(frame, start.into(), offset.into())
            {
                header.checksum = None;
            }
            if header.segments.is_none() || port.takes_trains() {
                passed |= port.give(&mut self.chain, header, frame);
            } else if let Some(train) = Train::of(frame, header) {
                passed |= give_cut(port, &mut self.chain, train);
            } else {
                port.statistics.missed += 1;
            }
        }
        passed
    }
}

/// Gives a guest a train in segments; whether it got one.
fn give_cut<M: GuestMemory>(port: &mut Port<'_, M>, chain: &mut Chain, train: Train<'_>) -> bool {
    let mut segment = [0; MAX_FRAME];
    let mut passed = false;
    for index in 0..train.count() {
        let frame = train.cut(index, &mut segment).and_then(|length| segment.get(..length));
        passed |= frame.is_some_and(|frame| port.give(chain, Header::default(), frame));
    }
    passed
}
