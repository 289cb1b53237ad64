//! The echo: what comes over a channel goes back over it.

use bulkhead_channel::TextChannel;
use bulkhead_runtime::Program;
use bulkhead_runtime::program::Channel;

/// A channel whose bytes go back.
pub struct Echo {
    channel: Channel,
    text: TextChannel<'static>,
    /// What has been received, and how much of it has gone back.
    bytes: [u8; 256],
    received: usize,
    sent: usize,
}

impl Echo {
    /// The echo on the channel that the text `echo` of the environment names, if there is one.
    pub fn new(program: &Program) -> Option<Self> {
        let channel = program.channel(program.environment().text("echo")?)?;
        Some(Self { text: channel.text()?, channel, bytes: [0; 256], received: 0, sent: 0 })
    }

    /// Sends back what there is, as far as there is room.
    pub fn answer(&mut self) {
        let mut signal = false;
        loop {
            if self.sent == self.received {
                let transfer = self.text.receive(&mut self.bytes);
                signal |= transfer.signal;
                (self.received, self.sent) = (transfer.bytes, 0);
            }
            let rest = self.bytes.get(self.sent..self.received).unwrap_or_default();
            let transfer = self.text.send(rest);
            signal |= transfer.signal;
            self.sent += transfer.bytes;
            if transfer.bytes == 0 {
                break;
            }
        }
        if signal {
            self.channel.signal_peer();
        }
    }
}
