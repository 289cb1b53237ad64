//! Calls over an endpoint, each to the life of the server that the client knows.
//!
//! The client's generation of the server goes along with each call, in the upper half of the label, and the server's runtime sends away
//! who means another life than its own. So it does not matter when the server was started anew: before the call, while it waited in
//! the endpoint's queue, or while it was served (then the kernel ends it).
//!
//! | bits of the label | what |
//! | --- | --- |
//! | 0 to 15 | the program's own label |
//! | 16 to 30 | lower bits of the server's generation |
//! | 31 | of a reply: the call was not looked at, since it meant another life |

use crate::object::Endpoint;
use crate::peer::{Peer, PeerError};
use crate::program::Program;
use crate::syscall::{Received, Words};
use crate::{events, object};
use bulkhead_abi::{Error, MessageInfo};
use bulkhead_plan::EndpointSide;

const GENERATION: u32 = 0x7fff;
const OTHER_LIFE: u32 = 1 << 31;

const fn label(own: u16, generation: u32) -> u32 {
    own as u32 | (generation & GENERATION) << 16
}

const fn generation(label: u32) -> u32 {
    label >> 16 & GENERATION
}

/// Why a call has no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CallError {
    /// The server is not the one that the client knows. Whether it served the call before it ended is not known.
    Peer(PeerError),
    /// The kernel refused the call.
    Refused(Error),
}

impl From<PeerError> for CallError {
    fn from(error: PeerError) -> Self {
        Self::Peer(error)
    }
}

/// The client's side of an endpoint.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    endpoint: Endpoint,
    server: Peer,
}

impl Client {
    /// The endpoint of this name; `None` if the program is not its client.
    pub fn new(program: &Program, name: &str) -> Option<Self> {
        let (endpoint, entry) = program.endpoint(name)?;
        (entry.side == EndpointSide::Client).then(|| Self { endpoint, server: Peer::new(program, entry.server) })
    }

    /// Calls the server, and waits for its answer: a label and words.
    pub fn call(&self, own: u16, words: Words) -> Result<(u16, Words), CallError> {
        self.server.check()?;
        let sent = label(own, self.server.generation());
        match self.endpoint.call(MessageInfo::new(sent), words) {
            Ok((info, words)) if generation(info.label()) == generation(sent) && info.label() & OTHER_LIFE == 0 => {
                Ok((info.label() as u16, words))
            }
            // Another life answered that this client has not heard of yet: init tells of a life before it begins.
            Ok(_) => Err(self.server.check().err().map_or(CallError::Refused(Error::Gone), CallError::Peer)),
            Err(error) => {
                self.server.check()?;
                Err(CallError::Refused(error))
            }
        }
    }

    /// Whether the server is still in the life that the client knows.
    pub fn check(&self) -> Result<(), PeerError> {
        self.server.check()
    }

    /// The program knows that the server is in this generation.
    pub const fn acknowledge(&mut self, generation: u32) {
        self.server.acknowledge(generation);
    }
}

/// What reaches a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request {
    /// A call, which is to be answered before the next one is received.
    Call {
        /// The number of the client, for [`Peer::new`].
        client: u32,
        /// Its label.
        label: u16,
        /// Its words.
        words: Words,
    },
    /// Signals of the program's notification; none but the runtime's own for a server that nobody signals.
    Signals(u64),
}

/// The server's side of an endpoint.
#[derive(Clone, Copy, Debug)]
pub struct Server {
    endpoint: object::Endpoint,
    generation: u32,
}

impl Server {
    /// The endpoint of this name; `None` if the program is not its server.
    pub fn new(program: &Program, name: &str) -> Option<Self> {
        let (endpoint, entry) = program.endpoint(name)?;
        let generation = program.environment().header().generation as u32;
        (entry.side == EndpointSide::Server).then_some(Self { endpoint, generation })
    }

    /// Answers the call received last, if there was one, and waits for the next, or for a signal. A program with a watchdog shows that
    /// it lives.
    pub fn receive(&self, answer: Option<(u16, Words)>) -> Result<Request, Error> {
        let (own, mut words) = answer.unwrap_or_default();
        let mut reply = label(own, self.generation);
        loop {
            events::live();
            match self.endpoint.reply_receive(MessageInfo::new(reply), words)? {
                Received::Signals(bits) => return Ok(Request::Signals(bits | events::take_kept())),
                Received::Message { badge, info, words } if self.is_meant(info) => {
                    return Ok(Request::Call { client: badge as u32, label: info.label() as u16, words });
                }
                Received::Message { .. } => (reply, words) = (OTHER_LIFE | label(0, self.generation), [0; 4]),
            }
        }
    }

    fn is_meant(&self, info: MessageInfo) -> bool {
        generation(info.label()) == self.generation & GENERATION
    }
}
