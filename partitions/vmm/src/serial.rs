//! The guest's serial port, on a channel to the console service.

use bulkhead_channel::{ByteReceiver, ByteSender};
use bulkhead_machine::devices::uart::SerialSink;
use bulkhead_runtime::object::Notification;
use bulkhead_runtime::program::Channel;

/// Bytes that may stand in the ring before the console is told, unless a line ends or the guest goes idle.
const BATCH: usize = 64;

/// What the guest sends. Without a channel it is dropped.
pub struct SerialOutput {
    ring: Option<(ByteSender<'static>, Notification)>,
    untold: usize,
}

impl SerialOutput {
    /// Tells the console of what it has not been told of yet.
    pub fn tell(&mut self) {
        if self.untold != 0
            && let Some((_, peer)) = &self.ring
        {
            self.untold = 0;
            // A console that is gone takes nothing; its successor reads the ring anew.
            let _ = peer.signal(0);
        }
    }
}

impl SerialSink for SerialOutput {
    fn send(&mut self, character: u8) -> bool {
        let Some((ring, _)) = &mut self.ring else {
            return true;
        };
        let taken = ring.send(&[character]).bytes == 1;
        if taken {
            self.untold += 1;
        } else {
            // The ring is full: make sure that somebody empties it.
            self.untold = self.untold.max(1);
        }
        if character == b'\n' || self.untold >= BATCH || !taken {
            self.tell();
        }
        taken
    }
}

/// What is typed for the guest.
pub struct SerialInput {
    ring: Option<(ByteReceiver<'static>, Notification)>,
    /// Mask of the channel's signal.
    pub signal: u64,
}

impl SerialInput {
    /// Takes up to `room` bytes and hands each to `take`.
    pub fn receive(&mut self, room: usize, mut take: impl FnMut(u8)) {
        let Some((ring, peer)) = &mut self.ring else {
            return;
        };
        let mut buffer = [0; 16];
        let Some(part) = buffer.get_mut(..room.min(16)) else {
            return;
        };
        let transfer = ring.receive(part);
        for byte in part.iter().take(transfer.bytes) {
            take(*byte);
        }
        if transfer.signal {
            let _ = peer.signal(0);
        }
    }
}

/// Both directions of the guest's serial port.
pub fn attach(channel: Option<&Channel>) -> (SerialOutput, SerialInput) {
    let none = (SerialOutput { ring: None, untold: 0 }, SerialInput { ring: None, signal: 0 });
    let Some(channel) = channel else { return none };
    let Some(text) = channel.text() else {
        return none;
    };
    let (sender, receiver) = text.split();
    (
        SerialOutput { ring: Some((sender, channel.peer)), untold: 0 },
        SerialInput { ring: Some((receiver, channel.peer)), signal: channel.signal },
    )
}
