//! The heads of hash chains: the first entry for pages that are mapped writable, the first shadow table for guest tables.

use crate::Progress;
use crate::page_table::Pool;
use crate::phys::{HostPhysical, zero_page};
use bulkhead_abi::PAGE_SIZE;
use core::cell::Cell;

const PER_PAGE: u64 = PAGE_SIZE / 8;

/// The heads, all zero at first: those of mappings, a power of two, and behind them those of tables, an eighth as many. They are in
/// pages of a pool that a page of addresses names. Zero: none.
#[derive(Default)]
#[repr(C)]
pub(super) struct Heads {
    root: Cell<u64>,
    mappings: Cell<u64>,
}

impl Heads {
    /// Most heads of mappings.
    pub const MOST: u64 = PER_PAGE * PER_PAGE / 2;

    /// Takes the pages from the pool. Nothing if it has too few; what was taken is kept.
    pub fn build(&self, mappings: u64, pool: &Pool) -> Option<()> {
        let root = pool.take()?;
        self.root.set(root.0);
        self.mappings.set(mappings);
        let pages = (mappings + mappings / 8).div_ceil(PER_PAGE);
        root.page_words().iter().zip(0..pages).try_for_each(|(word, _)| pool.take().map(|page| word.set(page.0)))
    }

    /// Whether there are any.
    pub fn is_built(&self) -> bool {
        self.root.get() != 0
    }

    /// The place for pages that are mapped: the address of one, or of a large one with bit 0 set.
    pub fn mapping_place(&self, page: u64) -> u64 {
        // Fibonacci hashing.
        page.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40 & self.mappings.get().wrapping_sub(1)
    }

    /// The place for a guest table.
    pub fn table_place(&self, frame: u64) -> u64 {
        self.mappings.get() + self.mapping_place(frame) / 8
    }

    /// The head at a place; 0 where there is none.
    pub fn get(&self, place: u64) -> u64 {
        self.with(place, Cell::get).unwrap_or(0)
    }

    /// Sets a head.
    pub fn set(&self, place: u64, value: u64) {
        let _ = self.with(place, |word| word.set(value));
    }

    fn with<R>(&self, place: u64, use_it: impl FnOnce(&Cell<u64>) -> R) -> Option<R> {
        let root = HostPhysical(self.root.get()).page_words();
        let page = HostPhysical(root.get((place / PER_PAGE) as usize)?.get()).page_words();
        page.get((place % PER_PAGE) as usize).map(use_it)
    }

    /// Gives a page back to the pool; `Done` when there is none.
    pub fn destroy_step(&self, pool: &Pool) -> Progress {
        let root = HostPhysical(self.root.get());
        if root.0 == 0 {
            return Progress::Done;
        }
        match root.page_words().iter().find(|word| word.get() != 0) {
            Some(word) => give_back(HostPhysical(word.take()), pool),
            None => give_back(HostPhysical(self.root.take()), pool),
        }
        Progress::Again
    }
}

/// Gives a page back to the pool.
pub(super) fn give_back(page: HostPhysical, pool: &Pool) {
    zero_page(page);
    pool.give(page);
}
