//! The client: set-up, requests in flight, and the service's next life.
//!
//! The rings are written only after the service has acknowledged a reset, so that it never sees a queue that is half of an old one. A
//! service that was started anew is reset first, whatever it says, and then gets all requests in flight again: what its last life
//! noted in the channel is not used.

use crate::offer::Offer;
use bulkhead_channel::{AtomicU64, Configuration, Generation, MonitorSide, Outcome, QueueConfiguration};
use bulkhead_driver::{
    Command, CommandError, Completion, Completions, DmaMemory, DriveInformation, SECTOR, SubmitError,
};
use bulkhead_virtio_driver::parts::{Bounds, INDIRECT, RequestMemory, Virtqueue, write_request};

/// Requests at a time: tags are below it.
pub const DEPTH: u16 = 16;
/// Bytes of a request's buffer.
pub const BUFFER_BYTES: usize = 64 << 10;
/// Bytes of the memory that client and service share.
pub const MEMORY_BYTES: usize = BUFFERS_AT + DEPTH as usize * BUFFER_BYTES;
/// Descriptors of a request: header, data or range, status; a fourth is not used.
const DESCRIPTORS: usize = 4;
/// Where in the memory the buffers begin, one after the other.
pub const BUFFERS_AT: usize = RequestMemory::bytes(DEPTH, DESCRIPTORS).next_multiple_of(PAGE);
const PAGE: usize = 4096;
/// The queue that is used.
const QUEUE: usize = 0;
/// The data of a request are one piece.
const BOUNDS: Bounds = Bounds { descriptors: 1, bytes: BUFFER_BYTES as u32 };

/// How the service is told that there is something for it.
pub trait Doorbell {
    /// Signals the service. One that is gone misses nothing.
    fn ring(&self);
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// The service is to forget all queues.
    Resetting,
    /// It is to serve the queue.
    Configuring,
    Running,
    /// What it offers is of no use, or another disk than before: until its next life.
    Refused,
}

/// A client. Whoever has it calls [`BlockClient::poll`] after each signal of the service.
pub struct BlockClient<'a, B> {
    monitor: MonitorSide<'a>,
    doorbell: B,
    memory: RequestMemory<'a>,
    buffers: DmaMemory<'a>,
    queue: Option<Virtqueue<'a>>,
    state: State,
    generation: Option<Generation>,
    /// The disk as it was offered first.
    offer: Option<Offer>,
    /// What is in flight, by tag.
    commands: [Option<Command>; DEPTH as usize],
}

/// Bytes of a command's data.
fn data_bytes(command: Command) -> u64 {
    match command {
        Command::Read { sectors, .. } | Command::Write { sectors, .. } => u64::from(sectors) * SECTOR,
        Command::Flush | Command::Discard { .. } | Command::WriteZeroes { .. } => 0,
    }
}

impl<'a, B: Doorbell> BlockClient<'a, B> {
    /// A client over the disk's channel and the memory that is shared with the service, of [`MEMORY_BYTES`]; `None` if one of them is too
    /// small. What an earlier life of the client had in flight is given up.
    pub fn attach(channel: &'a [AtomicU64], memory: &'a [AtomicU64], doorbell: B) -> Option<Self> {
        let mut memory = DmaMemory::new(memory, 0);
        let requests = RequestMemory::new(&mut memory, DEPTH, DESCRIPTORS)?;
        let buffers = memory.take(usize::from(DEPTH) * BUFFER_BYTES, PAGE as u64)?;
        let mut client = Self {
            monitor: MonitorSide::attach(channel).ok()?,
            doorbell,
            memory: requests,
            buffers,
            queue: None,
            state: State::Resetting,
            generation: None,
            offer: None,
            commands: [None; DEPTH as usize],
        };
        client.generation = client.monitor.generation();
        // To attach is to reset.
        client.doorbell.ring();
        Some(client)
    }

    /// What the service offers, once it has: it does not change from then on.
    pub fn information(&self) -> Option<&DriveInformation> {
        self.offer.as_ref().map(|offer| &offer.information)
    }

    /// Whether the service offers something else than before, or nothing of use. A next life of it may be better.
    pub fn is_dead(&self) -> bool {
        self.state == State::Refused
    }

    /// The buffers of all tags, one after the other. The service may change them at any time.
    pub fn buffers(&self) -> DmaMemory<'a> {
        self.buffers
    }

    /// The buffer of a tag, which the service may change at any time; `None` if there is no such tag.
    pub fn buffer(&self, tag: u16) -> Option<DmaMemory<'a>> {
        self.buffers.part(usize::from(tag).checked_mul(BUFFER_BYTES)?, BUFFER_BYTES)
    }

    /// Whether nothing is in flight under a tag.
    pub fn is_free(&self, tag: u16) -> bool {
        self.commands.get(usize::from(tag)).is_some_and(Option::is_none)
    }

    /// Gives the service a command under a tag that is free; its data are at the beginning of the tag's buffer. Whether its sectors are
    /// on the disk is for the service to judge. If the service is not there, it gets the command later.
    ///
    /// # Errors
    /// [`SubmitError::Busy`] if the tag is in use or there is none such, or if the client is dead; [`SubmitError::Length`] if the data are
    /// more than the buffer.
    pub fn submit(&mut self, tag: u16, command: Command) -> Result<(), SubmitError> {
        if !self.is_free(tag) || self.is_dead() {
            return Err(SubmitError::Busy);
        }
        if data_bytes(command) > BUFFER_BYTES as u64 {
            return Err(SubmitError::Length);
        }
        if let Some(slot) = self.commands.get_mut(usize::from(tag)) {
            *slot = Some(command);
        }
        if self.state == State::Running && !self.push(tag, command) {
            // A queue that has no room for what it should have is set up anew.
            self.reset();
        }
        Ok(())
    }

    /// Makes a request available. False if there is no room for it.
    fn push(&mut self, tag: u16, command: Command) -> bool {
        let may_unmap = self.offer.as_ref().is_some_and(|offer| offer.may_unmap);
        let bytes = data_bytes(command);
        let data = self.buffer(tag).map(|buffer| buffer.segment()).filter(|_| bytes != 0);
        let data = data.map(|segment| bulkhead_driver::PhysicalSegment { length: bytes, ..segment });
        let (Some(slot), Some(queue)) = (self.memory.slot(tag), &mut self.queue) else {
            return false;
        };
        let Some(written) = write_request(&slot, command, data, BOUNDS, may_unmap) else {
            return false;
        };
        if !queue.push(slot.table_address(), written.length, INDIRECT, written.writable, tag) {
            return false;
        }
        if queue.wants_notification() {
            self.doorbell.ring();
        }
        true
    }

    /// Looks at what the service has done, and tells the ends of commands.
    pub fn poll(&mut self, ended: Completions<'_>) {
        let generation = self.monitor.generation();
        if generation != self.generation {
            self.generation = generation;
            // While it is none the service starts; it signals when it has.
            if generation.is_some() {
                self.reset();
            }
            return;
        }
        match self.state {
            State::Resetting if self.monitor.outcome() != Outcome::Pending => self.set_up(ended),
            State::Configuring => match self.monitor.outcome() {
                Outcome::Pending => {}
                Outcome::Done => self.run(),
                Outcome::Refused => self.refuse(ended),
            },
            State::Running => self.take(ended),
            State::Resetting | State::Refused => {}
        }
    }

    fn reset(&mut self) {
        self.queue = None;
        self.state = State::Resetting;
        self.monitor.reset();
        self.doorbell.ring();
    }

    /// The service knows no queue: it gets a new one.
    fn set_up(&mut self, ended: Completions<'_>) {
        let Some(found) = self.monitor.description() else { return };
        let offer = found.ok().and_then(|(_, description)| Offer::new(&description));
        let Some(offer) = offer else { return self.refuse(ended) };
        let first = self.offer.get_or_insert(offer);
        if first.description != offer.description {
            return self.refuse(ended);
        }
        let Some(queue) = Virtqueue::new(self.memory.queue(), QUEUE as u16, DEPTH, 0) else {
            return self.refuse(ended);
        };
        let [descriptors, driver, device] = queue.addresses();
        let mut choice = Configuration { features: offer.features, ..Configuration::default() };
        if let Some(place) = choice.queues.get_mut(QUEUE) {
            *place = Some(QueueConfiguration { size: DEPTH, descriptors, driver, device });
        }
        self.queue = Some(queue);
        self.state = State::Configuring;
        self.monitor.configure(&choice);
        self.doorbell.ring();
    }

    /// The service serves the queue: it gets what is in flight.
    fn run(&mut self) {
        self.state = State::Running;
        for (tag, command) in (0..).zip(self.commands) {
            if let Some(command) = command
                && !self.push(tag, command)
            {
                return self.reset();
            }
        }
    }

    /// There is nothing to be had: all commands end.
    fn refuse(&mut self, ended: Completions<'_>) {
        self.queue = None;
        self.state = State::Refused;
        for (tag, command) in (0..).zip(&mut self.commands) {
            if command.take().is_some() {
                ended(tag, Err(CommandError::Dead));
            }
        }
    }

    /// Takes what the service has given back. One that breaks the queue's rules is reset, and gets its requests again.
    fn take(&mut self, ended: Completions<'_>) {
        // Before the look at the queue, so that nothing that comes later is missed.
        let _ = self.monitor.take_interrupts();
        if self.monitor.needs_reset() {
            return self.reset();
        }
        for _ in 0..DEPTH {
            match self.next() {
                Ok(Some((tag, end))) => ended(tag, end),
                Ok(None) => return,
                Err(()) => return self.reset(),
            }
        }
    }

    /// The next end of a command.
    fn next(&mut self) -> Result<Option<(u16, Completion)>, ()> {
        let queue = self.queue.as_mut().ok_or(())?;
        let Some(used) = queue.pop().map_err(|_| ())? else {
            return Ok(None);
        };
        let end = self.memory.slot(used.token).and_then(|slot| slot.outcome()).ok_or(())?;
        let command = self.commands.get_mut(usize::from(used.token)).and_then(Option::take);
        command.map(|_| Some((used.token, end))).ok_or(())
    }
}
