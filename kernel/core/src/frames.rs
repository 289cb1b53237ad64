//! What each page of RAM is used for: mapped how often, or the kernel's.
//!
//! A page is a kernel object or mapped, never both. To make mapping gigabytes cheap, a range that covers a whole group of
//! pages (2 MiB) is counted once in the group, not in its pages.

use crate::elementary_step;
use crate::phys::{Array, HostPhysical};
use bulkhead_abi::PAGE_SIZE;
use core::cell::Cell;

/// Pages of a group.
pub const GROUP_PAGES: u64 = 512;

/// The page belongs to a kernel object or to a pool of page tables.
const KERNEL: u32 = u32::MAX;
/// The page belongs to the kernel for ever, or to firmware: it can be neither mapped nor claimed.
const RESERVED: u32 = u32::MAX - 1;
/// The page is no RAM: it can be mapped without being counted, and never be claimed.
const DEVICE: u32 = u32::MAX - 2;
/// Most mappings that are counted.
const MOST_MAPPINGS: u32 = u32::MAX - 3;

/// Why a range was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameError {
    /// A page is mapped, the kernel's, reserved, or no RAM, where that was not allowed.
    InUse,
    /// The range is empty, not page-aligned, or ends beyond the address space.
    BadRange,
    /// A page is mapped as often as can be counted.
    TooManyMappings,
}

impl From<FrameError> for bulkhead_abi::Error {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::InUse | FrameError::TooManyMappings => Self::MemoryInUse,
            FrameError::BadRange => Self::OutOfRange,
        }
    }
}

/// A range of whole pages of physical memory, not empty.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameRange {
    first: u64,
    end: u64,
}

impl FrameRange {
    /// The range of `length` bytes from `base`; both must be multiples of the page size.
    pub const fn new(base: HostPhysical, length: u64) -> Result<Self, FrameError> {
        let Some(end) = base.0.checked_add(length) else {
            return Err(FrameError::BadRange);
        };
        if length == 0 || !base.0.is_multiple_of(PAGE_SIZE) || !length.is_multiple_of(PAGE_SIZE) {
            return Err(FrameError::BadRange);
        }
        Ok(Self { first: base.0 / PAGE_SIZE, end: end / PAGE_SIZE })
    }

    /// The page at this address.
    pub const fn page(base: HostPhysical) -> Result<Self, FrameError> {
        Self::new(base, PAGE_SIZE)
    }
}

/// The record of a group of pages. All zero: nothing of it is mapped or the kernel's.
#[repr(C)]
pub struct Group {
    /// Mappings that cover the whole group.
    mappings: Cell<u32>,
    /// Pages of the group that are the kernel's or reserved.
    unmappable: Cell<u32>,
}

/// The record of every page of a region of physical memory that contains all RAM.
pub struct FrameTable {
    /// Number of the first page in the table.
    first: u64,
    pages: Array<Cell<u32>>,
    groups: Array<Group>,
}

/// One part of a range: a whole group, or a page.
enum Part {
    Group(u64),
    Page(u64),
}

impl FrameTable {
    /// Number of entries in the array of groups for this many pages.
    pub const fn groups_for(pages: u64) -> u64 {
        pages.div_ceil(GROUP_PAGES)
    }

    /// A table for the pages from `first` (a multiple of 2 MiB) on, with one entry of `pages` each, all of them no RAM yet. `groups`
    /// must have [`Self::groups_for`] entries; surplus pages are left out otherwise.
    pub fn new(first: HostPhysical, pages: Array<Cell<u32>>, groups: Array<Group>) -> Self {
        let table = Self { first: first.0 / PAGE_SIZE, pages, groups };
        for index in 0..pages.length() {
            table.set(index, DEVICE);
        }
        for index in 0..groups.length() {
            if let Some(group) = groups.get(index) {
                group.mappings.set(0);
                group.unmappable.set(0);
            }
        }
        table
    }

    /// Declares a range to be free RAM. For the boot, before anything is mapped or claimed there.
    pub fn add_ram(&self, range: FrameRange) -> Result<(), FrameError> {
        self.for_each_page(range, |entry| if entry == DEVICE { Ok(()) } else { Err(FrameError::InUse) })?;
        self.update_pages(range, |_| 0);
        Ok(())
    }

    /// Takes free RAM or device memory out of use for ever: it can be neither mapped nor claimed.
    pub fn reserve(&self, range: FrameRange) -> Result<(), FrameError> {
        self.for_each_page(range, |entry| if matches!(entry, 0 | DEVICE) { Ok(()) } else { Err(FrameError::InUse) })?;
        self.make_unmappable(range, RESERVED);
        Ok(())
    }

    /// Whether every page is RAM that is neither mapped nor the kernel's.
    pub fn is_free(&self, range: FrameRange) -> bool {
        self.for_each_page(range, |entry| if entry == 0 { Ok(()) } else { Err(FrameError::InUse) }).is_ok()
    }

    /// Whether every page is RAM that is not the kernel's, mapped or not.
    pub fn is_partition_ram(&self, range: FrameRange) -> bool {
        (range.first..range.end).all(|page| {
            page.checked_sub(self.first).and_then(|index| self.entry(index)).is_some_and(|entry| entry <= MOST_MAPPINGS)
        })
    }

    /// Whether every page is the kernel's.
    pub fn is_kernel(&self, range: FrameRange) -> bool {
        self.for_each_page(range, |entry| if entry == KERNEL { Ok(()) } else { Err(FrameError::InUse) }).is_ok()
    }

    /// Gives free RAM to the kernel.
    pub fn claim_for_kernel(&self, range: FrameRange) -> Result<(), FrameError> {
        if !self.is_free(range) {
            return Err(FrameError::InUse);
        }
        self.make_unmappable(range, KERNEL);
        Ok(())
    }

    /// Frees RAM that is the kernel's.
    pub fn release_from_kernel(&self, range: FrameRange) -> Result<(), FrameError> {
        if !self.is_kernel(range) {
            return Err(FrameError::InUse);
        }
        self.update_pages(range, |index| {
            if let Some(group) = self.groups.get(index / GROUP_PAGES) {
                group.unmappable.set(group.unmappable.get().saturating_sub(1));
            }
            0
        });
        Ok(())
    }

    /// Counts one mapping of each page; what is no RAM is passed over.
    pub fn add_mapping(&self, range: FrameRange) -> Result<(), FrameError> {
        for part in self.parts(range) {
            let count = match part {
                Part::Group(index) => {
                    let Some(group) = self.groups.get(index) else {
                        continue;
                    };
                    if group.unmappable.get() != 0 {
                        return Err(FrameError::InUse);
                    }
                    group.mappings.get()
                }
                Part::Page(index) => match self.entry(index) {
                    Some(KERNEL | RESERVED) => return Err(FrameError::InUse),
                    Some(DEVICE) | None => continue,
                    Some(count) => count,
                },
            };
            if count >= MOST_MAPPINGS {
                return Err(FrameError::TooManyMappings);
            }
        }
        self.change_mappings(range, |count| count.saturating_add(1));
        Ok(())
    }

    /// Takes back one `add_mapping` of the same range.
    pub fn remove_mapping(&self, range: FrameRange) {
        self.change_mappings(range, |count| count.saturating_sub(1));
    }

    fn change_mappings(&self, range: FrameRange, change: impl Fn(u32) -> u32) {
        for part in self.parts(range) {
            match part {
                Part::Group(index) => {
                    if let Some(group) = self.groups.get(index) {
                        group.mappings.set(change(group.mappings.get()));
                    }
                }
                Part::Page(index) => match self.entry(index) {
                    Some(KERNEL | RESERVED | DEVICE) | None => {}
                    Some(count) => self.set(index, change(count)),
                },
            }
        }
    }

    fn make_unmappable(&self, range: FrameRange, mark: u32) {
        self.update_pages(range, |index| {
            if let Some(group) = self.groups.get(index / GROUP_PAGES) {
                group.unmappable.set(group.unmappable.get().saturating_add(1));
            }
            mark
        });
    }

    /// Calls `check` with the entry of each page, `MOST_MAPPINGS` if the page is mapped by its group; a page outside the table
    /// fails.
    fn for_each_page(
        &self,
        range: FrameRange,
        check: impl Fn(u32) -> Result<(), FrameError>,
    ) -> Result<(), FrameError> {
        for page in range.first..range.end {
            let index = page.checked_sub(self.first).ok_or(FrameError::InUse)?;
            let entry = self.entry(index).ok_or(FrameError::InUse)?;
            let group = self.groups.get(index / GROUP_PAGES).ok_or(FrameError::InUse)?;
            if group.mappings.get() != 0 && entry <= MOST_MAPPINGS {
                return Err(FrameError::InUse);
            }
            check(entry)?;
        }
        Ok(())
    }

    fn update_pages(&self, range: FrameRange, update: impl Fn(u64) -> u32) {
        for page in range.first..range.end {
            if let Some(index) = page.checked_sub(self.first) {
                self.set(index, update(index));
            }
        }
    }

    /// The whole groups and single pages of a range that lie in the table.
    fn parts(&self, range: FrameRange) -> impl Iterator<Item = Part> {
        let end = range.end.saturating_sub(self.first).min(self.pages.length());
        let mut next = range.first.saturating_sub(self.first);
        core::iter::from_fn(move || {
            elementary_step();
            if next >= end {
                return None;
            }
            let index = next;
            if index.is_multiple_of(GROUP_PAGES) && end - index >= GROUP_PAGES {
                next += GROUP_PAGES;
                Some(Part::Group(index / GROUP_PAGES))
            } else {
                next += 1;
                Some(Part::Page(index))
            }
        })
    }

    /// How often a page is mapped; `None` if it is no RAM that can be mapped.
    #[cfg(test)]
    pub(crate) fn mappings(&self, page: HostPhysical) -> Option<u32> {
        let index = (page.0 / PAGE_SIZE).checked_sub(self.first)?;
        let count = self.entry(index).filter(|&entry| entry <= MOST_MAPPINGS)?;
        Some(count + self.groups.get(index / GROUP_PAGES)?.mappings.get())
    }

    fn entry(&self, index: u64) -> Option<u32> {
        elementary_step();
        self.pages.get(index).map(|entry| entry.get())
    }

    fn set(&self, index: u64, value: u32) {
        if let Some(entry) = self.pages.get(index) {
            entry.set(value);
        }
    }
}
