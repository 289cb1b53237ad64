//! Four-level page tables, in the processor's own format or as extended page tables.
//!
//! Tables come from a [`Pool`] of zeroed pages that belongs to the space, and return to it only when the space is torn down: an
//! emptied table stays in its place, so no processor can hold a stale pointer to a table that has become another.

mod format;
mod pool;

use crate::Progress;
use crate::phys::{HostPhysical, PageWords, Ref, zero_page};
use bulkhead_abi::{Error, PAGE_SIZE, Rights};
use core::cell::Cell;
use core::marker::PhantomData;

pub use format::{Attributes, Ept, Format, Native};
pub use pool::Pool;

use format::LARGE;

/// Entries of a table.
const ENTRIES: u64 = 512;
/// Where an entry holds a physical address.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// Leaves that one step maps, or entries that one step unmaps, at most.
pub const LEAVES_PER_STEP: u64 = 512;

/// Sizes of pages; the number is the level of the table that holds such leaves, 0 for the lowest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum PageSize {
    /// 4 KiB.
    Small = 0,
    /// 2 MiB.
    Large = 1,
    /// 1 GiB.
    Huge = 2,
}

/// Bytes that an entry of a table of this level covers.
const fn span(level: u32) -> u64 {
    PAGE_SIZE << (9 * level)
}

/// What an address translates to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Translation {
    /// The physical address.
    pub physical: HostPhysical,
    /// How its page is mapped.
    pub attributes: Attributes,
    /// Size of its page.
    pub size: PageSize,
}

/// A tree of page tables. The root is a zeroed page of the kernel (its upper half may hold the kernel's own entries).
#[derive(Clone, Copy)]
pub struct PageTable<F: Format> {
    root: HostPhysical,
    format: PhantomData<F>,
}

/// The entry that decides about an address: the first on the way down that is not in use or a leaf.
struct Place {
    table: Ref<PageWords>,
    index: u64,
    level: u32,
    entry: u64,
}

/// A mapping to be made or undone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mapping {
    /// First virtual (or guest-physical) address.
    pub address: u64,
    /// First physical address.
    pub physical: HostPhysical,
    /// Bytes.
    pub length: u64,
}

impl Mapping {
    /// Checks that addresses and length are multiples of the page size, and that the addresses lie in one half of the space.
    pub fn new(address: u64, physical: HostPhysical, length: u64) -> Result<Self, Error> {
        Error::Misaligned.when(length == 0 || !(address | physical.0 | length).is_multiple_of(PAGE_SIZE))?;
        let last = address.checked_add(length - 1).ok_or(Error::OutOfRange)?;
        let last_physical = physical.0.checked_add(length - 1).ok_or(Error::OutOfRange)?;
        let half = address >> 47;
        let is_in_one_half = half == last >> 47 && (half == 0 || half == 0x1_ffff);
        Error::OutOfRange.when(!is_in_one_half || last_physical > ADDRESS | (PAGE_SIZE - 1))?;
        Ok(Self { address, physical, length })
    }
}

impl<F: Format> PageTable<F> {
    /// The tables under this root, a page that the kernel holds as the root of tables of this format.
    pub const fn new(root: HostPhysical) -> Self {
        Self { root, format: PhantomData }
    }

    /// The root.
    pub const fn root(self) -> HostPhysical {
        self.root
    }

    fn find(self, address: u64) -> Place {
        let mut table = self.root.page_words();
        let mut level = 3;
        loop {
            let index = index(address, level);
            let entry = table.word(index);
            if !F::is_present(entry) || level == 0 || entry & LARGE != 0 {
                return Place { table, index, level, entry };
            }
            table = HostPhysical(entry & ADDRESS).page_words();
            level -= 1;
        }
    }

    /// Maps more of `mapping`, from `done` bytes on, at most [`LEAVES_PER_STEP`] leaves, and counts `done` up. After an error
    /// ([`Error::AlreadyMapped`], [`Error::PoolExhausted`]) the caller unmaps what is done.
    pub fn map_step(
        self,
        mapping: &Mapping,
        attributes: Attributes,
        pool: &Pool,
        largest: PageSize,
        done: &Cell<u64>,
    ) -> Result<Progress, Error> {
        Error::BadArgument.when(!attributes.rights.intersects(Rights::READ | Rights::WRITE | Rights::EXECUTE))?;
        for _ in 0..LEAVES_PER_STEP {
            let offset = done.get();
            if offset >= mapping.length {
                return Ok(Progress::Done);
            }
            let rest = Mapping {
                address: mapping.address.wrapping_add(offset),
                physical: HostPhysical(mapping.physical.0.wrapping_add(offset)),
                length: mapping.length - offset,
            };
            let size = self.map_leaf(rest, attributes, pool, largest)?;
            done.set(offset.saturating_add(size));
        }
        Ok(if done.get() >= mapping.length { Progress::Done } else { Progress::Again })
    }

    /// Maps the first leaf of a mapping, as large as possible, and answers its size.
    fn map_leaf(self, rest: Mapping, attributes: Attributes, pool: &Pool, largest: PageSize) -> Result<u64, Error> {
        let Mapping { address, physical, length } = rest;
        let Place { mut table, mut level, entry, .. } = self.find(address);
        Error::AlreadyMapped.when(F::is_present(entry))?;
        // A table that is there stays: smaller pages are put into it.
        loop {
            let index = index(address, level);
            let is_aligned = (address | physical.0).is_multiple_of(span(level));
            if level <= largest as u32 && length >= span(level) && is_aligned {
                table.set_word(index, F::leaf(physical, level, attributes));
                return Ok(span(level));
            }
            // A small page always fits at level 0.
            level = level.checked_sub(1).ok_or(Error::Misaligned)?;
            let page = pool.take().ok_or(Error::PoolExhausted)?;
            table.set_word(index, F::table(page));
            table = page.page_words();
        }
    }

    /// Maps all at once, or nothing. For the boot and for short ranges: not preemptible.
    pub fn map(self, mapping: &Mapping, attributes: Attributes, pool: &Pool, largest: PageSize) -> Result<(), Error> {
        let done = Cell::new(0);
        let mut outcome = Ok(Progress::Again);
        while outcome == Ok(Progress::Again) {
            outcome = self.map_step(mapping, attributes, pool, largest, &done);
        }
        if outcome.is_err() {
            while self.unmap_step(mapping.address, &done) == Progress::Again {}
        }
        outcome.map(|_| ())
    }

    /// Unmaps from the end of the `done` bytes that are mapped from `address` on, at most [`LEAVES_PER_STEP`] entries, and counts
    /// `done` down to 0. The range must be what one mapping made, or the first part of it: pages are never split. What is not
    /// mapped is passed over. The caller invalidates the range between the old and the new `done`.
    pub fn unmap_step(self, address: u64, done: &Cell<u64>) -> Progress {
        for _ in 0..LEAVES_PER_STEP {
            let Some(last) = done.get().checked_sub(1) else { return Progress::Done };
            let at = address.wrapping_add(last);
            let place = self.find(at);
            if F::is_present(place.entry) {
                place.table.set_word(place.index, 0);
            }
            // Down to the beginning of what the entry covers.
            done.set((at & !(span(place.level) - 1)).saturating_sub(address));
        }
        if done.get() == 0 { Progress::Done } else { Progress::Again }
    }

    /// What an address translates to.
    pub fn translate(self, address: u64) -> Option<Translation> {
        let Place { level, entry, .. } = self.find(address);
        let offset = span(level) - 1;
        F::is_present(entry).then(|| Translation {
            physical: HostPhysical((entry & ADDRESS & !offset) | (address & offset)),
            attributes: F::attributes(entry),
            size: match level {
                0 => PageSize::Small,
                1 => PageSize::Large,
                _ => PageSize::Huge,
            },
        })
    }

    /// Returns one table to the pool, zeroed, the lowest first, with everything that it maps; `Done` when only the root is left
    /// and its part of the space is empty. No processor may use the tables any more.
    pub fn destroy_step(self, pool: &Pool) -> Progress {
        let mut table = self.root.page_words();
        let mut entries = F::ROOT_ENTRIES;
        let mut link: Option<(Ref<PageWords>, u64)> = None;
        for _ in [3, 2, 1] {
            let names_a_table = |index: &u64| {
                let entry = table.word(*index);
                F::is_present(entry) && entry & LARGE == 0
            };
            let Some(index) = (0..entries).find(names_a_table) else { break };
            link = Some((table, index));
            table = HostPhysical(table.word(index) & ADDRESS).page_words();
            entries = ENTRIES;
        }
        let Some((upper, index)) = link else {
            return Progress::Done;
        };
        upper.set_word(index, 0);
        zero_page(table.page());
        pool.give(table.page());
        Progress::Again
    }
}

/// The index of an address in a table of a level.
const fn index(address: u64, level: u32) -> u64 {
    (address >> (12 + 9 * level)) % ENTRIES
}
