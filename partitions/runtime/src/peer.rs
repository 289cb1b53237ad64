//! The partition at the other end of a channel or an endpoint, and which of its lives the program knows.
//!
//! Init writes to the program's status page how often each of its peers was started anew, and signals the program. What is built on
//! [`Peer`] answers [`PeerError::PeerRestarted`] from then on until the program has acknowledged the new generation: see
//! [`crate::calls`] for endpoints and [`TextLink`] for text channels.

use crate::program::{Channel, Program};
use crate::status::Status;
use bulkhead_channel::{Boundary, Life, TextChannel, Transfer};

pub use bulkhead_channel::PeerError;

/// A peer, and its life that the program has acknowledged; at first the one that it is in.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Without one, init says nothing, and no peer ever changes.
    status: Option<Status<'static>>,
    /// Its number, as the environment says.
    index: u32,
    life: Life,
}

impl Peer {
    /// The peer with this number: of a channel's or an endpoint's entry, or the badge of a client.
    pub fn new(program: &Program, index: u32) -> Self {
        let status = program.status();
        let word = status.map_or(0, |status| status.life_of(index));
        Self { status, index, life: Life::new(word) }
    }

    fn word(&self) -> u32 {
        self.status.map_or(0, |status| status.life_of(self.index))
    }

    /// Whether it is still in the life that was acknowledged.
    #[inline]
    pub fn check(&self) -> Result<(), PeerError> {
        self.life.check(self.word())
    }

    /// The generation that was acknowledged.
    pub const fn generation(&self) -> u32 {
        self.life.generation()
    }

    /// The program knows that the peer is in this generation, which an error told it.
    pub const fn acknowledge(&mut self, generation: u32) {
        self.life.acknowledge(generation);
    }
}

/// One end of a text channel that tells of the peer's new lives.
pub struct TextLink {
    channel: Channel,
    text: TextChannel<'static>,
    peer: Peer,
    boundary: Boundary,
}

impl TextLink {
    /// The channel, if its memory holds a text channel.
    pub fn new(program: &Program, channel: Channel) -> Option<Self> {
        let peer = Peer::new(program, channel.entry.peer_index);
        Some(Self { text: channel.text()?, peer, boundary: Boundary::default(), channel })
    }

    /// The channel.
    pub const fn channel(&self) -> &Channel {
        &self.channel
    }

    fn finish(&self, transfer: Transfer) -> usize {
        if transfer.signal {
            self.channel.signal_peer();
        }
        transfer.bytes
    }

    /// Receives what there is and fits; how many bytes. What an earlier life of the peer left comes before the error that tells of the
    /// new one.
    pub fn receive(&mut self, buffer: &mut [u8]) -> Result<usize, PeerError> {
        let Err(error) = self.peer.check() else {
            let transfer = self.text.receive(buffer);
            return Ok(self.finish(transfer));
        };
        let most = self.boundary.before(self.text.available());
        let length = buffer.len().min(most);
        let transfer = self.text.receive(buffer.get_mut(..length).unwrap_or_default());
        self.boundary.pass(transfer.bytes);
        if self.finish(transfer) == 0 { Err(error) } else { Ok(transfer.bytes) }
    }

    /// Sends as much as fits; how many bytes.
    pub fn send(&mut self, bytes: &[u8]) -> Result<usize, PeerError> {
        self.peer.check()?;
        let transfer = self.text.send(bytes);
        Ok(self.finish(transfer))
    }

    /// The program knows that the peer is in this generation.
    pub const fn acknowledge(&mut self, generation: u32) {
        self.peer.acknowledge(generation);
        self.boundary.forget();
    }
}
