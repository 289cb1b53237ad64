//! What each page of RAM is used for: mapped how often, or the kernel's.
//!
//! A page is a kernel object or mapped, never both. To make mapping gigabytes cheap, a range that covers a whole group of
//! pages (2 MiB) is counted once in the group, not in its pages.

use crate::elementary_step;
use crate::phys::{Array, HostPhysical, Ref};
use bulkhead_abi::{Error, PAGE_SIZE};
use core::cell::Cell;

/// Pages of a group.
pub const GROUP_PAGES: u64 = 512;

/// The page belongs to a kernel object or to a pool of page tables.
pub(crate) const KERNEL: u32 = u32::MAX;
/// The page is no RAM: it can be mapped without being counted, and never be claimed.
pub(crate) const DEVICE: u32 = u32::MAX - 1;
/// Most mappings that are counted.
pub(crate) const MOST_MAPPINGS: u32 = u32::MAX - 2;

/// A range of whole pages of physical memory, not empty.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameRange {
    first: u64,
    end: u64,
}

impl FrameRange {
    /// The range of `length` bytes from `base`; both must be multiples of the page size.
    pub fn new(base: HostPhysical, length: u64) -> Result<Self, Error> {
        let end = base.0.checked_add(length).ok_or(Error::OutOfRange)?;
        Error::OutOfRange
            .when(length == 0 || !base.0.is_multiple_of(PAGE_SIZE) || !length.is_multiple_of(PAGE_SIZE))?;
        Ok(Self { first: base.0 / PAGE_SIZE, end: end / PAGE_SIZE })
    }

    /// The page at this address.
    pub fn page(base: HostPhysical) -> Result<Self, Error> {
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
    Group(Ref<Group>),
    Page(Ref<Cell<u32>>),
}

impl FrameTable {
    /// Number of entries in the array of groups for this many pages.
    pub const fn groups_for(pages: u64) -> u64 {
        pages.div_ceil(GROUP_PAGES)
    }

    /// A table for the pages from `first` (a multiple of 2 MiB) on, with one entry of `pages` each, all of them no RAM yet. `groups`
    /// must have [`Self::groups_for`] entries, all zero; surplus pages are left out otherwise.
    pub fn new(first: HostPhysical, pages: Array<Cell<u32>>, groups: Array<Group>) -> Self {
        let table = Self { first: first.0 / PAGE_SIZE, pages, groups };
        for index in 0..pages.length() {
            table.set(index, DEVICE);
        }
        table
    }

    /// Declares a range to be free RAM. For the boot, before anything is mapped or claimed there.
    pub fn add_ram(&self, range: FrameRange) -> Result<(), Error> {
        self.change(range, DEVICE, 0, 0)
    }

    /// Gives free RAM to the kernel.
    pub fn claim_for_kernel(&self, range: FrameRange) -> Result<(), Error> {
        self.change(range, 0, KERNEL, 1)
    }

    /// Frees RAM that is the kernel's.
    pub fn release_from_kernel(&self, range: FrameRange) -> Result<(), Error> {
        self.change(range, KERNEL, 0, -1)
    }

    /// Whether every page is RAM that is not the kernel's, mapped or not.
    pub fn is_partition_ram(&self, range: FrameRange) -> bool {
        self.all(range, |state| state <= MOST_MAPPINGS)
    }

    /// Counts one mapping of each page; what is no RAM is passed over.
    pub fn add_mapping(&self, range: FrameRange) -> Result<(), Error> {
        for part in self.parts(range) {
            let count = match part {
                Part::Group(group) if group.unmappable.get() == 0 => group.mappings.get(),
                Part::Page(entry) if entry.get() == DEVICE => 0,
                Part::Page(entry) if entry.get() != KERNEL => entry.get(),
                _ => return Err(Error::MemoryInUse),
            };
            Error::MemoryInUse.when(count >= MOST_MAPPINGS)?;
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
                Part::Group(group) => group.mappings.set(change(group.mappings.get())),
                Part::Page(entry) if matches!(entry.get(), KERNEL | DEVICE) => {}
                Part::Page(entry) => entry.set(change(entry.get())),
            }
        }
    }

    /// Takes a range from one state to another, which adds to the pages of a group that cannot be mapped.
    fn change(&self, range: FrameRange, from: u32, to: u32, unmappable: i32) -> Result<(), Error> {
        Error::MemoryInUse.when(!self.all(range, |state| state == from))?;
        for index in (range.first..range.end).filter_map(|page| page.checked_sub(self.first)) {
            self.set(index, to);
            if let Some(group) = self.groups.get(index / GROUP_PAGES) {
                group.unmappable.set(group.unmappable.get().saturating_add_signed(unmappable));
            }
        }
        Ok(())
    }

    pub(crate) fn all(&self, range: FrameRange, accepts: impl Fn(u32) -> bool) -> bool {
        (range.first..range.end).all(|page| self.state(page).is_some_and(&accepts))
    }

    /// How often a page is mapped, by itself or with its group, or what else it is used for; nothing for one outside the table.
    pub(crate) fn state(&self, page: u64) -> Option<u32> {
        let index = page.checked_sub(self.first)?;
        let group = self.groups.get(index / GROUP_PAGES)?;
        self.entry(index).map(|entry| match entry {
            KERNEL | DEVICE => entry,
            count => count.saturating_add(group.mappings.get()).min(MOST_MAPPINGS),
        })
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
            if next.is_multiple_of(GROUP_PAGES) && end - next >= GROUP_PAGES {
                next += GROUP_PAGES;
                self.groups.get(next / GROUP_PAGES - 1).map(Part::Group)
            } else {
                next += 1;
                self.pages.get(next - 1).map(Part::Page)
            }
        })
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
