//! The active entry list, and the reverse map by which the entries for it are found: from a page of the host's memory to the
//! shadow entries that map it writable.

use super::cache::place;
use super::mode::{ACCESSED, ADDRESS, DIRTY, WRITE};
use super::record::Changed;
use super::table::{ENTRIES, EntryId, LARGE_BYTES, LISTED, Table};
use super::{Machine, Shadow, Work};
use crate::phys::Ref;
use bulkhead_abi::PAGE_SIZE;

impl Shadow {
    /// The place in the reverse map for the pages of an entry.
    fn mapping_place(&self, first: u64, pages: u64) -> u64 {
        place(&self.mappings, first | u64::from(pages > 1))
    }

    /// Enters an entry that maps a page writable.
    pub(super) fn mapped(&self, table: Ref<Table>, index: u64, entry: u64) {
        let (first, pages) = table.pages(entry);
        let place = self.mapping_place(first, pages);
        table.set_link(index, self.mappings.get(place) as EntryId);
        self.mappings.set(place, u64::from(table.entry_id(index)));
        if pages == 1 && self.is_tracked(first) {
            self.list(table, index);
        }
    }

    /// An entry that mapped a page is gone: what it says about its page's changes is noted.
    pub(super) fn unmapped(&self, table: Ref<Table>, index: u64, entry: u64) {
        if entry & WRITE == 0 {
            return;
        }
        let (first, pages) = table.pages(entry);
        let place = self.mapping_place(first, pages);
        let (gone, rest) = (table.entry_id(index), table.link(index));
        let mut id = self.mappings.get(place) as EntryId;
        if id == gone {
            self.mappings.set(place, u64::from(rest));
        } else {
            while let Some((one, index)) = self.entry(id) {
                id = one.link(index);
                if id == gone {
                    one.set_link(index, rest);
                    break;
                }
            }
        }
        if entry & LISTED != 0 && entry & DIRTY != 0 {
            self.changed(first, pages, None);
        }
    }

    /// Puts an entry into its processor's list.
    fn list(&self, table: Ref<Table>, index: u64) {
        if table.entry(index) & LISTED != 0 {
            return;
        }
        table.set_listed(index, true);
        if let Some(owner) = self.processor(table.role.get().processor()) {
            owner.push_listed(table.entry_id(index));
        }
    }

    /// Marks the tables made from these pages as stale: those of one processor, or all.
    fn changed(&self, first: u64, pages: u64, only: Option<u32>) {
        if pages > 1 && !self.is_region_tracked(first) {
            return;
        }
        for page in 0..pages {
            self.each_of(first + page * PAGE_SIZE, |table| self.mark_stale(table, only));
        }
    }

    fn mark_stale(&self, table: Ref<Table>, only: Option<u32>) {
        let number = table.role.get().processor();
        if only.is_none_or(|only| only == number)
            && let Some(processor) = self.processor(number)
        {
            processor.push_stale(table);
        }
    }
}

impl<M: Machine> Work<'_, M> {
    /// A page has become a guest table with a shadow: entries that map it writable are listed. A large page of this processor's
    /// that contains it goes instead, so that its parts can be told apart; another processor's goes at its next flush.
    pub(super) fn track(&self, frame: u64) {
        self.each_mapping(frame, 1, |table, index| self.shadow.list(table, index));
        self.each_mapping(frame & !(LARGE_BYTES - 1), ENTRIES, |table, index| {
            if table.role.get().processor() == self.number {
                // If other processors had guest tables there already it was listed, and what it says is noted.
                self.remove(table, index, true);
            } else {
                self.shadow.list(table, index);
            }
        });
    }

    /// Calls the function for the entries that map these pages writable.
    fn each_mapping(&self, first: u64, pages: u64, visit: impl Fn(Ref<Table>, u64)) {
        let mut id = self.shadow.mappings.get(self.shadow.mapping_place(first, pages)) as EntryId;
        while let Some((table, index)) = self.shadow.entry(id) {
            id = table.link(index);
            if table.pages(table.entry(index)) == (first, pages) {
                visit(table, index);
            }
        }
    }

    /// Learns from the list which guest tables may have changed. The processor's TLB must be flushed afterwards.
    pub(super) fn harvest(&self) {
        for (number, owner) in (0..).zip(&self.shadow.processors) {
            let Some(owner) = owner.get() else {
                continue;
            };
            if number == self.number {
                self.harvest_own();
                continue;
            }
            if owner.overflow.get() {
                self.each_own(|table| self.processor.push_stale(table));
            }
            for place in 0..owner.listed.get() {
                if let Some((table, index)) = self.shadow.entry(owner.listed(place))
                    && table.entry(index) & LISTED != 0
                    && table.learn(index, false) == Changed::This
                {
                    let (first, pages) = table.pages(table.entry(index));
                    self.shadow.changed(first, pages, Some(self.number));
                }
            }
        }
    }

    fn harvest_own(&self) {
        let owner = self.processor;
        if owner.overflow.take() {
            self.forget();
        }
        for place in (0..owner.listed.get()).rev() {
            let keep = self.shadow.entry(owner.listed(place)).is_some_and(|(table, index)| self.retain(table, index));
            if !keep {
                owner.remove_listed(place);
            }
        }
        owner.flush.set(true);
    }

    /// Takes the dirty and accessed bits of an entry of this processor's list. False if it is not to stay there.
    fn retain(&self, table: Ref<Table>, index: u64) -> bool {
        let entry = table.entry(index);
        if entry & LISTED == 0 {
            return false;
        }
        if table.level() > 0 || entry & ACCESSED == 0 {
            self.remove(table, index, true);
            return false;
        }
        let frame = entry & ADDRESS;
        if !self.shadow.is_tracked(frame) {
            table.set_listed(index, false);
            return false;
        }
        if table.learn(index, true) == Changed::Everybodys {
            self.shadow.changed(frame, 1, None);
        }
        true
    }
}
