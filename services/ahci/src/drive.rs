//! A drive at a port: from submission of a command to the interrupt that ends it.
//!
//! A command without native queuing goes to the drive alone (Serial ATA 3.0, 13.6.4.1): it waits until the port is idle, and queued
//! commands that come after it wait for it, so that neither kind starves.

use crate::command::{Addressing, Frame, write_ranges};
use crate::memory::{Memory, PAGE_BYTES, SLOTS};
use crate::port::{Host, Port};
use bulkhead_ata::Identity;
use bulkhead_driver::{
    Clock, Command, CommandError, Completion, Completions, Drive, DriveInformation, PhysicalSegment, Registers, SECTOR,
    SubmitError,
};

/// How long a transfer may take, in milliseconds.
const TRANSFER_LIMIT: u64 = 30_000;
/// How long a drive may take to empty its cache, or to trim (ATA/ATAPI-7 volume 1, 6.14 says: more than 30 s may be needed).
const LONG_LIMIT: u64 = 60_000;
/// Blocks that short addresses reach.
const SHORT_BLOCKS: u64 = 1 << 28;
/// Most blocks of a command with a short address.
const SHORT_COUNT: u32 = 256;

/// What the port is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    Running,
    /// The command list is being given up.
    Stopping {
        deadline: u64,
    },
    /// It was not: the whole controller is reset.
    HostReset {
        deadline: u64,
    },
    /// The reset of the link is held.
    Holding {
        until: u64,
    },
    /// The link comes back.
    Linking {
        deadline: u64,
    },
    /// The drive gets ready.
    Readying {
        deadline: u64,
    },
    Dead,
}

/// A command in its slot, which has the number of its tag.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    /// Place in the order of submission.
    order: u64,
    /// When it has to be at its end; counts once it is given to the port.
    deadline: u64,
    /// How long it may take.
    limit: u64,
    /// Bytes that a read without native queuing brings.
    bytes: Option<u64>,
    /// Blocks to be trimmed.
    trim: Option<(u64, u32)>,
}

/// One drive of a controller, with the port that it is connected to. A tag is a command slot.
pub struct AhciDrive<'a, R, C> {
    pub(crate) host: Host<R>,
    pub(crate) number: u32,
    pub(crate) clock: C,
    pub(crate) memory: Memory<'a>,
    identity: Identity,
    information: DriveInformation,
    queues: bool,
    slots: [Slot; SLOTS],
    order: u64,
    /// Slots whose commands are not given to the port yet.
    pub(crate) waiting: u32,
    /// Slots whose commands are the port's.
    pub(crate) issued: u32,
    /// Slots with native queuing.
    queued: u32,
    /// Slots whose commands are tried again, one at a time.
    pub(crate) alone: u32,
    /// Slots whose commands have failed, which is told when the port does not reach memory any more.
    pub(crate) failed: u32,
    pub(crate) failure: CommandError,
    pub(crate) state: State,
    /// When to look at the port again during a reset.
    pub(crate) look: u64,
}

/// The bit of a slot.
fn bit(slot: u16) -> u32 {
    1u32.checked_shl(slot.into()).unwrap_or(0)
}

/// The slots of a set.
pub(crate) fn members(set: u32) -> impl Iterator<Item = u16> {
    (0..SLOTS as u16).filter(move |slot| set & bit(*slot) != 0)
}

impl<'a, R: Registers, C: Clock> AhciDrive<'a, R, C> {
    /// A drive that has been started.
    pub(crate) fn new(
        host: Host<R>,
        number: u32,
        clock: C,
        memory: Memory<'a>,
        identity: Identity,
        information: DriveInformation,
        queues: bool,
    ) -> Self {
        Self {
            host,
            number,
            clock,
            memory,
            identity,
            information,
            queues,
            slots: [Slot { order: 0, deadline: 0, limit: 0, bytes: None, trim: None }; SLOTS],
            order: 0,
            waiting: 0,
            issued: 0,
            queued: 0,
            alone: 0,
            failed: 0,
            failure: CommandError::Drive,
            state: State::Running,
            look: 0,
        }
    }

    pub(crate) fn port(&self) -> Port<'_, R> {
        self.host.port(self.number)
    }

    pub(crate) fn after(&self, milliseconds: u64) -> u64 {
        self.clock.milliseconds().saturating_add(milliseconds)
    }

    fn slot(&self, slot: u16) -> Option<&Slot> {
        self.slots.get(usize::from(slot))
    }

    /// Slots whose commands must not be the port's together with others.
    fn exclusive(&self) -> u32 {
        !self.queued | self.alone
    }

    /// Gives the port what it may have now, in the order of submission.
    pub(crate) fn issue(&mut self) {
        while self.state == State::Running && self.issued & self.exclusive() == 0 {
            let order = |slot: &u16| self.slot(*slot).map_or(u64::MAX, |slot| slot.order);
            let Some(next) = members(self.waiting).min_by_key(order) else { return };
            if bit(next) & self.exclusive() != 0 && self.issued != 0 {
                return;
            }
            self.give(next);
        }
    }

    fn give(&mut self, slot: u16) {
        let now = self.clock.milliseconds();
        if let Some(slot) = self.slots.get_mut(usize::from(slot)) {
            slot.deadline = now.saturating_add(slot.limit);
            if let Some((block, count)) = slot.trim {
                // There is one sector of ranges, since only one such command is the port's at a time.
                write_ranges(&self.memory.ranges, block, count);
            }
        }
        self.waiting &= !bit(slot);
        self.issued |= bit(slot);
        self.port().issue(slot, self.queued & bit(slot) != 0);
    }

    /// Tells the end of commands.
    pub(crate) fn end(&mut self, set: u32, completion: Completion, completions: Completions<'_>) {
        for done in [&mut self.waiting, &mut self.issued, &mut self.failed, &mut self.alone] {
            *done &= !set;
        }
        for slot in members(set) {
            completions(slot, completion);
        }
    }

    /// Tells the end of the commands that the port is done with.
    pub(crate) fn take(&mut self, completions: Completions<'_>) {
        let done = self.issued & !self.port().busy_slots();
        let short = |slot: &u16| {
            let wanted = self.slot(*slot).and_then(|slot| slot.bytes);
            wanted.is_some_and(|bytes| bytes != self.memory.transferred(*slot))
        };
        let unqueued = done & !self.queued;
        let refused = if unqueued != 0 && self.port().is_failed() { unqueued } else { 0 };
        let cut = members(unqueued & !refused).filter(short).fold(0, |set, slot| set | bit(slot));
        self.end(refused, Err(CommandError::Drive), completions);
        self.end(cut, Err(CommandError::Transfer), completions);
        self.end(done & !refused & !cut, Ok(()), completions);
    }

    fn addressing(&self, block: u64, count: u32) -> Addressing {
        if self.queues {
            Addressing::Queued
        } else if count <= SHORT_COUNT && block + u64::from(count) <= SHORT_BLOCKS {
            Addressing::Short
        } else {
            Addressing::Long
        }
    }

    /// Puts a command into its slot; returns what is to be known of it, and whether it is queued.
    fn prepare(
        &self,
        tag: u16,
        command: Command,
        segments: impl IntoIterator<Item = PhysicalSegment>,
    ) -> Result<(Slot, bool), SubmitError> {
        let slot = Slot { order: self.order, deadline: 0, limit: LONG_LIMIT, bytes: None, trim: None };
        match command {
            Command::Read { first_sector, sectors } | Command::Write { first_sector, sectors } => {
                let write = matches!(command, Command::Write { .. });
                let most = self.information.command_bytes / SECTOR;
                let (block, count) = self.information.blocks(first_sector, sectors, most)?;
                let wanted = u64::from(sectors) * SECTOR;
                let (bytes, descriptors) = self.memory.describe(tag, segments).ok_or(SubmitError::Segments)?;
                if bytes != wanted {
                    return Err(SubmitError::Length);
                }
                let addressing = self.addressing(block, count);
                let queued = addressing == Addressing::Queued;
                self.memory.prepare(tag, &Frame::transfer(addressing, write, block, count, tag), descriptors);
                let bytes = (!write && !queued).then_some(wanted);
                Ok((Slot { limit: TRANSFER_LIMIT, bytes, ..slot }, queued))
            }
            Command::Flush if self.information.flush => {
                self.memory.prepare(tag, &Frame::flush(self.identity.flush_ext), 0);
                Ok((slot, false))
            }
            Command::Discard { first_sector, sectors } => {
                let limits = self.information.discard.ok_or(SubmitError::Unsupported)?;
                let trim = self.information.blocks(first_sector, sectors, limits.sectors.into())?;
                let ranges = PhysicalSegment { address: self.memory.ranges.physical(), length: PAGE_BYTES as u64 };
                let (_, descriptors) = self.memory.describe(tag, [ranges]).ok_or(SubmitError::Segments)?;
                self.memory.prepare(tag, &Frame::trim(), descriptors);
                Ok((Slot { trim: Some(trim), ..slot }, false))
            }
            Command::Flush | Command::WriteZeroes { .. } => Err(SubmitError::Unsupported),
        }
    }
}

impl<R: Registers, C: Clock> Drive for AhciDrive<'_, R, C> {
    fn information(&self) -> &DriveInformation {
        &self.information
    }

    fn fitting(&self, segments: impl IntoIterator<Item = PhysicalSegment>, limit: u64) -> u64 {
        let block = u64::from(self.information.logical_block_size);
        self.memory.fitting(segments, limit.min(self.information.command_bytes)) / block * block
    }

    fn submit(
        &mut self,
        tag: u16,
        command: Command,
        segments: impl IntoIterator<Item = PhysicalSegment>,
    ) -> Result<(), SubmitError> {
        let used = self.waiting | self.issued | self.failed;
        if self.state != State::Running || tag >= self.information.depth || used & bit(tag) != 0 {
            return Err(SubmitError::Busy);
        }
        let (prepared, queued) = self.prepare(tag, command, segments)?;
        let slot = self.slots.get_mut(usize::from(tag)).ok_or(SubmitError::Busy)?;
        *slot = prepared;
        self.order = self.order.wrapping_add(1);
        self.queued = self.queued & !bit(tag) | if queued { bit(tag) } else { 0 };
        self.waiting |= bit(tag);
        self.issue();
        Ok(())
    }

    fn on_interrupt(&mut self, completions: Completions<'_>) {
        match self.state {
            State::Running => self.interrupt(completions),
            State::Dead => {}
            _ => self.advance(completions),
        }
    }

    fn deadline(&self) -> Option<u64> {
        match self.state {
            State::Running => members(self.issued).filter_map(|slot| self.slot(slot)).map(|slot| slot.deadline).min(),
            State::Dead => None,
            _ => Some(self.look),
        }
    }

    fn on_time(&mut self, completions: Completions<'_>) {
        let due = |drive: &Self| drive.deadline().is_some_and(|deadline| drive.clock.milliseconds() >= deadline);
        if !due(self) {
            return;
        }
        if self.state != State::Running {
            return self.advance(completions);
        }
        // The interrupt may have been lost; then the port tells.
        self.interrupt(completions);
        if self.state == State::Running && due(self) {
            self.recover(self.issued, CommandError::Timeout);
        }
    }

    fn is_dead(&self) -> bool {
        self.state == State::Dead
    }
}
