//! Four-level page tables, in the processor's own format or as extended page tables.
//!
//! Tables come from a [`Pool`] of zeroed pages that belongs to the space, and return to it only when the space is torn down: an
//! emptied table stays in its place, so no processor can hold a stale pointer to a table that has become another.

mod format;
mod pool;

use crate::phys::{HostPhysical, PageWords, Ref, zero_page};
use crate::{Progress, elementary_step};
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

/// Sizes of pages.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum PageSize {
    /// 4 KiB.
    Small,
    /// 2 MiB.
    Large,
    /// 1 GiB.
    Huge,
}

impl PageSize {
    /// Level of the table that holds leaves of this size, 0 for the lowest.
    const fn level(self) -> u32 {
        match self {
            Self::Small => 0,
            Self::Large => 1,
            Self::Huge => 2,
        }
    }
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
pub struct PageTable<F: Format> {
    root: HostPhysical,
    format: PhantomData<F>,
}

impl<F: Format> Clone for PageTable<F> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<F: Format> Copy for PageTable<F> {}

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
    pub const fn new(address: u64, physical: HostPhysical, length: u64) -> Result<Self, Error> {
        if !address.is_multiple_of(PAGE_SIZE)
            || !physical.0.is_multiple_of(PAGE_SIZE)
            || !length.is_multiple_of(PAGE_SIZE)
            || length == 0
        {
            return Err(Error::Misaligned);
        }
        let Some(last) = address.checked_add(length - 1) else {
            return Err(Error::OutOfRange);
        };
        let half = address >> 47;
        if half != last >> 47 || !(half == 0 || half == 0x1_ffff) {
            return Err(Error::OutOfRange);
        }
        match physical.0.checked_add(length - 1) {
            Some(last) if last <= (ADDRESS | (PAGE_SIZE - 1)) => Ok(Self { address, physical, length }),
            _ => Err(Error::OutOfRange),
        }
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
        if !attributes.rights.intersects(Rights::READ | Rights::WRITE | Rights::EXECUTE) {
            return Err(Error::BadArgument);
        }
        for _ in 0..LEAVES_PER_STEP {
            let offset = done.get();
            if offset >= mapping.length {
                return Ok(Progress::Done);
            }
            let address = mapping.address.wrapping_add(offset);
            let physical = HostPhysical(mapping.physical.0.wrapping_add(offset));
            let size = self.map_leaf(address, physical, mapping.length - offset, attributes, pool, largest)?;
            done.set(offset.saturating_add(size));
        }
        Ok(if done.get() >= mapping.length { Progress::Done } else { Progress::Again })
    }

    /// Maps one leaf, as large as possible, and answers its size.
    fn map_leaf(
        self,
        address: u64,
        physical: HostPhysical,
        rest: u64,
        attributes: Attributes,
        pool: &Pool,
        largest: PageSize,
    ) -> Result<u64, Error> {
        let mut table = self.root.page_words();
        for level in [3, 2, 1, 0] {
            let index = index(address, level);
            let old = entry(table, index);
            let fits =
                level <= largest.level() && rest >= span(level) && (address | physical.0).is_multiple_of(span(level));
            if F::is_present(old) {
                if level == 0 || old & LARGE != 0 {
                    return Err(Error::AlreadyMapped);
                }
                // A table that is there stays: smaller pages are put into it.
                table = HostPhysical(old & ADDRESS).page_words();
            } else if fits {
                set_entry(table, index, F::leaf(physical, level, attributes));
                return Ok(span(level));
            } else {
                let page = pool.take().ok_or(Error::PoolExhausted)?;
                set_entry(table, index, F::table(page));
                table = page.page_words();
            }
        }
        // A small page always fits at level 0.
        Err(Error::Misaligned)
    }

    /// Maps all at once, or nothing. For the boot and for short ranges: not preemptible.
    pub fn map(self, mapping: &Mapping, attributes: Attributes, pool: &Pool, largest: PageSize) -> Result<(), Error> {
        let done = Cell::new(0);
        loop {
            match self.map_step(mapping, attributes, pool, largest, &done) {
                Ok(Progress::Done) => return Ok(()),
                Ok(Progress::Again) => {}
                Err(error) => {
                    while self.unmap_step(mapping.address, &done) == Progress::Again {}
                    return Err(error);
                }
            }
        }
    }

    /// Unmaps from the end of the `done` bytes that are mapped from `address` on, at most [`LEAVES_PER_STEP`] entries, and counts
    /// `done` down to 0. The range must be what one mapping made, or the first part of it: pages are never split. What is not
    /// mapped is passed over. The caller invalidates the range between the old and the new `done`.
    pub fn unmap_step(self, address: u64, done: &Cell<u64>) -> Progress {
        for _ in 0..LEAVES_PER_STEP {
            let Some(last) = done.get().checked_sub(1) else {
                return Progress::Done;
            };
            let at = address.wrapping_add(last);
            let mut table = self.root.page_words();
            let mut level = 3;
            let covered = loop {
                let index = index(at, level);
                let old = entry(table, index);
                if !F::is_present(old) {
                    break span(level);
                }
                if level == 0 || old & LARGE != 0 {
                    set_entry(table, index, 0);
                    break span(level);
                }
                table = HostPhysical(old & ADDRESS).page_words();
                level -= 1;
            };
            // Down to the beginning of what the entry covers.
            done.set((at & !(covered - 1)).saturating_sub(address));
        }
        if done.get() == 0 { Progress::Done } else { Progress::Again }
    }

    /// What an address translates to.
    pub fn translate(self, address: u64) -> Option<Translation> {
        let mut table = self.root.page_words();
        for (level, size) in
            [(3, None), (2, Some(PageSize::Huge)), (1, Some(PageSize::Large)), (0, Some(PageSize::Small))]
        {
            let entry = entry(table, index(address, level));
            if !F::is_present(entry) {
                return None;
            }
            if let Some(size) = size
                && (level == 0 || entry & LARGE != 0)
            {
                let offset = span(level) - 1;
                return Some(Translation {
                    physical: HostPhysical((entry & ADDRESS & !offset) | (address & offset)),
                    attributes: F::attributes(entry),
                    size,
                });
            }
            table = HostPhysical(entry & ADDRESS).page_words();
        }
        None
    }

    /// Returns one table to the pool, zeroed, the lowest first, with everything that it maps; `Done` when only the root is left
    /// and its part of the space is empty. No processor may use the tables any more.
    pub fn destroy_step(self, pool: &Pool) -> Progress {
        let mut table = self.root.page_words();
        let mut entries = F::ROOT_ENTRIES;
        let mut link: Option<(Ref<PageWords>, u64)> = None;
        for level in [3u32, 2, 1, 0] {
            let lower = (0..entries).find(|&index| {
                let entry = entry(table, index);
                level > 0 && F::is_present(entry) && entry & LARGE == 0
            });
            match lower {
                Some(index) => {
                    link = Some((table, index));
                    table = HostPhysical(entry(table, index) & ADDRESS).page_words();
                    entries = ENTRIES;
                }
                None => break,
            }
        }
        match link {
            None => Progress::Done,
            Some((upper, index)) => {
                set_entry(upper, index, 0);
                let page = table.physical();
                zero_page(page);
                pool.give(page);
                Progress::Again
            }
        }
    }
}

/// The index of an address in a table of a level.
const fn index(address: u64, level: u32) -> u64 {
    (address >> (12 + 9 * level)) % ENTRIES
}

#[inline(always)]
fn entry(table: Ref<PageWords>, index: u64) -> u64 {
    elementary_step();
    table.get((index % ENTRIES) as usize).map_or(0, Cell::get)
}

#[inline(always)]
fn set_entry(table: Ref<PageWords>, index: u64, value: u64) {
    elementary_step();
    if let Some(word) = table.get((index % ENTRIES) as usize) {
        word.set(value);
    }
}
