//! A guest's disk: commands of its monitor, requests of its driver.

use bulkhead_channel::{AtomicU64, Command, Configuration, DeviceDescription, DeviceKind, EmulatorSide, Interrupts};
use bulkhead_driver::{DriveInformation, PhysicalSegment};
use bulkhead_virtio::{
    BlockConfiguration, GuestMemory, Limits, MAX_DATA_SEGMENTS, Operation, Parsed, Queue, QueueError, Request, SECTOR,
    SERIAL_LENGTH, Segment, Status, feature, parse,
};

/// Largest virtqueue that is offered.
const QUEUE_SIZE: u16 = 256;
/// The one queue of a block device.
const REQUESTS: usize = 0;

/// Where a guest's disk lies on the drive, and what it is called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DiskRange<'a> {
    /// Name; its first 20 bytes are the serial number.
    pub name: &'a str,
    /// First sector on the drive.
    pub first_sector: u64,
    /// Sectors.
    pub sectors: u64,
    /// The guest cannot write.
    pub read_only: bool,
}

/// Why a disk cannot be offered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PublishError {
    /// It is empty, or reaches beyond the drive's last sector.
    Range {
        /// The drive's sectors.
        drive: u64,
    },
    /// The channel refuses it.
    Channel(bulkhead_channel::PublishError),
}

/// A request on its way.
pub(crate) struct Transfer {
    pub request: Request,
    /// Bytes that are done.
    pub done: u64,
}

impl Transfer {
    /// Bytes that are not done.
    pub fn left(&self) -> u64 {
        (self.request.sectors * SECTOR).saturating_sub(self.done)
    }
}

/// What a disk has for the drive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Next {
    /// Nothing.
    Nothing,
    /// A request was answered without the drive.
    Answered,
    /// The transfer wants the drive.
    Drive,
}

/// What the driver was told about its doorbell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Doorbell {
    /// Nothing since a request was taken.
    Unsaid,
    /// To ring for the next request.
    Ring,
    /// Not to ring.
    Silent,
}

/// One guest's disk.
pub struct Disk<'a, M> {
    channel: EmulatorSide<'a>,
    memory: M,
    first_sector: u64,
    limits: Limits,
    queue: Option<Queue>,
    transfer: Option<Transfer>,
    /// The drive works for this disk now.
    pub(crate) at_drive: bool,
    /// The monitor waits for a reset to be acknowledged.
    reset_wanted: bool,
    doorbell: Doorbell,
    /// The monitor has to be signalled.
    signal: bool,
}

impl<'a, M: GuestMemory> Disk<'a, M> {
    /// Offers the disk on the channel in `words`; its guest's memory is `memory`.
    pub fn publish(
        words: &'a [AtomicU64],
        memory: M,
        range: DiskRange<'_>,
        drive: &DriveInformation,
    ) -> Result<Self, PublishError> {
        let end = range.first_sector.checked_add(range.sectors);
        if range.sectors == 0 || end.is_none_or(|end| end > drive.sectors) {
            return Err(PublishError::Range { drive: drive.sectors });
        }
        let mut serial = [0; SERIAL_LENGTH];
        for (to, from) in serial.iter_mut().zip(range.name.bytes()) {
            *to = from;
        }
        let flush = drive.flush;
        let configuration = BlockConfiguration {
            sectors: range.sectors,
            segments: MAX_DATA_SEGMENTS as u32,
            logical_block_size: SECTOR as u32,
            // The exponent is of use only if the range begins with a physical sector.
            physical_block_exponent: if range.first_sector.trailing_zeros() >= drive.physical_exponent.into() {
                drive.physical_exponent
            } else {
                0
            },
            queues: 1,
        };
        let description = DeviceDescription {
            kind: DeviceKind::Block,
            features: features(range.read_only, flush),
            queues: 1,
            queue_size: QUEUE_SIZE,
            configuration: configuration.to_bytes(),
        };
        let channel = EmulatorSide::publish(words, description).map_err(PublishError::Channel)?;
        Ok(Self {
            channel,
            memory,
            first_sector: range.first_sector,
            limits: Limits { sectors: range.sectors, block_sectors: 1, read_only: range.read_only, flush, serial },
            queue: None,
            transfer: None,
            at_drive: false,
            reset_wanted: false,
            doorbell: Doorbell::Unsaid,
            signal: true,
        })
    }

    /// Whether the monitor has to be signalled; asked once for each time.
    pub(crate) fn take_signal(&mut self) -> bool {
        core::mem::take(&mut self.signal)
    }

    /// Obeys the monitor's commands.
    pub(crate) fn obey(&mut self) {
        while let Some(command) = self.channel.next_command() {
            match command {
                Command::Reset => {
                    self.forget_queue();
                    // The controller may be writing to the guest's memory: then the reset is done when it has finished.
                    self.reset_wanted = true;
                }
                Command::Configure(configuration) => {
                    let done = self.configure(&configuration).is_some();
                    self.acknowledge(done);
                }
                Command::Refused(_) => self.acknowledge(false),
            }
        }
        self.finish_reset();
    }

    fn acknowledge(&mut self, done: bool) {
        self.channel.acknowledge(done);
        self.signal = true;
    }

    fn forget_queue(&mut self) {
        self.queue = None;
        self.doorbell = Doorbell::Unsaid;
        if !self.at_drive {
            self.transfer = None;
        }
    }

    fn finish_reset(&mut self) {
        if self.reset_wanted && !self.at_drive {
            self.reset_wanted = false;
            self.signal |= self.channel.set_needs_reset(false);
            self.acknowledge(true);
        }
    }

    /// Begins to serve the queue. Whether the driver accepted VERSION_1 is the monitor's matter: the queue is the same.
    ///
    /// Returns `None` if the configuration is not acceptable, or there was no reset before.
    fn configure(&mut self, configuration: &Configuration) -> Option<()> {
        if self.queue.is_some() || self.reset_wanted || self.transfer.is_some() {
            return None;
        }
        let [Some(queue), ..] = configuration.queues else {
            return None;
        };
        self.queue = Some(Queue::new(queue, configuration.features, &self.memory).ok()?);
        Some(())
    }

    /// The driver broke the queue's rules: no more is read from it until it resets the device.
    fn fail_queue(&mut self, _: QueueError) {
        self.forget_queue();
        self.signal |= self.channel.set_needs_reset(true);
    }

    /// Finds something to do, with `offline` if the drive is lost.
    pub(crate) fn next(&mut self, offline: bool) -> Next {
        if self.transfer.is_some() {
            return if self.at_drive { Next::Nothing } else { Next::Drive };
        }
        match self.next_request(offline) {
            Ok(next) => next,
            Err(error) => {
                self.fail_queue(error);
                Next::Answered
            }
        }
    }

    fn next_request(&mut self, offline: bool) -> Result<Next, QueueError> {
        let Some(queue) = &mut self.queue else {
            return Ok(Next::Nothing);
        };
        let Some(chain) = queue.take(&self.memory)? else {
            return Ok(Next::Nothing);
        };
        self.doorbell = Doorbell::Unsaid;
        let (reply, status) = match parse(&chain, &self.limits, &self.memory)? {
            Parsed::Answer(reply, status) => (reply, status),
            Parsed::Serve(request) if offline => (request.reply, Status::IoError),
            Parsed::Serve(request) => {
                self.transfer = Some(Transfer { request, done: 0 });
                return Ok(Next::Drive);
            }
        };
        reply.send(queue, &self.memory, status)?;
        self.interrupt()?;
        Ok(Next::Answered)
    }

    /// Asks for an interrupt if the driver wants one.
    fn interrupt(&mut self) -> Result<(), QueueError> {
        if let Some(queue) = &mut self.queue
            && queue.wants_interrupt(&self.memory)?
        {
            self.signal |= self.channel.raise(Interrupts::queue(REQUESTS));
        }
        Ok(())
    }

    /// Has the driver ring for its next request, or not. Returns whether there is one for which it may not have rung.
    pub(crate) fn set_rings(&mut self, rings: bool) -> bool {
        let wanted = if rings { Doorbell::Ring } else { Doorbell::Silent };
        if self.doorbell == wanted {
            return false;
        }
        let Some(queue) = &mut self.queue else {
            return false;
        };
        let outcome = if rings {
            queue.request_doorbell(&self.memory)
        } else {
            queue.suppress_doorbell(&self.memory).map(|()| false)
        };
        match outcome {
            Ok(waiting) => {
                self.doorbell = wanted;
                waiting
            }
            Err(error) => {
                self.fail_queue(error);
                false
            }
        }
    }

    /// The transfer that is under way.
    pub(crate) fn transfer(&self) -> Option<&Transfer> {
        self.transfer.as_ref()
    }

    /// Sector of the drive at which the transfer goes on.
    pub(crate) fn drive_sector(&self, transfer: &Transfer) -> u64 {
        // Both sums lie on the drive: the request is inside the disk, and the disk inside the drive.
        self.first_sector.saturating_add(transfer.request.first_sector).saturating_add(transfer.done / SECTOR)
    }

    /// The memory of the guest.
    pub(crate) fn memory(&self) -> &M {
        &self.memory
    }

    /// The drive has done so many bytes of the transfer, or has failed. Answers the request if that was all.
    pub(crate) fn advance(&mut self, bytes: Option<u64>) {
        self.at_drive = false;
        let Some(transfer) = &mut self.transfer else {
            return self.finish_reset();
        };
        let status = match bytes {
            Some(bytes) => {
                transfer.done = transfer.done.saturating_add(bytes);
                (transfer.left() == 0).then_some(Status::Ok)
            }
            None => Some(Status::IoError),
        };
        let Some(queue) = &mut self.queue else {
            // The queue is gone, and the request with it.
            self.transfer = None;
            return self.finish_reset();
        };
        if let Some(status) = status {
            let outcome = transfer.request.reply.send(queue, &self.memory, status);
            self.transfer = None;
            if let Err(error) = outcome.and_then(|()| self.interrupt()) {
                self.fail_queue(error);
            }
        }
    }
}

fn features(read_only: bool, flush: bool) -> u64 {
    let always = feature::VERSION_1
        | feature::INDIRECT_DESCRIPTORS
        | feature::EVENT_INDEX
        | feature::BLOCK_SEGMENTS
        | feature::BLOCK_SIZE
        | feature::BLOCK_TOPOLOGY;
    let read_only = if read_only { feature::BLOCK_READ_ONLY } else { 0 };
    let flush = if flush { feature::BLOCK_FLUSH } else { 0 };
    always | read_only | flush
}

/// `keep` bytes of guest segments, after the first `skip`.
pub(crate) fn cut(segments: &[Segment], skip: u64, keep: u64) -> impl Iterator<Item = (u64, u64)> + Clone {
    segments.iter().scan((skip, keep), |(skip, keep), segment| {
        let length = u64::from(segment.length);
        let skipped = length.min(*skip);
        let kept = (length - skipped).min(*keep);
        *skip -= skipped;
        *keep -= kept;
        Some((segment.address.wrapping_add(skipped), kept))
    })
}

/// The same as the controller sees them: `keep` bytes of guest segments, after the first `skip`. Ends early where there is no memory.
pub(crate) fn pieces<'m, M: GuestMemory>(
    memory: &'m M,
    segments: &'m [Segment],
    skip: u64,
    keep: u64,
) -> impl Iterator<Item = PhysicalSegment> + 'm {
    cut(segments, skip, keep).flat_map(move |(address, length)| {
        let mut rest = (address, length);
        core::iter::from_fn(move || {
            let (address, length) = rest;
            if length == 0 {
                return None;
            }
            let piece = memory.translate(address, length).ok().filter(|piece| piece.length != 0)?;
            let taken = piece.length.min(length);
            rest = (address.wrapping_add(taken), length - taken);
            Some(PhysicalSegment { address: piece.address, length: taken })
        })
    })
}

/// Whether the operation moves data to the guest.
pub(crate) fn is_read(operation: Operation) -> bool {
    operation == Operation::Read
}
