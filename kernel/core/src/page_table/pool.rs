//! The memory that a space's page tables are made of.

use crate::phys::HostPhysical;
use core::cell::Cell;

/// A stack of zeroed pages, linked through their first words. Zero: empty.
#[derive(Default)]
#[repr(C)]
pub struct Pool {
    first: Cell<u64>,
    count: Cell<u64>,
}

impl Pool {
    /// Adds a page, which must be the kernel's and zero.
    pub fn give(&self, page: HostPhysical) {
        page.page_words().set_word(0, self.first.get());
        self.first.set(page.0);
        self.count.set(self.count.get().wrapping_add(1));
    }

    /// Takes a page, all zero.
    pub fn take(&self) -> Option<HostPhysical> {
        let rest = self.count.get().checked_sub(1)?;
        let page = HostPhysical(self.first.get());
        let words = page.page_words();
        self.first.set(words.word(0));
        words.set_word(0, 0);
        self.count.set(rest);
        Some(page)
    }

    /// Number of pages.
    pub fn count(&self) -> u64 {
        self.count.get()
    }
}
