//! A guest's disk: commands of its monitor, requests of its driver.

use crate::offer::{DiskRange, PublishError, offer};
use crate::queue::{GuestQueue, PATIENCE};
use crate::transfer::Transfer;
use alloc::vec::Vec;
use bulkhead_channel::{AtomicU64, Command, Configuration, EmulatorSide, Interrupts, MAX_QUEUES, Signals};
use bulkhead_driver::DriveInformation;
use bulkhead_virtio::{GuestMemory, Limits, Parsed, QueueError, Reply, SECTOR, Status, parse};

/// What a disk has for the drive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Next {
    /// Nothing.
    Nothing,
    /// A request was answered without the drive.
    Answered,
    /// The transfer in this place wants the drive.
    Drive(usize),
}

/// One guest's disk.
pub struct Disk<'a, M> {
    channel: EmulatorSide<'a>,
    memory: M,
    first_sector: u64,
    limits: Limits,
    queues: [Option<GuestQueue<'a>>; MAX_QUEUES],
    /// Places for requests; as many as the drive may work on for this disk.
    transfers: Vec<Transfer>,
    /// The monitor waits for a reset to be acknowledged.
    reset_wanted: bool,
    /// What the monitor has to be told.
    signals: Signals,
    /// Where the search for the next request begins.
    next_queue: usize,
    /// How long an answer may wait for others, in milliseconds.
    patience: u64,
}

impl<'a, M: GuestMemory> Disk<'a, M> {
    /// Offers the disk on the channel in `words`; its guest's memory is `memory`.
    pub fn publish(
        words: &'a [AtomicU64],
        memory: M,
        range: DiskRange<'_>,
        drive: &DriveInformation,
    ) -> Result<Self, PublishError> {
        let (description, limits) = offer(&range, drive)?;
        let channel = EmulatorSide::publish(words, description).map_err(PublishError::Channel)?;
        Ok(Self {
            channel,
            memory,
            first_sector: range.first_sector,
            limits,
            queues: Default::default(),
            transfers: Vec::new(),
            reset_wanted: false,
            signals: Signals::LOOK,
            next_queue: 0,
            patience: PATIENCE,
        })
    }

    /// Interrupts the driver for each answer at once, where the drive itself tells of several commands together.
    #[must_use]
    pub fn with_prompt_answers(self) -> Self {
        Self { patience: 0, ..self }
    }

    /// Lets so many requests be on their way, before there is one.
    pub(crate) fn set_places(&mut self, places: usize) {
        self.transfers.truncate(places);
        self.transfers.shrink_to_fit();
        self.transfers.reserve_exact(places - self.transfers.len());
        self.transfers.resize_with(places, Transfer::default);
    }

    /// The same, where the monitor has a signal for each of the first `queues` queues' interrupts.
    #[must_use]
    pub fn with_direct_interrupts(self, queues: u32) -> Self {
        Self { channel: self.channel.with_direct_interrupts(queues), ..self }
    }

    /// What the monitor has to be signalled, once.
    pub(crate) fn take_signals(&mut self) -> Signals {
        core::mem::take(&mut self.signals)
    }

    /// Obeys the monitor's next command. It gives no other before the answer; one that does, again and again, has no more than its turn.
    pub(crate) fn obey(&mut self) {
        match self.channel.next_command() {
            Some(Command::Reset) => {
                self.forget_queues();
                // The device may be writing to the guest's memory: then the reset is done when it has finished.
                self.reset_wanted = true;
            }
            Some(Command::Configure(configuration)) => {
                let done = self.configure(&configuration, false);
                self.acknowledge(done);
            }
            // The monitor had told the last life, and this one took it for its own: it is told twice.
            Some(Command::Resume(_)) if self.queues.iter().any(Option::is_some) => self.acknowledge(true),
            Some(Command::Resume(configuration)) => {
                let done = self.configure(&configuration, true);
                self.acknowledge(done);
                if done {
                    // Answers of the last life may not have been told.
                    for (index, _) in self.queues.iter().enumerate().filter(|(_, queue)| queue.is_some()) {
                        self.signals |= self.channel.raise(Interrupts::queue(index));
                    }
                }
            }
            Some(Command::Refused(_)) => self.acknowledge(false),
            None => {}
        }
        self.finish_reset();
    }

    fn acknowledge(&mut self, done: bool) {
        self.channel.acknowledge(done);
        self.signals |= Signals::LOOK;
    }

    fn forget_queues(&mut self) {
        self.queues = Default::default();
        for index in 0..MAX_QUEUES {
            if let Some(record) = self.channel.in_flight(index) {
                record.clear();
            }
        }
        for transfer in self.transfers.iter_mut().filter(|transfer| !transfer.at_drive) {
            transfer.request = None;
        }
    }

    fn finish_reset(&mut self) {
        if self.reset_wanted && !self.transfers.iter().any(|transfer| transfer.at_drive) {
            self.reset_wanted = false;
            self.signals |= self.channel.set_needs_reset(false);
            self.acknowledge(true);
        }
    }

    /// Begins to serve the queues. Whether the driver accepted VERSION_1 is the monitor's matter: the queues are the same.
    ///
    /// Returns false if the configuration is not acceptable, or there was no reset before.
    fn configure(&mut self, configuration: &Configuration, resumed: bool) -> bool {
        let in_use = self.queues.iter().any(Option::is_some) || self.transfers.iter().any(|one| one.request.is_some());
        if in_use || self.reset_wanted {
            return false;
        }
        for (index, queue) in self.queues.iter_mut().enumerate() {
            let wanted = configuration.queues.get(index).is_some_and(Option::is_some);
            let record = self.channel.in_flight(index).filter(|_| wanted);
            *queue = record.and_then(|record| GuestQueue::new(configuration, index, record, resumed, &self.memory));
            if queue.is_none() && wanted {
                self.queues = Default::default();
                return false;
            }
        }
        self.queues.iter().any(Option::is_some)
    }

    /// The driver broke a queue's rules: no more is read from any until it resets the device.
    fn fail(&mut self, _: QueueError) {
        self.forget_queues();
        self.signals |= self.channel.set_needs_reset(true);
    }

    /// Finds something to do at time `now`, with `offline` if the drive is lost.
    pub(crate) fn next(&mut self, offline: bool, now: u64) -> Next {
        if let Some(place) = self.transfers.iter().position(|one| one.request.is_some() && !one.at_drive) {
            return Next::Drive(place);
        }
        let Some(place) = self.transfers.iter().position(|one| one.request.is_none()) else {
            return Next::Nothing;
        };
        self.next_request(place, offline, now).unwrap_or_else(|error| {
            self.fail(error);
            Next::Answered
        })
    }

    /// Takes a request into a free place: of an earlier life first, then of the queues in turn.
    fn next_request(&mut self, place: usize, offline: bool, now: u64) -> Result<Next, QueueError> {
        let Some(transfer) = self.transfers.get_mut(place) else {
            return Ok(Next::Nothing);
        };
        for (index, queue) in self.queues.iter_mut().enumerate() {
            if let Some(queue) = queue
                && queue.take_again(&self.memory, &mut transfer.chain)?
            {
                transfer.queue = index;
                return self.begin(place, offline, now);
            }
        }
        for step in 0..MAX_QUEUES {
            let index = (self.next_queue + step) % MAX_QUEUES;
            if let Some(Some(queue)) = self.queues.get_mut(index)
                && queue.take(&self.memory, &mut transfer.chain)?
            {
                queue.open += 1;
                transfer.queue = index;
                self.next_queue = index + 1;
                return self.begin(place, offline, now);
            }
        }
        Ok(Next::Nothing)
    }

    /// Looks at the request whose chain is in a place.
    fn begin(&mut self, place: usize, offline: bool, now: u64) -> Result<Next, QueueError> {
        let Some(transfer) = self.transfers.get_mut(place) else {
            return Ok(Next::Nothing);
        };
        let (reply, status) = match parse(&transfer.chain, &self.limits, &self.memory)? {
            Parsed::Answer(reply, status) => (reply, status),
            Parsed::Serve(request) if offline => (request.reply, Status::IoError),
            Parsed::Serve(request) => {
                transfer.request = Some(request);
                transfer.done = 0;
                return Ok(Next::Drive(place));
            }
        };
        let queue = transfer.queue;
        self.answer(queue, reply, status, now)?;
        Ok(Next::Answered)
    }

    fn answer(&mut self, index: usize, reply: Reply, status: Status, now: u64) -> Result<(), QueueError> {
        let Some(Some(queue)) = self.queues.get_mut(index) else {
            return Ok(());
        };
        queue.open = queue.open.saturating_sub(1);
        queue.answer(&self.memory, reply, status, now)
    }

    /// Interrupts the driver if it is time to.
    pub(crate) fn tell(&mut self, now: u64) {
        for index in 0..MAX_QUEUES {
            let Some(Some(queue)) = self.queues.get_mut(index) else {
                continue;
            };
            match queue.tells(&self.memory, now, self.patience) {
                Ok(true) => self.signals |= self.channel.raise(Interrupts::queue(index)),
                Ok(false) => {}
                Err(error) => return self.fail(error),
            }
        }
    }

    /// When [`Disk::tell`] is to be called at the latest, in milliseconds.
    pub(crate) fn deadline(&self) -> Option<u64> {
        self.queues.iter().flatten().filter_map(|queue| queue.deadline(self.patience)).min()
    }

    /// Whether there are requests that the drive does not work on.
    pub(crate) fn is_waiting(&self) -> bool {
        let available = |queue: &GuestQueue<'_>| queue.queue.available(&self.memory).is_ok_and(|count| count != 0);
        self.transfers.iter().any(|one| one.request.is_some() && !one.at_drive)
            || self.queues.iter().flatten().any(available)
    }

    /// Has the driver ring for its next request, or not. Returns whether there is one for which it may not have rung.
    pub(crate) fn set_rings(&mut self, rings: bool) -> bool {
        let mut waiting = false;
        for index in 0..MAX_QUEUES {
            let Some(Some(queue)) = self.queues.get_mut(index) else {
                continue;
            };
            match queue.set_rings(rings, &self.memory) {
                Ok(more) => waiting |= more,
                Err(error) => {
                    self.fail(error);
                    return false;
                }
            }
        }
        waiting
    }

    /// The transfer in a place.
    pub(crate) fn transfer(&self, place: usize) -> Option<&Transfer> {
        self.transfers.get(place).filter(|transfer| transfer.request.is_some())
    }

    /// Sector of the drive at which a transfer goes on.
    pub(crate) fn drive_sector(&self, transfer: &Transfer) -> u64 {
        // Both sums lie on the drive: the request is inside the disk, and the disk inside the drive.
        let first = transfer.request.map_or(0, |request| request.first_sector);
        self.first_sector.saturating_add(first).saturating_add(transfer.done / SECTOR)
    }

    /// The memory of the guest.
    pub(crate) fn memory(&self) -> &M {
        &self.memory
    }

    /// The drive works on the transfer in a place from now on.
    pub(crate) fn submitted(&mut self, place: usize) {
        if let Some(transfer) = self.transfers.get_mut(place) {
            transfer.at_drive = true;
        }
    }

    /// The drive has done so many bytes of the transfer in a place, or has failed. Answers the request if that was all.
    pub(crate) fn advance(&mut self, place: usize, bytes: Option<u64>, now: u64) {
        let Some(transfer) = self.transfers.get_mut(place) else {
            return;
        };
        transfer.at_drive = false;
        if !self.queues.get(transfer.queue).is_some_and(Option::is_some) {
            // The queue is gone, and the request with it.
            transfer.request = None;
            return self.finish_reset();
        }
        let status = match bytes {
            Some(bytes) => {
                transfer.done = transfer.done.saturating_add(bytes);
                if transfer.left() != 0 {
                    return;
                }
                Status::Ok
            }
            None => Status::IoError,
        };
        let queue = transfer.queue;
        let outcome = match transfer.request.take() {
            Some(request) => self.answer(queue, request.reply, status, now),
            None => Ok(()),
        };
        if let Err(error) = outcome {
            self.fail(error);
        }
    }
}
