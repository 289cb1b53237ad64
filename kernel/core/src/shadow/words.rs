//! Arrays of words in scattered pages.

use crate::Progress;
use crate::page_table::Pool;
use crate::phys::{HostPhysical, zero_page};
use bulkhead_abi::PAGE_SIZE;
use core::cell::Cell;

const PER_PAGE: u64 = PAGE_SIZE / 8;

/// An array of words, all zero at first, in pages of a pool that a page of addresses names. Zero: empty.
#[derive(Default)]
#[repr(C)]
pub(super) struct Words {
    root: Cell<u64>,
    length: Cell<u64>,
}

impl Words {
    /// Most words of an array.
    pub const MOST: u64 = PER_PAGE * PER_PAGE;

    /// Takes the pages of an empty array from the pool. False if it has too few; what was taken is kept.
    pub fn build(&self, length: u64, pool: &Pool) -> bool {
        let Some(root) = pool.take() else {
            return false;
        };
        self.root.set(root.0);
        for word in root.page_words().iter().take(length.div_ceil(PER_PAGE) as usize) {
            let Some(page) = pool.take() else {
                return false;
            };
            word.set(page.0);
        }
        self.length.set(length);
        true
    }

    /// Number of words.
    pub fn length(&self) -> u64 {
        self.length.get()
    }

    /// A word; 0 beyond the end.
    pub fn get(&self, index: u64) -> u64 {
        self.with(index, Cell::get).unwrap_or(0)
    }

    /// Sets a word.
    pub fn set(&self, index: u64, value: u64) {
        let _ = self.with(index, |word| word.set(value));
    }

    fn with<R>(&self, index: u64, use_it: impl FnOnce(&Cell<u64>) -> R) -> Option<R> {
        if index >= self.length.get() {
            return None;
        }
        let root = HostPhysical(self.root.get()).page_words();
        let page = HostPhysical(root.get((index / PER_PAGE) as usize)?.get()).page_words();
        page.get((index % PER_PAGE) as usize).map(use_it)
    }

    /// Gives a page back to the pool; `Done` when the array is empty.
    pub fn destroy_step(&self, pool: &Pool) -> Progress {
        if self.root.get() == 0 {
            return Progress::Done;
        }
        self.length.set(0);
        let root = HostPhysical(self.root.get());
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
