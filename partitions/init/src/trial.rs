//! The faults that the manifest has init inject.

use bulkhead_runtime::plan::{self, Fault};
use bulkhead_runtime::time;

/// Faults that are to be injected.
#[derive(Clone, Copy, Debug)]
pub struct Trial {
    fault: Fault,
    /// How many have been, of how many.
    count: u32,
    times: u32,
    /// Ticks before the first, and between two.
    after: u64,
    every: u64,
    /// When the last one was injected.
    last: u64,
    /// The partition has not failed by it yet.
    is_open: bool,
}

impl Trial {
    /// Those of a partition.
    pub fn new(partition: &plan::Partition<'_>) -> Self {
        let record = partition.record;
        Self {
            fault: partition.fault(),
            count: 0,
            times: record.fault_times,
            after: time::microseconds(record.fault_after_us),
            every: time::microseconds(record.fault_every_us),
            last: 0,
            is_open: false,
        }
    }

    /// When the next one is due, if there is one and the partitions were started at `started`.
    pub fn deadline(&self, started: u64) -> Option<u64> {
        let is_left = self.fault != Fault::None && self.count < self.times && !self.is_open;
        // Late ones are not made up for: a partition has its time between two.
        let (from, ticks) = if self.count == 0 { (started, self.after) } else { (self.last, self.every) };
        is_left.then(|| from.saturating_add(ticks))
    }

    /// The partition has failed: the next fault may come.
    pub fn close(&mut self) {
        self.is_open = false;
    }

    /// The one that is due, its number, and how many there will be.
    pub fn due(&mut self, now: u64, started: u64) -> Option<(Fault, u32, u32)> {
        self.deadline(started).filter(|deadline| *deadline <= now)?;
        self.count += 1;
        self.last = now;
        self.is_open = true;
        Some((self.fault, self.count, self.times))
    }
}
