//! A namespace as a drive: from submission of a command to its completion, and the controller's resets.

use crate::admin::{self, Admin, AdminError, Subject};
use crate::identify::{self, ControllerIdentity, NamespaceIdentity, Unusable};
use crate::memory::{MAX_QUEUES, Memory};
use crate::prp;
use crate::queue::{Completed, ENTRIES, Entry, QueuePair};
use crate::registers::Controller;
use bulkhead_driver::{
    Clock, Command, CommandError, Completion, Completions, DmaMemory, Drive, DriveInformation, MAX_DEPTH,
    PhysicalSegment, RangeLimits, Registers, SECTOR, SubmitError,
};

/// The namespace that is served.
const NAMESPACE: u32 = 1;
/// Opcodes (NVMe 1.4, 6, figure 347).
const FLUSH: u8 = 0x00;
const WRITE: u8 = 0x01;
const READ: u8 = 0x02;
const WRITE_ZEROES: u8 = 0x08;
const DATA_SET_MANAGEMENT: u8 = 0x09;
/// Attribute of data set management: deallocate (6.7).
const DEALLOCATE: u32 = 1 << 2;
/// Of write zeroes: the blocks may be deallocated (6.16).
const MAY_DEALLOCATE: u32 = 1 << 25;
/// Status: data transfer error (4.6.1.2.1).
const TRANSFER_ERROR: u16 = 0x04;

/// How long a transfer may take, in milliseconds.
const TRANSFER_LIMIT: u64 = 30_000;
/// How long what works on the whole cache, or on many blocks, may take.
const LONG_LIMIT: u64 = 60_000;
/// How often the controller is looked at during a reset.
const LOOK: u64 = 1;
/// Bits of a command identifier that hold the tag. The others count its uses, so that a completion that comes twice is not taken for
/// the next command's.
const TAG_BITS: u32 = 6;

/// Why a controller could not be started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StartError {
    /// Nothing answers.
    Absent,
    /// It did not get ready, or did not answer a command.
    Timeout,
    /// It refused a command.
    Refused,
    /// The memory is less than [`MEMORY_BYTES`](crate::MEMORY_BYTES).
    Memory,
    /// It is not a controller, or not a namespace, for this driver.
    Unusable(Unusable),
}

impl From<AdminError> for StartError {
    fn from(error: AdminError) -> Self {
        match error {
            AdminError::Timeout => Self::Timeout,
            AdminError::Refused => Self::Refused,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Running,
    /// The controller ends what it does.
    Disabling {
        deadline: u64,
    },
    /// The controller gets ready.
    Enabling {
        deadline: u64,
    },
    /// It was given step number `step` of setting up the I/O queues.
    Creating {
        step: u16,
        deadline: u64,
    },
    Dead,
}

/// A tag.
#[derive(Clone, Copy)]
struct Slot {
    /// Counts the tag's uses.
    uses: u16,
    /// When the command has to be at its end, if there is one.
    deadline: Option<u64>,
}

/// The first namespace of a controller. A tag's queue is its remainder by the number of queues.
pub struct NvmeDrive<'a, R, C> {
    controller: Controller<R>,
    clock: C,
    memory: Memory<'a>,
    admin: Admin<'a>,
    queues: [QueuePair<'a>; MAX_QUEUES as usize],
    /// Queues in use.
    count: u16,
    /// Entries of each I/O queue.
    entries: u16,
    zeroes_deallocate: bool,
    information: DriveInformation,
    slots: [Slot; MAX_DEPTH as usize],
    state: State,
    /// When to look at the controller again during a reset.
    look: u64,
    strays: u64,
}

/// The queues, empty.
fn queues<'a>(memory: &Memory<'a>, entries: u16) -> [QueuePair<'a>; MAX_QUEUES as usize] {
    let [_, first, second, third, fourth] = memory.queues;
    [first, second, third, fourth].map(|memory| QueuePair::new(memory, entries))
}

impl<'a, R: Registers, C: Clock> NvmeDrive<'a, R, C> {
    /// Resets the controller, asks it and its first namespace what they are, and creates the I/O queues. This waits, within limits.
    /// The memory that is needed is cut off `memory`.
    pub fn start(registers: R, clock: C, memory: &mut DmaMemory<'a>) -> Result<Self, StartError> {
        let controller = Controller::new(registers);
        if controller.status().is_gone() {
            return Err(StartError::Absent);
        }
        if !controller.capabilities.is_usable() {
            return Err(StartError::Unusable(Unusable::Capabilities));
        }
        let memory = Memory::new(memory).ok_or(StartError::Memory)?;
        let limit = controller.capabilities.ready_limit();
        controller.disable();
        if !clock.wait_until(limit, || !controller.status().is_ready()) {
            return Err(StartError::Timeout);
        }
        let mut admin = begin_admin(&controller, &memory);
        if !clock.wait_until(limit, || controller.status().is_ready()) {
            return Err(StartError::Timeout);
        }
        let page = memory.identify;
        admin.run(&controller, &clock, &admin::identify(Subject::Controller, NAMESPACE, page.physical()))?;
        let identity = ControllerIdentity::parse(&page);
        page.clear();
        admin.run(&controller, &clock, &admin::identify(Subject::Namespace, NAMESPACE, page.physical()))?;
        let namespace = NamespaceIdentity::parse(&page).map_err(StartError::Unusable)?;
        // A cache of which nothing is known is in use.
        let write_cache = identity.write_cache
            && admin.run(&controller, &clock, &admin::get_write_cache()).map_or(true, |result| result & 1 != 0);
        let entries = controller.capabilities.queue_entries().min(ENTRIES.into()) as u16;
        let queues = queues(&memory, entries);
        let mut drive = Self {
            controller,
            clock,
            memory,
            admin,
            queues,
            count: MAX_QUEUES,
            entries,
            zeroes_deallocate: namespace.zeroes_deallocate,
            information: identify::information(&identity, &namespace, write_cache, 0, 0),
            slots: [Slot { uses: 0, deadline: None }; MAX_DEPTH as usize],
            state: State::Dead,
            look: 0,
            strays: 0,
        };
        drive.set_up(0);
        while drive.state != State::Running {
            drive.advance(&mut |_, _| {});
            if drive.state == State::Dead {
                return Err(StartError::Refused);
            }
            core::hint::spin_loop();
        }
        // Fewer commands are in flight in a queue than it has entries, so that it is never full.
        let depth = MAX_DEPTH.min(drive.count.saturating_mul(drive.entries.saturating_sub(1)));
        drive.information = identify::information(&identity, &namespace, write_cache, depth, drive.count);
        Ok(drive)
    }

    /// Completions that belong to no command: repeated, or with an identifier that was not given.
    pub fn strays(&self) -> u64 {
        self.strays
    }

    fn after(&self, milliseconds: u64) -> u64 {
        self.clock.milliseconds().saturating_add(milliseconds)
    }

    /// Gives the controller a step of setting up: 0 is the number of queues, then completion and submission queue of each.
    fn set_up(&mut self, step: u16) {
        let queue = step.div_ceil(2);
        let entry = match usize::from(queue).checked_sub(1) {
            None => Some(admin::set_queues(self.count)),
            Some(index) => self.queues.get(index).map(|pair| {
                if step % 2 == 1 {
                    admin::create_completion(queue, pair)
                } else {
                    admin::create_submission(queue, pair)
                }
            }),
        };
        let Some(entry) = entry.filter(|_| queue <= self.count) else {
            self.state = State::Running;
            return;
        };
        self.admin.submit(&self.controller, &entry);
        self.state = State::Creating { step, deadline: self.after(admin::ADMIN_LIMIT) };
    }

    /// A step of setting up is done.
    fn stepped(&mut self, step: u16, completed: Completed, started: bool) -> bool {
        if completed.status != 0 {
            return false;
        }
        if step == 0 {
            let granted = admin::granted(completed.result).min(self.count);
            // Commands in waiting have their queues by the number that there was.
            if started && granted < self.count {
                return false;
            }
            self.count = granted;
        }
        self.set_up(step + 1);
        true
    }

    /// Goes on with a reset or a start.
    fn advance(&mut self, completions: Completions<'_>) {
        let now = self.clock.milliseconds();
        self.look = now.saturating_add(LOOK);
        let status = self.controller.status();
        match self.state {
            _ if status.is_gone() => self.die(completions),
            State::Disabling { .. } if !status.is_ready() => {
                // Now the controller does not reach memory any more.
                self.end_all(Err(CommandError::Timeout), completions);
                self.queues = queues(&self.memory, self.entries);
                self.admin = begin_admin(&self.controller, &self.memory);
                self.state = State::Enabling { deadline: self.after(self.controller.capabilities.ready_limit()) };
            }
            State::Enabling { .. } if status.is_ready() => self.set_up(0),
            State::Creating { step, deadline } => match self.admin.poll(&self.controller) {
                Some(completed) => {
                    let started = self.information.depth != 0;
                    if !self.stepped(step, completed, started) {
                        self.die(completions);
                    }
                }
                None if now >= deadline => self.die(completions),
                None => {}
            },
            State::Disabling { deadline } | State::Enabling { deadline } if now >= deadline => self.die(completions),
            State::Running | State::Disabling { .. } | State::Enabling { .. } | State::Dead => {}
        }
    }

    fn reset(&mut self) {
        self.controller.disable();
        self.state = State::Disabling { deadline: self.after(self.controller.capabilities.ready_limit()) };
        self.look = self.after(LOOK);
    }

    fn die(&mut self, completions: Completions<'_>) {
        self.controller.disable();
        self.state = State::Dead;
        self.end_all(Err(CommandError::Dead), completions);
    }

    fn end_all(&mut self, completion: Completion, completions: Completions<'_>) {
        for (tag, slot) in (0..).zip(&mut self.slots) {
            if slot.deadline.take().is_some() {
                completions(tag, completion);
            }
        }
    }

    /// Takes completions, of each queue at most as many as it has entries. Returns whether there were any.
    fn take(&mut self, completions: Completions<'_>) -> bool {
        let mut any = false;
        for (index, pair) in (0..self.count).zip(&mut self.queues) {
            let mut taken = false;
            for _ in 0..pair.entries() {
                let Some(completed) = pair.pop() else { break };
                taken = true;
                let (tag, uses) = (completed.identifier & ((1 << TAG_BITS) - 1), completed.identifier >> TAG_BITS);
                let mine = self
                    .slots
                    .get_mut(usize::from(tag))
                    .filter(|slot| slot.deadline.is_some() && slot.uses == uses && tag % self.count == index);
                match mine {
                    Some(slot) => {
                        slot.deadline = None;
                        completions(tag, outcome(completed.status));
                    }
                    None => self.strays = self.strays.saturating_add(1),
                }
            }
            if taken {
                self.controller.ring_completion(index + 1, pair.head());
                any = true;
            }
        }
        any
    }

    fn range(&self, limits: Option<RangeLimits>, first: u64, sectors: u32) -> Result<(u64, u32), SubmitError> {
        let limits = limits.ok_or(SubmitError::Unsupported)?;
        self.information.blocks(first, sectors, limits.sectors.into())
    }

    /// The command as the controller wants it.
    fn entry(
        &self,
        tag: u16,
        command: Command,
        segments: impl IntoIterator<Item = PhysicalSegment>,
    ) -> Result<Entry, SubmitError> {
        // Words 10 and 11 are the first block, the lower half of word 12 the number of blocks, from 0 (6.9, 6.15, 6.16).
        let words = |(first, count): (u64, u32), flags: u32| {
            [first as u32, (first >> 32) as u32, count.saturating_sub(1) & 0xffff | flags, 0, 0, 0]
        };
        let entry = |opcode, data, words| Entry { opcode, namespace: NAMESPACE, data, words };
        Ok(match command {
            Command::Read { first_sector, sectors } | Command::Write { first_sector, sectors } => {
                let most = self.information.command_bytes / SECTOR;
                let blocks = self.information.blocks(first_sector, sectors, most)?;
                let list = self.memory.list(tag).ok_or(SubmitError::Busy)?;
                let (bytes, data) = prp::describe(segments, &list).ok_or(SubmitError::Segments)?;
                if bytes != u64::from(sectors) * SECTOR {
                    return Err(SubmitError::Length);
                }
                let opcode = if matches!(command, Command::Read { .. }) { READ } else { WRITE };
                entry(opcode, data, words(blocks, 0))
            }
            Command::Flush => entry(FLUSH, [0; 2], [0; 6]),
            Command::Discard { first_sector, sectors } => {
                let (first, count) = self.range(self.information.discard, first_sector, sectors)?;
                let range = self.memory.range(tag).ok_or(SubmitError::Busy)?;
                // No context attributes; number of blocks; first block (6.7, figure 361).
                range.write_u64(0, u64::from(count) << 32);
                range.write_u64(8, first);
                entry(DATA_SET_MANAGEMENT, [range.physical(), 0], [0, DEALLOCATE, 0, 0, 0, 0])
            }
            Command::WriteZeroes { first_sector, sectors, unmap } => {
                let blocks = self.range(self.information.write_zeroes, first_sector, sectors)?;
                let flags = if unmap && self.zeroes_deallocate { MAY_DEALLOCATE } else { 0 };
                entry(WRITE_ZEROES, [0; 2], words(blocks, flags))
            }
        })
    }
}

/// Empty admin queues, and the controller on its way to be ready with them.
fn begin_admin<'a, R: Registers>(controller: &Controller<R>, memory: &Memory<'a>) -> Admin<'a> {
    let [memory, ..] = memory.queues;
    let admin = Admin::new(QueuePair::new(memory, ENTRIES));
    let (submission, completion) = admin.pair.addresses();
    controller.enable(submission, completion, admin.pair.entries());
    admin
}

fn outcome(status: u16) -> Completion {
    match status {
        0 => Ok(()),
        TRANSFER_ERROR => Err(CommandError::Transfer),
        _ => Err(CommandError::Drive),
    }
}

impl<R: Registers, C: Clock> Drive for NvmeDrive<'_, R, C> {
    fn information(&self) -> &DriveInformation {
        &self.information
    }

    fn fitting(&self, segments: impl IntoIterator<Item = PhysicalSegment>, limit: u64) -> u64 {
        let block = u64::from(self.information.logical_block_size);
        prp::fitting(segments, limit.min(self.information.command_bytes)) / block * block
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
        if self.slots.get(usize::from(tag)).is_none_or(|slot| slot.deadline.is_some()) {
            return Err(SubmitError::Busy);
        }
        let entry = self.entry(tag, command, segments)?;
        let limit = match command {
            Command::Read { .. } | Command::Write { .. } => TRANSFER_LIMIT,
            Command::Flush | Command::Discard { .. } | Command::WriteZeroes { .. } => LONG_LIMIT,
        };
        let deadline = self.after(limit);
        let queue = tag % self.count.max(1);
        let (Some(slot), Some(pair)) = (self.slots.get_mut(usize::from(tag)), self.queues.get_mut(usize::from(queue)))
        else {
            return Err(SubmitError::Busy);
        };
        slot.uses = (slot.uses + 1) & (u16::MAX >> TAG_BITS);
        slot.deadline = Some(deadline);
        let tail = pair.push(&entry, tag | slot.uses << TAG_BITS);
        self.controller.ring_submission(queue + 1, tail);
        Ok(())
    }

    fn on_interrupt(&mut self, completions: Completions<'_>) {
        match self.state {
            State::Running => {
                // An interrupt for nothing is rare: only then is the time for a look at the status.
                if !self.take(completions) {
                    let status = self.controller.status();
                    if status.is_gone() {
                        self.die(completions);
                    } else if status.is_fatal() {
                        self.reset();
                    }
                }
            }
            State::Dead => {}
            State::Disabling { .. } | State::Enabling { .. } | State::Creating { .. } => self.advance(completions),
        }
    }

    fn deadline(&self) -> Option<u64> {
        match self.state {
            State::Running => self.slots.iter().filter_map(|slot| slot.deadline).min(),
            State::Dead => None,
            State::Disabling { .. } | State::Enabling { .. } | State::Creating { .. } => Some(self.look),
        }
    }

    fn on_time(&mut self, completions: Completions<'_>) {
        let due = |drive: &Self| drive.deadline().is_some_and(|deadline| drive.clock.milliseconds() >= deadline);
        match self.state {
            State::Running => {
                if due(self) {
                    // The interrupt may have been lost; then the completion is there.
                    self.take(completions);
                    if due(self) {
                        self.reset();
                    }
                }
            }
            State::Dead => {}
            State::Disabling { .. } | State::Enabling { .. } | State::Creating { .. } => {
                if due(self) {
                    self.advance(completions);
                }
            }
        }
    }

    fn is_dead(&self) -> bool {
        self.state == State::Dead
    }
}
