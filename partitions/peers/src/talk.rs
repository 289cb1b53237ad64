//! A text channel to an echo: lines go out one at a time, and come back.
//!
//! Lines that come back are looked for in whatever comes, since an echo that fails may have lost a part of one, or sent anything. After
//! a new life of the echo, or a while without the line, the next one goes out.

use bulkhead_runtime::peer::{PeerError, TextLink};
use bulkhead_runtime::{println, time};

const LINE: usize = 16;
/// How long to wait for a line to come back, in milliseconds.
const PATIENCE: u64 = 300;

/// The channel, and the line that is under way.
pub struct Talk {
    link: TextLink,
    number: u64,
    line: [u8; LINE],
    sent: usize,
    /// The last bytes that came.
    window: [u8; LINE],
    since: u64,
    /// Lines that came back, in all and since the peer's last new life.
    pub returned: u64,
    pub since_news: u64,
}

impl Talk {
    /// Begins with a line that no other life of the program sends.
    pub fn new(link: TextLink, generation: u64) -> Self {
        let mut talk = Self {
            link,
            number: generation << 32,
            line: [0; LINE],
            sent: 0,
            window: [0; LINE],
            since: time::now(),
            returned: 0,
            since_news: 0,
        };
        talk.begin_line();
        talk
    }

    fn begin_line(&mut self) {
        self.number += 1;
        for (place, byte) in self.line.iter_mut().enumerate() {
            let digit = (self.number >> (4 * (LINE - 2 - place.min(LINE - 2)))) as usize & 15;
            *byte = b"0123456789abcdef".get(digit).copied().unwrap_or(b'?');
        }
        if let Some(last) = self.line.last_mut() {
            *last = b'\n';
        }
        self.sent = 0;
        self.since = time::now();
    }

    /// Moves what can be moved.
    pub fn pump(&mut self) {
        if let Err(PeerError::PeerRestarted { generation }) = self.step() {
            println!("the peer of channel {} is in generation {generation}", self.link.channel().entry.name);
            self.link.acknowledge(generation);
            self.since_news = 0;
            self.begin_line();
        } else if time::now() > self.since.saturating_add(time::milliseconds(PATIENCE)) {
            self.begin_line();
        }
    }

    fn step(&mut self) -> Result<(), PeerError> {
        self.sent += self.link.send(self.line.get(self.sent..).unwrap_or_default())?;
        // No more at a time than that: an echo that is quick enough would never let it go.
        let mut buffer = [0; 256];
        let length = self.link.receive(&mut buffer)?;
        for byte in buffer.iter().take(length) {
            self.window.rotate_left(1);
            if let Some(last) = self.window.last_mut() {
                *last = *byte;
            }
            if self.sent == LINE && self.window == self.line {
                self.returned += 1;
                self.since_news += 1;
                self.begin_line();
            }
        }
        Ok(())
    }
}
