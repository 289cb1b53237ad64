//! A block device as a drive: from submission of a command to its completion, and the device's resets.

use super::configuration::{self, Configuration};
use super::memory::{MOST_DESCRIPTORS, RequestMemory};
use super::request::{self, Bounds, Written};
use crate::structures::Structures;
use crate::transport::{RESET_LIMIT, START_LIMIT, Transport};
use crate::unusable::Unusable;
use crate::virtqueue::{INDIRECT, MOST_ENTRIES, QueueMemory, Virtqueue};
use bulkhead_driver::{
    Clock, Command, CommandError, Completion, Completions, DmaMemory, Drive, DriveInformation, MAX_DEPTH,
    PhysicalSegment, RangeLimits, Registers, SECTOR, SubmitError,
};

/// The queue of requests.
const REQUESTS: u16 = 0;
/// Fewest entries of it: a chain is not longer, and has at least one piece of data.
const FEWEST_ENTRIES: u16 = 4;
/// How long a request may take, in milliseconds.
const REQUEST_LIMIT: u64 = 10_000;
/// How often the device is looked at during a reset.
const LOOK: u64 = 1;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Running,
    /// The device ends what it does.
    Resetting {
        deadline: u64,
    },
    Dead,
}

/// A block device. At most one request for each tag is in the queue.
pub struct VirtioBlk<'a, R, C> {
    transport: Transport<R>,
    clock: C,
    memory: RequestMemory<'a>,
    queue: Virtqueue<'a>,
    features: u64,
    bounds: Bounds,
    zeroes_unmap: bool,
    information: DriveInformation,
    /// When a tag's command has to be at its end, if there is one.
    deadlines: [Option<u64>; MAX_DEPTH as usize],
    state: State,
    /// When to look at the device again during a reset.
    look: u64,
}

/// Sets a device going that was reset. `check` gets it when the features are chosen.
fn set_up<'a, R: Registers, T>(
    transport: &Transport<R>,
    memory: QueueMemory<'a>,
    check: impl FnOnce(u64) -> Result<T, Unusable>,
) -> Result<(Virtqueue<'a>, T), Unusable> {
    let features = configuration::choose(transport.offered())?;
    transport.accept(features)?;
    let checked = check(features)?;
    transport.set_configuration_vector()?;
    let queue = transport.queue(REQUESTS, memory, FEWEST_ENTRIES, MOST_ENTRIES)?;
    transport.go();
    Ok((queue, checked))
}

impl<'a, R: Registers, C: Clock> VirtioBlk<'a, R, C> {
    /// Resets the device, whose structures lie in the first `window` bytes of the registers, asks it what it is, and sets it going
    /// with MSI-X vector 0. This waits, within limits. [`BLK_MEMORY_BYTES`](crate::BLK_MEMORY_BYTES) are cut off `memory`.
    pub fn start(
        registers: R,
        window: u32,
        structures: &Structures,
        clock: C,
        memory: &mut DmaMemory<'a>,
    ) -> Result<Self, Unusable> {
        let transport = Transport::new(registers, window, structures)?;
        let memory = RequestMemory::new(memory, MAX_DEPTH, MOST_DESCRIPTORS).ok_or(Unusable::Memory)?;
        transport.reset_and_wait(&clock)?;
        let begun = begin(&transport, &clock, &memory);
        if begun.is_err() {
            // It must not reach memory that is no longer the driver's.
            transport.reset_and_wait(&clock)?;
        }
        let Begun { queue, features, bounds, zeroes_unmap, information } = begun?;
        Ok(Self {
            transport,
            clock,
            memory,
            queue,
            features,
            bounds,
            zeroes_unmap,
            information,
            deadlines: [None; MAX_DEPTH as usize],
            state: State::Running,
            look: 0,
        })
    }

    fn after(&self, milliseconds: u64) -> u64 {
        self.clock.milliseconds().saturating_add(milliseconds)
    }

    fn reset(&mut self) {
        self.transport.reset();
        self.state = State::Resetting { deadline: self.after(RESET_LIMIT) };
        self.look = self.after(LOOK);
    }

    /// Goes on with a reset.
    fn advance(&mut self, completions: Completions<'_>) {
        let State::Resetting { deadline } = self.state else { return };
        let now = self.clock.milliseconds();
        self.look = now.saturating_add(LOOK);
        let status = self.transport.status();
        if status.is_gone() {
            self.die(completions);
        } else if status.is_reset() {
            // Now the device does not reach memory any more.
            self.end_all(Err(CommandError::Timeout), completions);
            match self.set_up_again() {
                Ok(()) => self.state = State::Running,
                Err(_) => self.die(completions),
            }
        } else if now >= deadline {
            self.die(completions);
        }
    }

    /// Sets the device going again, if it is what it was.
    fn set_up_again(&mut self) -> Result<(), Unusable> {
        let check = |features| if features == self.features { Ok(()) } else { Err(Unusable::Features) };
        let (queue, ()) = set_up(&self.transport, self.memory.queue(), check)?;
        if queue.size() != self.queue.size() {
            return Err(Unusable::Queue);
        }
        self.queue = queue;
        Ok(())
    }

    /// Gives up. A device that does not end a reset cannot be stopped from here: who learns that it is dead has to take the bus from
    /// it.
    fn die(&mut self, completions: Completions<'_>) {
        self.transport.reset();
        self.state = State::Dead;
        self.end_all(Err(CommandError::Dead), completions);
    }

    fn end_all(&mut self, completion: Completion, completions: Completions<'_>) {
        for (tag, deadline) in (0..).zip(&mut self.deadlines) {
            if deadline.take().is_some() {
                completions(tag, completion);
            }
        }
    }

    /// Takes completions, at most as many as the queue has entries. Returns whether there were any. A device that gives back what it
    /// does not have, or has not done, is reset.
    fn take(&mut self, completions: Completions<'_>) -> bool {
        let mut any = false;
        for _ in 0..self.queue.size() {
            let tag = match self.queue.pop() {
                Ok(Some(used)) => used.token,
                Ok(None) => return any,
                Err(_) => {
                    self.reset();
                    return true;
                }
            };
            any = true;
            let Some(outcome) = self.memory.slot(tag).and_then(|slot| slot.outcome()) else {
                self.reset();
                return true;
            };
            if self.deadlines.get_mut(usize::from(tag)).is_some_and(|deadline| deadline.take().is_some()) {
                completions(tag, outcome);
            }
        }
        any
    }

    fn check_range(&self, limits: Option<RangeLimits>, first: u64, sectors: u32) -> Result<(), SubmitError> {
        let limits = limits.ok_or(SubmitError::Unsupported)?;
        self.information.blocks(first, sectors, limits.sectors.into()).map(|_| ())
    }

    /// Writes the command as the device wants it, and returns the table's address.
    fn write(
        &self,
        tag: u16,
        command: Command,
        segments: impl IntoIterator<Item = PhysicalSegment>,
    ) -> Result<(u64, Written), SubmitError> {
        let slot = self.memory.slot(tag).ok_or(SubmitError::Busy)?;
        let bytes = match command {
            Command::Read { first_sector, sectors } | Command::Write { first_sector, sectors } => {
                let most = self.information.command_bytes / SECTOR;
                self.information.blocks(first_sector, sectors, most)?;
                u64::from(sectors) * SECTOR
            }
            Command::Flush if !self.information.flush => return Err(SubmitError::Unsupported),
            Command::Flush => 0,
            Command::Discard { first_sector, sectors } => {
                self.check_range(self.information.discard, first_sector, sectors)?;
                0
            }
            Command::WriteZeroes { first_sector, sectors, .. } => {
                self.check_range(self.information.write_zeroes, first_sector, sectors)?;
                0
            }
        };
        let written = request::write(&slot, command, segments, self.bounds, self.zeroes_unmap);
        let written = written.ok_or(SubmitError::Segments)?;
        if written.data != bytes {
            return Err(SubmitError::Length);
        }
        Ok((slot.table_address(), written))
    }
}

/// How much a request can describe: a chain is not longer than the queue (2.7.5.3.1).
fn bounds(configuration: &Configuration, queue: &Virtqueue<'_>) -> Bounds {
    let room = queue.size().saturating_sub(request::OTHERS);
    let descriptors = u32::from(room).min(configuration.segments()) as u16;
    Bounds { descriptors, bytes: configuration.segment_bytes() }
}

/// A device that was set going.
struct Begun<'a> {
    queue: Virtqueue<'a>,
    features: u64,
    bounds: Bounds,
    zeroes_unmap: bool,
    information: DriveInformation,
}

/// Sets the device going for the first time, and asks it what it is.
fn begin<'a, R: Registers>(
    transport: &Transport<R>,
    clock: &impl Clock,
    memory: &RequestMemory<'a>,
) -> Result<Begun<'a>, Unusable> {
    let (mut queue, (features, configuration)) = set_up(transport, memory.queue(), |features| {
        let configuration = Configuration::read(features, |widths, bytes| transport.configuration(widths, bytes))?;
        Ok((features, configuration))
    })?;
    let bounds = bounds(&configuration, &queue);
    let serial = ask_identifier(transport, clock, memory, &mut queue)?;
    let information = configuration.information(bounds.descriptors.into(), queue.size(), &serial)?;
    Ok(Begun { queue, features, bounds, zeroes_unmap: configuration.zeroes_unmap(), information })
}

/// Asks for the identifier; a device that refuses has none.
fn ask_identifier<R: Registers>(
    transport: &Transport<R>,
    clock: &impl Clock,
    memory: &RequestMemory<'_>,
    queue: &mut Virtqueue<'_>,
) -> Result<[u8; 20], Unusable> {
    let slot = memory.slot(0).ok_or(Unusable::Memory)?;
    let Written { length, writable, .. } = request::identifier(&slot);
    queue.push(slot.table_address(), length, INDIRECT, writable, 0);
    transport.notify(queue);
    let mut answer = Ok(None);
    clock.wait_until(START_LIMIT, || {
        answer = queue.pop();
        answer != Ok(None)
    });
    answer.map_err(|_| Unusable::Broken)?.ok_or(Unusable::Timeout)?;
    match slot.outcome().ok_or(Unusable::Broken)? {
        Ok(()) => Ok(slot.identifier()),
        Err(_) => Ok([0; 20]),
    }
}

impl<R: Registers, C: Clock> Drive for VirtioBlk<'_, R, C> {
    fn information(&self) -> &DriveInformation {
        &self.information
    }

    fn fitting(&self, segments: impl IntoIterator<Item = PhysicalSegment>, limit: u64) -> u64 {
        let block = u64::from(self.information.logical_block_size);
        request::fitting(segments, limit.min(self.information.command_bytes), self.bounds) / block * block
    }

    fn submit(
        &mut self,
        tag: u16,
        command: Command,
        segments: impl IntoIterator<Item = PhysicalSegment>,
    ) -> Result<(), SubmitError> {
        if self.state != State::Running || tag >= self.information.depth {
            return Err(SubmitError::Busy);
        }
        if self.deadlines.get(usize::from(tag)).is_none_or(Option::is_some) {
            return Err(SubmitError::Busy);
        }
        let (table, written) = self.write(tag, command, segments)?;
        let deadline = self.after(REQUEST_LIMIT);
        if !self.queue.push(table, written.length, INDIRECT, written.writable, tag) {
            return Err(SubmitError::Busy);
        }
        if let Some(slot) = self.deadlines.get_mut(usize::from(tag)) {
            *slot = Some(deadline);
        }
        self.transport.notify(&self.queue);
        Ok(())
    }

    fn on_interrupt(&mut self, completions: Completions<'_>) {
        match self.state {
            State::Running => {
                // An interrupt for nothing is rare: only then is the time for a look at the status.
                if !self.take(completions) {
                    let status = self.transport.status();
                    if status.is_gone() {
                        self.die(completions);
                    } else if status.is_failed() {
                        self.reset();
                    }
                }
            }
            State::Resetting { .. } => self.advance(completions),
            State::Dead => {}
        }
    }

    fn deadline(&self) -> Option<u64> {
        match self.state {
            State::Running => self.deadlines.iter().flatten().copied().min(),
            State::Resetting { .. } => Some(self.look),
            State::Dead => None,
        }
    }

    fn on_time(&mut self, completions: Completions<'_>) {
        let due = |drive: &Self| drive.deadline().is_some_and(|deadline| drive.clock.milliseconds() >= deadline);
        if !due(self) {
            return;
        }
        match self.state {
            State::Running => {
                // The interrupt may have been lost; then the completion is there.
                self.take(completions);
                if self.state == State::Running && due(self) {
                    self.reset();
                }
            }
            State::Resetting { .. } => self.advance(completions),
            State::Dead => {}
        }
    }

    fn is_dead(&self) -> bool {
        self.state == State::Dead
    }
}
