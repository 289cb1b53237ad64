//! Physical memory while the kernel starts: which is free, and a little of it for the kernel itself.

use crate::memory::layout::DIRECT_MAP;
use bulkhead_abi::PAGE_SIZE;
use heapless::Vec;

/// A range of physical addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Range {
    /// First address.
    pub start: u64,
    /// Address after the last.
    pub end: u64,
}

impl Range {
    /// Bytes.
    pub const fn length(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }
}

/// Ranges kept at boot.
pub type Ranges = Vec<Range, 64>;

/// The parts of `areas` that none of `used` touches, in whole pages from `lowest` on.
pub fn free_ranges(areas: &[Range], used: &[Range], lowest: u64) -> Ranges {
    let mut free = Ranges::new();
    for area in areas {
        let mut start = area.start.max(lowest).next_multiple_of(PAGE_SIZE);
        let end = area.end & !(PAGE_SIZE - 1);
        while start < end {
            // The used range that covers or follows `start` first.
            let covering = used.iter().find(|range| range.start < start + PAGE_SIZE && start < range.end);
            if let Some(range) = covering {
                start = range.end.next_multiple_of(PAGE_SIZE).max(start + PAGE_SIZE);
                continue;
            }
            let next = used.iter().map(|range| range.start & !(PAGE_SIZE - 1)).filter(|next| *next > start).min();
            let stop = next.unwrap_or(end).min(end);
            // A machine with more fragments than the list holds loses the smallest use of memory: the rest.
            let _ = free.push(Range { start, end: stop });
            start = stop;
        }
    }
    free
}

/// A supply of zeroed pages that are the kernel's for ever.
pub struct BootPages {
    next: u64,
    end: u64,
}

impl BootPages {
    /// A supply from a free range, which is zeroed.
    ///
    /// # Safety
    /// The range must be free memory in the direct map that is used by nobody else from now on.
    pub unsafe fn new(range: Range) -> Self {
        // SAFETY: as the caller promises.
        unsafe { core::ptr::write_bytes((DIRECT_MAP + range.start) as *mut u64, 0, range.length() as usize / 8) };
        Self { next: range.start, end: range.end }
    }

    /// Physical address of the first of `count` pages in a row.
    pub fn take(&mut self, count: u64) -> Option<u64> {
        let end = self.next.checked_add(count.checked_mul(PAGE_SIZE)?)?;
        (end <= self.end).then(|| core::mem::replace(&mut self.next, end))
    }

    /// Pages for `bytes`.
    pub fn take_bytes(&mut self, bytes: u64) -> Option<u64> {
        self.take(bytes.div_ceil(PAGE_SIZE))
    }
}
