//! The server: answers, echoes, and says whose client it has anew.

use crate::{LATE, answer};
use bulkhead_runtime::calls::{Request, Server};
use bulkhead_runtime::peer::{Peer, PeerError, TextLink};
use bulkhead_runtime::{Program, events, println, time};
extern crate alloc;
use alloc::vec::Vec;

/// How long a late answer takes, in milliseconds.
const LATE_AFTER: u64 = 20;

/// Serves for ever.
pub fn run(program: &Program, server: Server) -> Result<(), &'static str> {
    let mut clients: Vec<(u32, Peer)> = Vec::new();
    let mut echoes: Vec<Echo> = program
        .channels()
        .filter(|channel| channel.entry.peer != "console")
        .filter_map(|channel| TextLink::new(program, channel))
        .map(Echo::new)
        .collect();
    let mut reply = None;
    loop {
        match server.receive(reply.take()).map_err(|_| "the endpoint is gone")? {
            Request::Signals(_) => {}
            Request::Call { client, label, words } => {
                greet(program, &mut clients, client);
                if label == LATE {
                    let late = time::now().saturating_add(time::milliseconds(LATE_AFTER));
                    while time::now() < late {
                        events::wait(late);
                    }
                }
                reply = Some((label, answer(words)));
            }
        }
        echoes.iter_mut().for_each(Echo::answer);
    }
}

/// Says if the client is one that was started anew.
fn greet(program: &Program, clients: &mut Vec<(u32, Peer)>, number: u32) {
    match clients.iter_mut().find(|(known, _)| *known == number) {
        None => clients.push((number, Peer::new(program, number))),
        Some((_, peer)) => {
            if let Err(PeerError::PeerRestarted { generation }) = peer.check() {
                println!("client {number} was started anew: generation {generation}");
                peer.acknowledge(generation);
            }
        }
    }
}

/// A text channel whose bytes go back.
struct Echo {
    link: TextLink,
    bytes: [u8; 256],
    received: usize,
    sent: usize,
}

impl Echo {
    fn new(link: TextLink) -> Self {
        Self { link, bytes: [0; 256], received: 0, sent: 0 }
    }

    /// Sends back what there is, as far as there is room.
    fn answer(&mut self) {
        loop {
            if let Err(error) = self.step() {
                let PeerError::PeerRestarted { generation } = error else { return };
                println!("the peer of channel {} is in generation {generation}", self.link.channel().entry.name);
                // What its former life sent is not for this one.
                (self.received, self.sent) = (0, 0);
                self.link.acknowledge(generation);
            } else if self.sent < self.received || self.received == 0 {
                return;
            }
        }
    }

    fn step(&mut self) -> Result<(), PeerError> {
        if self.sent == self.received {
            (self.received, self.sent) = (self.link.receive(&mut self.bytes)?, 0);
        }
        let rest = self.bytes.get(self.sent..self.received).unwrap_or_default();
        self.sent += self.link.send(rest)?;
        Ok(())
    }
}
