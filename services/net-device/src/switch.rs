//! Where frames go.

use crate::frame::fill_checksum;
use crate::policy::{MAX_PORTS, Policy};
use crate::port::{Port, Taken};
use bulkhead_driver::Clock;
use bulkhead_virtio::{Chain, GuestMemory};
use heapless::Vec;

/// Frames of one port before the next port has its turn.
pub const BURST: usize = 16;
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
    /// Memory for one frame.
    buffer: &'a mut [u8],
    chain: Chain,
}

impl<'a, C: Clock, M: GuestMemory> Switch<'a, C, M> {
    /// A switch without ports. Longer frames than `buffer` are dropped.
    pub fn new(clock: C, policy: Policy, buffer: &'a mut [u8]) -> Self {
        Self { clock, policy, ports: Vec::new(), buffer, chain: Chain::new() }
    }

    /// Adds a port; returns its number, which the policy means.
    pub fn add(&mut self, port: Port<'a, M>) -> Result<usize, TooManyPorts> {
        let index = self.ports.len();
        self.ports.push(port).map_err(|_| TooManyPorts)?;
        Ok(index)
    }

    /// The ports, by number.
    pub fn ports(&self) -> &[Port<'a, M>] {
        &self.ports
    }

    /// Hands over the numbers of the ports whose monitors have to be signalled.
    pub fn take_signals(&mut self, mut signal: impl FnMut(usize)) {
        for (index, port) in self.ports.iter_mut().enumerate() {
            if port.take_signal() {
                signal(index);
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
            for index in 0..self.ports.len() {
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

    /// Passes on the frames of one port; whether it had as many as it may have at a time.
    fn serve(&mut self, index: usize, now: u64) -> bool {
        for _ in 0..BURST {
            let Some(port) = self.ports.get_mut(index) else {
                return false;
            };
            match port.take(&mut self.chain, self.buffer, now) {
                Taken::Nothing => return false,
                Taken::Dropped => {}
                Taken::Frame { header, length, addresses } => {
                    let (mut header, mut to) = (header, 0u16);
                    for (number, port) in self.ports.iter().enumerate() {
                        let is_meant = addresses.destination.is_group() || port.mac() == addresses.destination;
                        if is_meant && self.policy.allows(index, number) {
                            to |= 1 << number;
                        }
                    }
                    let passed = self.pass(&mut header, length, to);
                    if let Some(port) = self.ports.get_mut(index) {
                        let statistics = &mut port.statistics;
                        if passed {
                            statistics.sent += 1;
                            statistics.sent_bytes += length as u64;
                        } else if to == 0 {
                            statistics.dropped.destination += 1;
                        } else {
                            statistics.dropped.receiver += 1;
                        }
                    }
                }
            }
        }
        true
    }

    /// Gives the frame in the buffer to the ports of a set; whether one of them got it.
    fn pass(&mut self, header: &mut crate::Header, length: usize, to: u16) -> bool {
        let mut passed = false;
        for (_, port) in self.ports.iter_mut().enumerate().filter(|(number, _)| to >> number & 1 != 0) {
            let Some(frame) = self.buffer.get_mut(..length) else {
                return false;
            };
            // A receiver that takes no open checksum gets it filled in; those after it do no harm by that.
            if let Some((start, offset)) = header.checksum
                && header.segments.is_none()
                && !port.takes_open_checksums()
                && fill_checksum(frame, start.into(), offset.into())
            {
                header.checksum = None;
            }
            passed |= port.give(&mut self.chain, *header, frame);
        }
        passed
    }
}
