//! Whose turn it is at the drive.
//!
//! Each command is a part of one disk's request, then the next disk has its turn: at most [`CHUNK_BYTES`] if others wait. While the
//! drive can take no more, drivers are told not to ring, since all queues are looked at when it has finished something.

use crate::disk::{Disk, Next};
use bulkhead_channel::Signals;
use bulkhead_driver::{Clock, Completion, Drive, DriveInformation, MAX_DEPTH, PhysicalSegment, SECTOR, SubmitError};
use bulkhead_virtio::{GuestMemory, OutsideMemory};
use heapless::Vec;

/// Most disks.
pub const MAX_DISKS: usize = 8;
/// Most bytes of a command while other disks wait.
const CHUNK_BYTES: u64 = 256 << 10;
/// Most bytes of a command otherwise.
const ALONE_BYTES: u64 = 2 << 20;
/// Requests that are answered or begun before events are looked at again.
const STEPS: usize = 256;
/// Requests of all disks that are on their way at most: each has room for a chain of any length, and all of them fit into the heap that a
/// program has unless its manifest says otherwise.
const REQUESTS: usize = 32;
/// Bytes copied at once between guest and bounce buffer.
const COPY_BYTES: usize = 512;

/// Memory that the device reaches, for data in memory that it does not reach.
pub trait Bounce {
    /// Where the device finds it. At least a logical block, at an even address.
    fn segment(&self) -> PhysicalSegment;
    /// Copies from it.
    fn read(&self, offset: u64, destination: &mut [u8]) -> Result<(), OutsideMemory>;
    /// Copies to it.
    fn write(&self, offset: u64, source: &[u8]) -> Result<(), OutsideMemory>;
}

/// No such memory: the drive reaches all of it.
#[derive(Clone, Copy, Debug)]
pub struct NoBounce;

impl Bounce for NoBounce {
    fn segment(&self) -> PhysicalSegment {
        PhysicalSegment { address: 0, length: 0 }
    }

    fn read(&self, _: u64, _: &mut [u8]) -> Result<(), OutsideMemory> {
        Err(OutsideMemory)
    }

    fn write(&self, _: u64, _: &[u8]) -> Result<(), OutsideMemory> {
        Err(OutsideMemory)
    }
}

/// There are already [`MAX_DISKS`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooManyDisks;

/// A command that the drive works on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct InFlight {
    disk: usize,
    place: usize,
    bytes: u64,
    bounced: bool,
}

/// How an attempt to give the drive a command ended.
enum Submission {
    /// The drive has it.
    Accepted(InFlight),
    /// Later: the drive or the bounce buffer is busy.
    Later,
    /// It cannot be done.
    Failed,
}

/// The drive and the disks on it.
pub struct Service<'a, D, C, M, B> {
    drive: D,
    clock: C,
    bounce: B,
    disks: Vec<Disk<'a, M>, MAX_DISKS>,
    /// By tag.
    in_flight: [Option<InFlight>; MAX_DEPTH as usize],
    turn: usize,
}

impl<'a, D: Drive, C: Clock, M: GuestMemory, B: Bounce> Service<'a, D, C, M, B> {
    /// A drive without disks.
    pub fn new(drive: D, clock: C, bounce: B) -> Self {
        Self { drive, clock, bounce, disks: Vec::new(), in_flight: [None; MAX_DEPTH as usize], turn: 0 }
    }

    /// What the drive says of itself.
    pub fn information(&self) -> &DriveInformation {
        self.drive.information()
    }

    /// Adds a disk; returns its number, for [`Service::take_signals`].
    pub fn add(&mut self, disk: Disk<'a, M>) -> Result<usize, TooManyDisks> {
        let index = self.disks.len();
        self.disks.push(disk).map_err(|_| TooManyDisks)?;
        // Each disk has its share of the drive's depth, so that none keeps others from it.
        let share = self.depth().min(REQUESTS) / self.disks.len();
        for disk in &mut self.disks {
            disk.set_places(share.max(1));
        }
        Ok(index)
    }

    fn depth(&self) -> usize {
        usize::from(self.drive.information().depth.clamp(1, MAX_DEPTH))
    }

    fn free_tag(&self) -> Option<u16> {
        let place = self.in_flight.iter().take(self.depth()).position(Option::is_none)?;
        u16::try_from(place).ok()
    }

    /// Hands over the numbers of the disks whose monitors have to be signalled, and what.
    pub fn take_signals(&mut self, mut signal: impl FnMut(usize, Signals)) {
        for (index, disk) in self.disks.iter_mut().enumerate() {
            let signals = disk.take_signals();
            if signals != Signals::NONE {
                signal(index, signals);
            }
        }
    }

    /// When, in the clock's milliseconds, [`Service::on_time`] has to be called.
    pub fn deadline(&self) -> Option<u64> {
        self.disks.iter().filter_map(Disk::deadline).chain(self.drive.deadline()).min()
    }

    /// To be called at the drive's interrupt, before [`Service::work`].
    pub fn on_interrupt(&mut self) {
        let mut ends: Vec<(u16, Completion), { MAX_DEPTH as usize }> = Vec::new();
        // No more end than there are tags; what a driver says beyond is not believed.
        self.drive.on_interrupt(&mut |tag, end| {
            let _ = ends.push((tag, end));
        });
        self.complete(&ends);
    }

    /// To be called when the deadline has come, before [`Service::work`].
    pub fn on_time(&mut self) {
        let mut ends: Vec<(u16, Completion), { MAX_DEPTH as usize }> = Vec::new();
        self.drive.on_time(&mut |tag, end| {
            let _ = ends.push((tag, end));
        });
        self.complete(&ends);
        self.tell();
    }

    /// Interrupts the drivers for which it is time.
    fn tell(&mut self) {
        let now = self.clock.milliseconds();
        for disk in &mut self.disks {
            disk.tell(now);
        }
    }

    /// Obeys the monitors and gives the drive work. Returns whether there is more to do at once, after a look at events.
    #[must_use]
    pub fn work(&mut self) -> bool {
        for disk in &mut self.disks {
            disk.obey();
        }
        let now = self.clock.milliseconds();
        let done = (0..STEPS).any(|_| !self.step(now));
        let more = !done || self.rest();
        self.tell();
        more
    }

    /// Nothing can be done now: drivers ring if the drive could take more. Returns whether some request came meanwhile.
    fn rest(&mut self) -> bool {
        let rings = self.free_tag().is_some();
        let mut more = false;
        for disk in &mut self.disks {
            more |= disk.set_rings(rings);
        }
        more
    }

    /// Gives the next disk that has something its turn. Returns whether there was one.
    fn step(&mut self, now: u64) -> bool {
        let Some(tag) = self.free_tag() else {
            return false;
        };
        let offline = self.drive.is_dead();
        for _ in 0..self.disks.len() {
            let index = self.turn;
            self.turn = if index + 1 < self.disks.len() { index + 1 } else { 0 };
            match self.disks.get_mut(index).map_or(Next::Nothing, |disk| disk.next(offline, now)) {
                Next::Nothing => {}
                Next::Answered => return true,
                Next::Drive(place) => {
                    let submission = if offline { Submission::Failed } else { self.submit(index, place, tag) };
                    let Some(disk) = self.disks.get_mut(index) else {
                        continue;
                    };
                    match submission {
                        Submission::Accepted(command) => {
                            if let Some(slot) = self.in_flight.get_mut(usize::from(tag)) {
                                *slot = Some(command);
                            }
                            disk.submitted(place);
                            return true;
                        }
                        Submission::Later => {}
                        Submission::Failed => {
                            disk.advance(place, None, now);
                            return true;
                        }
                    }
                }
            }
        }
        false
    }

    fn submit(&mut self, index: usize, place: usize, tag: u16) -> Submission {
        let mut others = self.disks.iter().enumerate().filter(|(other, _)| *other != index);
        let most = if others.any(|(_, disk)| disk.is_waiting()) { CHUNK_BYTES } else { ALONE_BYTES };
        let Some((disk, transfer)) = self.disks.get(index).and_then(|disk| Some((disk, disk.transfer(place)?))) else {
            return Submission::Failed;
        };
        let Some(operation) = transfer.request.map(|request| request.operation) else {
            return Submission::Failed;
        };
        let first_sector = disk.drive_sector(transfer);
        let command = |bytes| transfer.command(first_sector, bytes).ok_or(SubmitError::Range);
        let accepted = |outcome: Result<(), SubmitError>, bytes, bounced| match outcome {
            Ok(()) => Submission::Accepted(InFlight { disk: index, place, bytes, bounced }),
            Err(SubmitError::Busy) => Submission::Later,
            Err(_) => Submission::Failed,
        };
        if !operation.has_data() {
            let bytes = transfer.left();
            return accepted(command(bytes).and_then(|command| self.drive.submit(tag, command, [])), bytes, false);
        }
        let limit = transfer.left().min(most).min(self.drive.information().command_bytes);
        let bytes = self.drive.fitting(transfer.pieces(disk.memory(), limit), limit);
        if bytes != 0 {
            let data = transfer.pieces(disk.memory(), bytes);
            return accepted(command(bytes).and_then(|command| self.drive.submit(tag, command, data)), bytes, false);
        }
        if self.in_flight.iter().flatten().any(|command| command.bounced) {
            return Submission::Later;
        }
        let buffer = self.bounce.segment();
        let block = u64::from(self.drive.information().logical_block_size).max(SECTOR);
        let bytes = limit.min(buffer.length / block * block);
        let write = |address, offset, part: &mut [u8]| {
            disk.memory().read(address, part)?;
            self.bounce.write(offset, part)
        };
        if !operation.is_read() && copy(transfer.data(bytes), write).is_err() {
            return Submission::Failed;
        }
        let segment = PhysicalSegment { length: bytes, ..buffer };
        accepted(command(bytes).and_then(|command| self.drive.submit(tag, command, [segment])), bytes, true)
    }

    fn complete(&mut self, ends: &[(u16, Completion)]) {
        let now = self.clock.milliseconds();
        for (tag, completion) in ends {
            let command = self.in_flight.get_mut(usize::from(*tag)).and_then(Option::take);
            let Some((command, disk)) = command.and_then(|command| Some((command, self.disks.get_mut(command.disk)?)))
            else {
                continue;
            };
            let mut done = completion.ok().map(|()| command.bytes);
            if let Some(transfer) = disk.transfer(command.place)
                && command.bounced
                && done.is_some()
                && transfer.request.is_some_and(|request| request.operation.is_read())
            {
                let copied = copy(transfer.data(command.bytes), |address, offset, part| {
                    self.bounce.read(offset, part)?;
                    disk.memory().write(address, part)
                });
                done = done.filter(|_| copied.is_ok());
            }
            disk.advance(command.place, done, now);
        }
    }
}

/// Has `step` copy each part of guest memory: it is given the guest-physical address, the offset in the buffer and memory between.
fn copy(
    data: impl Iterator<Item = (u64, u64)>,
    mut step: impl FnMut(u64, u64, &mut [u8]) -> Result<(), OutsideMemory>,
) -> Result<(), OutsideMemory> {
    let (mut part, mut offset) = ([0; COPY_BYTES], 0);
    for (mut address, mut left) in data {
        while left != 0 {
            let length = left.min(COPY_BYTES as u64);
            step(address, offset, part.get_mut(..length as usize).ok_or(OutsideMemory)?)?;
            (address, offset, left) = (address.wrapping_add(length), offset + length, left - length);
        }
    }
    Ok(())
}
