//! Whose turn it is at the drive.
//!
//! The drive does one command at a time. Each command is at most [`CHUNK_BYTES`] of one disk's request, then the next disk has its
//! turn. Drivers are told not to ring while the drive is busy, since all queues are looked at when it has finished.

use crate::disk::{Disk, Next, cut, is_read, pieces};
use bulkhead_driver::{Clock, Command, Completion, Drive, DriveInformation, PhysicalSegment, SECTOR, SubmitError};
use bulkhead_ide::{IdeDrive, Ports};
use bulkhead_virtio::{GuestMemory, Operation, OutsideMemory};
use heapless::Vec;

/// Most disks.
pub const MAX_DISKS: usize = 8;
/// Most bytes of a command: other disks wait so long at most.
const CHUNK_BYTES: u64 = 256 << 10;
/// Requests that are answered without the drive before events are looked at again.
const ANSWERS: usize = 256;
/// Bytes copied at once between guest and bounce buffer.
const COPY_BYTES: usize = 512;

/// The tag of the one command under way.
const TAG: u16 = 0;

/// Memory that the controller reaches, for data in memory that it does not reach.
pub trait Bounce {
    /// Where the controller finds it. At least a sector, at an even address.
    fn segment(&self) -> PhysicalSegment;
    /// Copies from it.
    fn read(&self, offset: u64, destination: &mut [u8]) -> Result<(), OutsideMemory>;
    /// Copies to it.
    fn write(&self, offset: u64, source: &[u8]) -> Result<(), OutsideMemory>;
}

/// There are already [`MAX_DISKS`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooManyDisks;

/// What the drive is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct InFlight {
    disk: usize,
    bytes: u64,
    bounced: bool,
}

/// The drive and the disks on it.
pub struct Service<'a, P, C, M, B> {
    drive: IdeDrive<'a, P, C>,
    bounce: B,
    disks: Vec<Disk<'a, M>, MAX_DISKS>,
    in_flight: Option<InFlight>,
    turn: usize,
}

impl<'a, P: Ports, C: Clock, M: GuestMemory, B: Bounce> Service<'a, P, C, M, B> {
    /// A drive without disks.
    pub fn new(drive: IdeDrive<'a, P, C>, bounce: B) -> Self {
        Self { drive, bounce, disks: Vec::new(), in_flight: None, turn: 0 }
    }

    /// What the drive says of itself.
    pub fn information(&self) -> &DriveInformation {
        self.drive.information()
    }

    /// Adds a disk; returns its number, for [`Service::take_signals`].
    pub fn add(&mut self, disk: Disk<'a, M>) -> Result<usize, TooManyDisks> {
        let index = self.disks.len();
        self.disks.push(disk).map_err(|_| TooManyDisks)?;
        Ok(index)
    }

    /// Hands over the numbers of the disks whose monitors have to be signalled.
    pub fn take_signals(&mut self, mut signal: impl FnMut(usize)) {
        for (index, disk) in self.disks.iter_mut().enumerate() {
            if disk.take_signal() {
                signal(index);
            }
        }
    }

    /// When, in the clock's milliseconds, [`Service::on_time`] has to be called.
    pub fn deadline(&self) -> Option<u64> {
        self.drive.deadline()
    }

    /// To be called at the drive's interrupt, before [`Service::work`].
    pub fn on_interrupt(&mut self) {
        let mut completion = None;
        self.drive.on_interrupt(&mut |_, end| completion = Some(end));
        self.complete(completion);
    }

    /// To be called when the deadline has come, before [`Service::work`].
    pub fn on_time(&mut self) {
        let mut completion = None;
        self.drive.on_time(&mut |_, end| completion = Some(end));
        self.complete(completion);
    }

    /// Obeys the monitors and gives the drive work. Returns whether there is more to do at once, after a look at events.
    #[must_use]
    pub fn work(&mut self) -> bool {
        for disk in &mut self.disks {
            disk.obey();
        }
        for _ in 0..ANSWERS {
            if self.in_flight.is_some() || !self.find_work() {
                return false;
            }
        }
        true
    }

    /// Gives the next disk that has something its turn. Returns whether there was one.
    fn find_work(&mut self) -> bool {
        let offline = self.drive.is_dead();
        for _ in 0..self.disks.len() {
            let index = self.turn;
            self.turn = if index + 1 < self.disks.len() { index + 1 } else { 0 };
            match self.disks.get_mut(index).map_or(Next::Nothing, |disk| disk.next(offline)) {
                Next::Nothing => {}
                Next::Answered => return true,
                Next::Drive => {
                    self.start(index);
                    return true;
                }
            }
        }
        // All queues are empty: now drivers have to ring.
        let mut more = false;
        for disk in &mut self.disks {
            more |= disk.set_rings(true);
        }
        more
    }

    /// Gives the drive the next command of the disk's transfer.
    fn start(&mut self, index: usize) {
        match self.submit(index) {
            Some(in_flight) => {
                self.in_flight = Some(in_flight);
                for disk in &mut self.disks {
                    disk.set_rings(false);
                }
                if let Some(disk) = self.disks.get_mut(index) {
                    disk.at_drive = true;
                }
            }
            None => {
                if let Some(disk) = self.disks.get_mut(index) {
                    disk.advance(None);
                }
            }
        }
    }

    fn submit(&mut self, index: usize) -> Option<InFlight> {
        let disk = self.disks.get(index)?;
        let transfer = disk.transfer()?;
        let request = &transfer.request;
        let accepted = |outcome: Result<(), SubmitError>, bytes, bounced| {
            outcome.ok().map(|()| InFlight { disk: index, bytes, bounced })
        };
        if request.operation == Operation::Flush {
            return accepted(self.drive.submit(TAG, Command::Flush, []), 0, false);
        }
        let first_sector = disk.drive_sector(transfer);
        let most = self.drive.information().command_bytes;
        let limit = transfer.left().min(CHUNK_BYTES).min(most);
        let command = |bytes: u64| {
            let sectors = u32::try_from(bytes / SECTOR).unwrap_or(0);
            if is_read(request.operation) {
                Command::Read { first_sector, sectors }
            } else {
                Command::Write { first_sector, sectors }
            }
        };
        let data = |bytes| pieces(disk.memory(), &request.data, transfer.done, bytes);
        let bytes = self.drive.fitting(data(limit), limit);
        if bytes != 0 {
            return accepted(self.drive.submit(TAG, command(bytes), data(bytes)), bytes, false);
        }
        let buffer = self.bounce.segment();
        let bytes = limit.min(buffer.length / SECTOR * SECTOR);
        if !is_read(request.operation) {
            copy(cut(&request.data, transfer.done, bytes), |address, offset, block| {
                disk.memory().read(address, block)?;
                self.bounce.write(offset, block)
            })
            .ok()?;
        }
        let segment = PhysicalSegment { length: bytes, ..buffer };
        accepted(self.drive.submit(TAG, command(bytes), [segment]), bytes, true)
    }

    fn complete(&mut self, completion: Option<Completion>) {
        let Some(completion) = completion else { return };
        let Some(in_flight) = self.in_flight.take() else {
            return;
        };
        let Some(disk) = self.disks.get_mut(in_flight.disk) else {
            return;
        };
        let mut done = completion.ok().map(|()| in_flight.bytes);
        if let Some(transfer) = disk.transfer()
            && in_flight.bounced
            && done.is_some()
            && is_read(transfer.request.operation)
        {
            let data = cut(&transfer.request.data, transfer.done, in_flight.bytes);
            let copied = copy(data, |address, offset, block| {
                self.bounce.read(offset, block)?;
                disk.memory().write(address, block)
            });
            done = done.filter(|_| copied.is_ok());
        }
        disk.advance(done);
    }
}

/// Has `step` copy each block of guest memory: it is given the guest-physical address, the offset in the buffer and a block of
/// memory between.
fn copy(
    data: impl Iterator<Item = (u64, u64)>,
    mut step: impl FnMut(u64, u64, &mut [u8]) -> Result<(), OutsideMemory>,
) -> Result<(), OutsideMemory> {
    let (mut block, mut offset) = ([0; COPY_BYTES], 0);
    for (mut address, mut left) in data {
        while left != 0 {
            let length = left.min(COPY_BYTES as u64);
            step(address, offset, block.get_mut(..length as usize).ok_or(OutsideMemory)?)?;
            (address, offset, left) = (address.wrapping_add(length), offset + length, left - length);
        }
    }
    Ok(())
}
