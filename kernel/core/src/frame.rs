//! Major frames: at what times of a cycle a window is open.
//!
//! A frame begins whenever the TSC is a multiple of its length, on every processor at once.

use bulkhead_abi::{Error, MAX_FRAME_SLOTS};
use core::cell::Cell;

/// A cycle and the slots of it. Zero is one without: always open.
#[repr(C)]
pub struct MajorFrame {
    /// TSC ticks; 0 without a frame.
    length: Cell<u64>,
    /// First tick and end of each slot, in ascending order; those behind the last one are zero.
    slots: [Cell<(u64, u64)>; MAX_FRAME_SLOTS],
}

impl MajorFrame {
    /// Adds a slot behind those that there are.
    pub fn add(&self, length: u64, start: u64, end: u64) -> Result<(), Error> {
        let mut earliest = 0;
        for slot in &self.slots {
            if slot.get().1 == 0 {
                let other = self.length.get() != 0 && self.length.get() != length;
                if other || start < earliest || end <= start || end > length {
                    return Err(Error::BadArgument);
                }
                self.length.set(length);
                slot.set((start, end));
                return Ok(());
            }
            earliest = slot.get().1;
        }
        Err(Error::OutOfRange)
    }

    /// The ticks until the slot ends that is open at `now` (`u64::MAX` without a frame), or 0 and when the next one opens.
    #[inline]
    pub fn look(&self, now: u64) -> (u64, u64) {
        let length = self.length.get();
        if length == 0 { (u64::MAX, now) } else { self.find(now, now % length, length) }
    }

    #[inline(never)]
    fn find(&self, now: u64, phase: u64, length: u64) -> (u64, u64) {
        let begin = now - phase;
        for (start, end) in self.slots.each_ref().map(Cell::get) {
            if phase < end {
                let left = if phase < start { 0 } else { end - phase };
                return (left, begin.saturating_add(start));
            }
        }
        (0, begin.saturating_add(length).saturating_add(self.slots[0].get().0))
    }
}
