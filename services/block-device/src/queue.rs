//! One queue of a disk: what of it is in flight, and when its driver rings and is interrupted.
//!
//! The driver is interrupted when so many requests have been answered as are still open, or after some time, such as [`PATIENCE`]: a driver with one
//! request learns of its end at once, one with many of half of them together.

use bulkhead_channel::{Configuration, IN_FLIGHT_HEADS, InFlight};
use bulkhead_virtio::{GuestMemory, Queue, QueueError, Reply, Status};

/// How long an answer may wait for others before the driver is interrupted, in milliseconds.
pub(crate) const PATIENCE: u64 = 20;

/// A set of heads, a bit each: whatever the notes say, it takes no memory.
#[derive(Default)]
struct Heads([u64; IN_FLIGHT_HEADS as usize / 64]);

impl Heads {
    fn insert(&mut self, head: u16) {
        if let Some(word) = self.0.get_mut(usize::from(head / 64)) {
            *word |= 1 << (head % 64);
        }
    }

    fn len(&self) -> u16 {
        // As many bits as there are heads.
        self.0.iter().map(|word| word.count_ones()).sum::<u32>() as u16
    }

    fn take(&mut self) -> Option<u16> {
        let (index, word) = (0..).zip(&mut self.0).find(|(_, word)| **word != 0)?;
        let bit = word.trailing_zeros() as u16;
        *word &= *word - 1;
        Some(64 * index + bit)
    }
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

/// A queue that the driver enabled.
pub(crate) struct GuestQueue<'a> {
    pub(crate) queue: Queue,
    record: InFlight<'a>,
    /// Requests of an earlier life that are to be done again.
    again: Heads,
    doorbell: Doorbell,
    /// Requests taken and not answered.
    pub(crate) open: u16,
    /// Answers that the driver was not interrupted for, and when the first of them was given.
    untold: u16,
    since: u64,
}

impl<'a> GuestQueue<'a> {
    /// A queue of a driver's configuration; `None` if it is not there or not acceptable. One that is resumed has its open requests
    /// in the record.
    pub(crate) fn new(
        configuration: &Configuration,
        index: usize,
        record: InFlight<'a>,
        resumed: bool,
        memory: &impl GuestMemory,
    ) -> Option<Self> {
        let at = (*configuration.queues.get(index)?)?;
        let mut again = Heads::default();
        let queue = if resumed {
            let fresh = Queue::resume(at, configuration.features, memory, 0).ok()?;
            record.recover(fresh.used()).for_each(|head| again.insert(head));
            Queue::resume(at, configuration.features, memory, again.len()).ok()?
        } else {
            record.clear();
            Queue::new(at, configuration.features, memory).ok()?
        };
        let open = again.len();
        Some(Self { queue, record, again, doorbell: Doorbell::Unsaid, open, untold: 0, since: 0 })
    }

    /// The next request that an earlier life of the service left open, into `chain`; false if there is none.
    pub(crate) fn take_again(
        &mut self,
        memory: &impl GuestMemory,
        chain: &mut bulkhead_virtio::Chain,
    ) -> Result<bool, QueueError> {
        let Some(head) = self.again.take() else { return Ok(false) };
        self.queue.walk(memory, head, chain)?;
        Ok(true)
    }

    /// Takes the next chain; false if there is none.
    pub(crate) fn take(
        &mut self,
        memory: &impl GuestMemory,
        chain: &mut bulkhead_virtio::Chain,
    ) -> Result<bool, QueueError> {
        if !self.queue.take_into(memory, chain)? {
            return Ok(false);
        }
        self.doorbell = Doorbell::Unsaid;
        // A driver that offers a chain twice would be answered twice for one note.
        if !self.record.take(chain.head()) {
            return Err(QueueError::InUse);
        }
        Ok(true)
    }

    /// Answers a request at time `now`, in milliseconds.
    pub(crate) fn answer(
        &mut self,
        memory: &impl GuestMemory,
        reply: Reply,
        status: Status,
        now: u64,
    ) -> Result<(), QueueError> {
        let used = self.queue.used().wrapping_add(1);
        self.record.give_back(reply.head(), used, || reply.send(&mut self.queue, memory, status))?;
        if self.untold == 0 {
            self.since = now;
        }
        self.untold = self.untold.saturating_add(1);
        Ok(())
    }

    /// Whether the driver is to be interrupted now, if an answer may wait for others so many milliseconds.
    pub(crate) fn tells(&mut self, memory: &impl GuestMemory, now: u64, patience: u64) -> Result<bool, QueueError> {
        if self.untold == 0 {
            return Ok(false);
        }
        let open = u32::from(self.open) + u32::from(self.queue.available(memory)?);
        if u32::from(self.untold) < open && now < self.since.saturating_add(patience) {
            return Ok(false);
        }
        self.untold = 0;
        self.queue.wants_interrupt(memory)
    }

    /// When [`GuestQueue::tells`] is to be asked at the latest, in milliseconds.
    pub(crate) fn deadline(&self, patience: u64) -> Option<u64> {
        (self.untold != 0).then(|| self.since.saturating_add(patience))
    }

    /// Has the driver ring for its next request, or not. Returns whether there is one for which it may not have rung.
    pub(crate) fn set_rings(&mut self, rings: bool, memory: &impl GuestMemory) -> Result<bool, QueueError> {
        let wanted = if rings { Doorbell::Ring } else { Doorbell::Silent };
        if self.doorbell == wanted {
            return Ok(false);
        }
        let waiting = if rings {
            self.queue.request_doorbell(memory)?
        } else {
            self.queue.suppress_doorbell(memory)?;
            false
        };
        self.doorbell = wanted;
        Ok(waiting)
    }
}
