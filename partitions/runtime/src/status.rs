//! The page that a partition shares with init.
//!
//! | offset | written by | holds |
//! | --- | --- | --- |
//! | 0 | partition | `u32`: [`StatusReport`] |
//! | 4 | partition | `u32`: code for the log |
//! | 8 | init | `u32`: [`Command`] |
//! | 64 | partition | `u32`: bytes of the text |
//! | 68 | partition | text for the log, UTF-8 |
//! | 512 | init | `u32` for each partition of the plan: the life that it is in, if it is a peer, and whether it is up (`bulkhead_channel::Life`) |
//! | 1024 | partition | for each thread 64 bytes, which begin with a `u32`: signs of life, which the watchdog waits for; 0: not started |
//!
//! After it has written a command init signals the partition, with the bit [`COMMAND_SIGNAL`].

use crate::shared::SharedMemory;
use crate::thread::MAX_THREADS;
use bulkhead_plan::StatusReport;
use bulkhead_plan::layout::MAX_PARTITIONS;
use core::sync::atomic::{AtomicU32, Ordering};

/// Signal by which init says that it has written a command. A channel may use the same bit: a signal only says "look".
pub const COMMAND_SIGNAL: u64 = 1 << 63;
/// Most bytes of the text.
pub const TEXT_MAX: usize = 256;
const REPORT: usize = 0;
const CODE: usize = 4;
const COMMAND: usize = 8;
const TEXT_LENGTH: usize = 64;
const TEXT: usize = 68;
const LIVES: usize = 512;
const SIGNS: usize = 1024;
/// Bytes of a thread's signs of life: threads on different CPUs write to different cache lines.
const SIGNS_STRIDE: usize = 64;

/// Where the signs of life of a thread stand. What is none is outside the page.
fn sign_offset(thread: usize) -> usize {
    if thread < MAX_THREADS { SIGNS + SIGNS_STRIDE * thread } else { usize::MAX }
}

/// Where the life of a partition stands. What is none is outside the page.
fn life_offset(partition: u32) -> usize {
    if (partition as usize) < MAX_PARTITIONS { LIVES + 4 * partition as usize } else { usize::MAX }
}

/// What init asks of a partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Command {
    /// Nothing.
    None = 0,
    /// Of the partition that has the ports named `power`: send what is still to be sent, then power the machine off.
    PowerOff = 1,
    /// Of the partition that writes out trace rings: do so, and report it.
    Finish = 2,
}

/// A status page, seen from either side.
#[derive(Clone, Copy, Debug)]
pub struct Status<'a>(SharedMemory<'a>);

impl<'a> Status<'a> {
    /// The status in a page.
    pub const fn new(page: SharedMemory<'a>) -> Self {
        Self(page)
    }

    fn store(self, offset: usize, value: u32) {
        if let Ok(word) = self.0.atomic::<AtomicU32>(offset) {
            word.store(value, Ordering::Release);
        }
    }

    fn load(self, offset: usize) -> u32 {
        self.0.atomic::<AtomicU32>(offset).map_or(0, |word| word.load(Ordering::Acquire))
    }

    /// Writes a report; the caller then signals init.
    pub fn set_report(self, report: StatusReport, code: u32, text: &str) {
        let bytes = text.as_bytes();
        let length = bytes.len().min(TEXT_MAX);
        if self.0.write(TEXT, bytes.get(..length).unwrap_or_default()).is_ok() {
            self.store(TEXT_LENGTH, length as u32);
        }
        self.store(CODE, code);
        self.store(REPORT, report as u32);
    }

    /// The report and its code; `None` if the number is no report.
    pub fn report(self) -> Option<(StatusReport, u32)> {
        let report = StatusReport::from_number(u64::from(self.load(REPORT)))?;
        Some((report, self.load(CODE)))
    }

    /// Copies the text into `buffer`; what of it is UTF-8.
    pub fn text(self, buffer: &mut [u8; TEXT_MAX]) -> &str {
        let length = (self.load(TEXT_LENGTH) as usize).min(TEXT_MAX);
        let Some(bytes) = buffer.get_mut(..length) else {
            return "";
        };
        if self.0.read(TEXT, bytes).is_err() {
            return "";
        }
        match core::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                bytes.get(..error.valid_up_to()).and_then(|valid| core::str::from_utf8(valid).ok()).unwrap_or_default()
            }
        }
    }

    /// Writes a command; init then signals the partition.
    pub fn set_command(self, command: Command) {
        self.store(COMMAND, command as u32);
    }

    /// What init asks.
    pub fn command(self) -> Command {
        match self.load(COMMAND) {
            1 => Command::PowerOff,
            2 => Command::Finish,
            _ => Command::None,
        }
    }

    /// Shows a sign of life of a thread, of which this is its own number.
    pub fn live(self, thread: usize) {
        let offset = sign_offset(thread);
        self.store(offset, self.load(offset).wrapping_add(1).max(1));
    }

    /// A number that changes with each sign of life of a thread; 0 for one that has not shown any.
    pub fn life(self, thread: usize) -> u32 {
        self.load(sign_offset(thread))
    }

    /// Writes in which life the partition with this number is.
    pub fn set_life_of(self, partition: u32, word: u32) {
        self.store(life_offset(partition), word);
    }

    /// In which life the peer with this number is; 0, as if it were in its first, for a partition that is no peer.
    pub fn life_of(self, partition: u32) -> u32 {
        self.load(life_offset(partition))
    }

    /// Forgets report, command and signs of life, before the partition starts anew.
    pub fn clear(self) {
        for thread in 0..MAX_THREADS {
            self.store(sign_offset(thread), 0);
        }
        self.set_report(StatusReport::Running, 0, "");
        self.set_command(Command::None);
    }
}
