//! Text to and from the program's console channel.
//!
//! Nothing is dropped: when the ring is full the writer sleeps until the console service has made room, and shows meanwhile that it
//! lives. Init alone has more to do than to wait for a console that may have failed: what that does not take in time is lost, and
//! counted. A program without a console channel writes into the void.

use crate::events;
use crate::object::Notification;
use crate::time;
use bulkhead_channel::{TextChannel, Transfer};
use core::fmt::{self, Write};
use spin::Mutex;

struct Console {
    channel: TextChannel<'static>,
    peer: Notification,
    /// How long to wait for room, in ticks.
    patience: u64,
    /// Longest sleep between two looks at a full ring, in ticks.
    sleep: u64,
    /// Bytes that were lost since the patience ended; it begins anew when the ring has been read.
    lost: u64,
}

static CONSOLE: Mutex<Option<Console>> = Mutex::new(None);

/// Longest sleep between two looks at a full ring, in milliseconds; and that of init, which the console may not wake.
const SLEEP: u64 = 10;
const SHORT_SLEEP: u64 = 1;

/// Attaches the channel, at the program's entry (init: once it has made one).
pub fn attach(channel: TextChannel<'static>, peer: Notification) {
    let sleep = time::milliseconds(SLEEP);
    *CONSOLE.lock() = Some(Console { channel, peer, patience: u64::MAX, sleep, lost: 0 });
}

/// Attaches the channel of init, which waits for the console no longer than this many milliseconds.
pub fn attach_impatient(channel: TextChannel<'static>, peer: Notification, patience: u64) {
    let [patience, sleep] = [patience, SHORT_SLEEP].map(time::milliseconds);
    *CONSOLE.lock() = Some(Console { channel, peer, patience, sleep, lost: 0 });
}

impl Console {
    fn finish(&self, transfer: Transfer) {
        if transfer.signal {
            // The peer can be gone only with its partition; then nobody reads, and nobody misses the signal.
            let _ = self.peer.signal(0);
        }
    }
}

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.lost != 0 {
            if self.channel.space() != self.channel.capacity() {
                self.lost = self.lost.saturating_add(text.len() as u64);
                return Ok(());
            }
            let lost = core::mem::take(&mut self.lost);
            write!(self, "\n({lost} bytes were lost here: the console did not read)\n")?;
        }
        let mut rest = text.as_bytes();
        let mut patience = time::now().saturating_add(self.patience);
        loop {
            let transfer = self.channel.send(rest);
            self.finish(transfer);
            rest = rest.get(transfer.bytes..).unwrap_or_default();
            if rest.is_empty() {
                return Ok(());
            }
            let now = time::now();
            if transfer.bytes != 0 {
                patience = now.saturating_add(self.patience);
            } else if now >= patience {
                self.lost = rest.len() as u64;
                return Ok(());
            }
            events::live();
            events::rest(now.saturating_add(self.sleep));
        }
    }
}

/// What [`crate::print!`] expands to.
pub fn print(arguments: fmt::Arguments<'_>) {
    if let Some(console) = CONSOLE.lock().as_mut() {
        // Formatting fails only if a Display implementation does; what it wrote until then stays.
        let _ = console.write_fmt(arguments);
    }
}

/// Prints what fits without waiting, for a program that is about to end.
pub(crate) fn print_last(text: &[u8]) {
    if let Some(mut guard) = CONSOLE.try_lock()
        && let Some(console) = guard.as_mut()
    {
        let transfer = console.channel.send(text);
        console.finish(transfer);
        let _ = console.peer.signal(0);
    }
}

/// Receives what was typed: the number of bytes put into `buffer`.
pub fn receive(buffer: &mut [u8]) -> usize {
    match CONSOLE.lock().as_mut() {
        Some(console) => {
            let transfer = console.channel.receive(buffer);
            console.finish(transfer);
            transfer.bytes
        }
        None => 0,
    }
}

/// Whether the peer has read all that was printed. True without a console.
pub fn is_drained() -> bool {
    CONSOLE.lock().as_mut().is_none_or(|console| console.channel.space() == console.channel.capacity())
}

/// Prints to the program's console channel.
#[macro_export]
macro_rules! print {
    ($($argument:tt)*) => { $crate::console::print(::core::format_args!($($argument)*)) };
}

/// Prints a line to the program's console channel.
#[macro_export]
macro_rules! println {
    () => { $crate::print!("\n") };
    ($format:literal $($argument:tt)*) => {
        $crate::console::print(::core::format_args!("{}\n", ::core::format_args!($format $($argument)*)))
    };
}
