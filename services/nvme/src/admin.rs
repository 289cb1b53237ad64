//! The admin queue and its commands (NVMe 1.4, 5).

use crate::queue::{Completed, ENTRIES, Entry, QueuePair};
use crate::registers::Controller;
use bulkhead_driver::{Clock, Registers};

/// Opcodes (5, figure 139).
const CREATE_SUBMISSION: u8 = 0x01;
const CREATE_COMPLETION: u8 = 0x05;
const IDENTIFY: u8 = 0x06;
const SET_FEATURES: u8 = 0x09;
const GET_FEATURES: u8 = 0x0a;

/// Features (5.21.1).
const FEATURE_WRITE_CACHE: u32 = 0x06;
const FEATURE_QUEUES: u32 = 0x07;

/// How long an admin command may take, in milliseconds.
pub const ADMIN_LIMIT: u64 = 5_000;

/// What identify is to describe (5.15.1, CNS).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Subject {
    Namespace,
    Controller,
}

/// Describes a namespace, or the controller, in the page at `address`.
pub fn identify(subject: Subject, namespace: u32, address: u64) -> Entry {
    let (selector, namespace) = match subject {
        Subject::Namespace => (0, namespace),
        Subject::Controller => (1, 0),
    };
    Entry { opcode: IDENTIFY, namespace, data: [address, 0], words: [selector, 0, 0, 0, 0, 0] }
}

/// Asks whether the write cache is in use.
pub fn get_write_cache() -> Entry {
    Entry { opcode: GET_FEATURES, words: [FEATURE_WRITE_CACHE, 0, 0, 0, 0, 0], ..Entry::default() }
}

/// Asks for so many pairs of I/O queues, at least 1 (5.21.1.7). The result tells how many there are, see [`granted`].
pub fn set_queues(count: u16) -> Entry {
    let last = u32::from(count.saturating_sub(1));
    Entry { opcode: SET_FEATURES, words: [FEATURE_QUEUES, last << 16 | last, 0, 0, 0, 0], ..Entry::default() }
}

/// Pairs of queues that [`set_queues`] got.
pub fn granted(result: u32) -> u16 {
    (result as u16).min((result >> 16) as u16).saturating_add(1)
}

/// Creates a completion queue: contiguous, with interrupts by vector 0 (5.3).
pub fn create_completion(queue: u16, pair: &QueuePair<'_>) -> Entry {
    let last = u32::from(pair.entries() - 1);
    Entry {
        opcode: CREATE_COMPLETION,
        data: [pair.addresses().1, 0],
        words: [last << 16 | u32::from(queue), 0b11, 0, 0, 0, 0],
        ..Entry::default()
    }
}

/// Creates a submission queue: contiguous, with the completion queue of the same number (5.4).
pub fn create_submission(queue: u16, pair: &QueuePair<'_>) -> Entry {
    let (last, queue) = (u32::from(pair.entries() - 1), u32::from(queue));
    Entry {
        opcode: CREATE_SUBMISSION,
        data: [pair.addresses().0, 0],
        words: [last << 16 | queue, queue << 16 | 1, 0, 0, 0, 0],
        ..Entry::default()
    }
}

/// The admin queue, with one command at a time.
pub struct Admin<'a> {
    pub pair: QueuePair<'a>,
    identifier: u16,
}

/// Why an admin command did not succeed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AdminError {
    /// There was no answer in time.
    Timeout,
    /// The answer was an error.
    Refused,
}

impl<'a> Admin<'a> {
    pub fn new(pair: QueuePair<'a>) -> Self {
        Self { pair, identifier: 0 }
    }

    /// Gives the controller a command. The one before has ended, or is not waited for any more.
    pub fn submit<R: Registers>(&mut self, controller: &Controller<R>, entry: &Entry) {
        self.identifier = self.identifier.wrapping_add(1);
        let tail = self.pair.push(entry, self.identifier);
        controller.ring_submission(0, tail);
    }

    /// The end of the command, if it has come. Other completions are passed over.
    pub fn poll<R: Registers>(&mut self, controller: &Controller<R>) -> Option<Completed> {
        for _ in 0..ENTRIES {
            let completed = self.pair.pop()?;
            controller.ring_completion(0, self.pair.head());
            if completed.identifier == self.identifier {
                return Some(completed);
            }
        }
        None
    }

    /// Gives the controller a command and waits for its end. Returns its result.
    pub fn run<R: Registers>(
        &mut self,
        controller: &Controller<R>,
        clock: &impl Clock,
        entry: &Entry,
    ) -> Result<u32, AdminError> {
        self.submit(controller, entry);
        let mut end = None;
        clock.wait_until(ADMIN_LIMIT, || {
            end = self.poll(controller);
            end.is_some()
        });
        match end {
            Some(Completed { status: 0, result, .. }) => Ok(result),
            Some(_) => Err(AdminError::Refused),
            None => Err(AdminError::Timeout),
        }
    }
}
