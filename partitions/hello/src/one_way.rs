//! One-way channels: what is told over one is how many seconds have passed, in its first word.
//!
//! The text `tell` of the environment names a channel to tell over, the text `hear` one to listen to. With the text `tamper`, whose
//! value is a number of seconds, who has heard as many tries to answer, which must fail.

use core::sync::atomic::Ordering;

use bulkhead_runtime::program::Channel;
use bulkhead_runtime::{Program, println};

/// The channels that the environment names.
pub struct OneWay {
    tell: Option<Channel>,
    hear: Option<Channel>,
    heard: u64,
    tamper: Option<u64>,
}

impl OneWay {
    /// The channels, if there are any.
    pub fn new(program: &Program) -> Self {
        let named = |text| program.channel(program.environment().text(text)?);
        let tamper = program.environment().text("tamper").and_then(|seconds| seconds.parse().ok());
        Self { tell: named("tell"), hear: named("hear"), heard: 0, tamper }
    }

    /// Tells how many seconds have passed.
    pub fn tell(&self, seconds: u64) {
        let Some(channel) = &self.tell else { return };
        if let Some(word) = channel.words().first() {
            word.store(seconds, Ordering::Release);
            channel.signal_peer();
        }
    }

    /// Says what has been told since the last time.
    pub fn listen(&mut self) {
        let Some(channel) = &self.hear else { return };
        let Some(word) = channel.words().first() else { return };
        let told = word.load(Ordering::Acquire);
        if told == self.heard {
            return;
        }
        self.heard = told;
        println!("heard {told} from {}", channel.entry.peer);
        if self.tamper.is_some_and(|seconds| told >= seconds) {
            println!("signal back: {:?}", channel.peer.signal(0));
            println!("write back");
            word.store(0, Ordering::Release);
            println!("written back");
        }
    }
}
