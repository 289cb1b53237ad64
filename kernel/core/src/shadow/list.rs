//! The active entry list, and the reverse map by which the entries for it are found: from a page of the host's memory to the
//! shadow entries that map it writable.

use super::cache::own_tables;
use super::mode::{ACCESSED, ADDRESS, DIRTY, WRITE};
use super::record::Changed;
use super::table::{ENTRIES, LARGE_BYTES, LISTED, Table, entry};
use super::{Machine, Processor, Shadow};
use crate::phys::Ref;
use bulkhead_abi::PAGE_SIZE;
use core::cell::Cell;

impl Shadow {
    /// Enters an entry that maps a page writable.
    pub(super) fn mapped(&self, table: Ref<Table>, index: u64, value: u64) {
        let (first, pages) = table.pages(value);
        let place = self.heads.mapping_place(first | u64::from(pages > 1));
        table.set_link(index, self.heads.get(place));
        self.heads.set(place, table.entry_id(index));
        if pages == 1 && self.is_tracked(first) {
            self.list(table, index);
        }
    }

    /// An entry that mapped a page is gone: what it says about its page's changes is noted.
    pub(super) fn unmapped(&self, table: Ref<Table>, index: u64, value: u64) {
        if value & WRITE == 0 {
            return;
        }
        let (first, pages) = table.pages(value);
        let place = self.heads.mapping_place(first | u64::from(pages > 1));
        let (gone, rest) = (table.entry_id(index), table.link(index));
        let mut id = self.heads.get(place);
        if id == gone {
            self.heads.set(place, rest);
        } else {
            while let Some((one, index)) = entry(id) {
                id = one.link(index);
                if id == gone {
                    one.set_link(index, rest);
                    break;
                }
            }
        }
        if value & LISTED != 0 && value & DIRTY != 0 {
            self.changed(first, pages, None);
        }
    }

    /// Puts an entry into its processor's list.
    fn list(&self, table: Ref<Table>, index: u64) {
        if table.entry(index) & LISTED != 0 {
            return;
        }
        table.set_listed(index, true);
        if let Some(owner) = self.set(table.role().processor()) {
            owner.push_listed(table.entry_id(index));
        }
    }

    /// Whether one of these pages is a guest table with shadow tables.
    pub(super) fn is_any_tracked(&self, first: u64, pages: u64) -> bool {
        (0..pages).any(|page| self.is_tracked(first + page * PAGE_SIZE))
    }

    /// Marks the tables made from these pages as stale: those of one processor, or all.
    fn changed(&self, first: u64, pages: u64, only: Option<u32>) {
        for table in (0..pages).flat_map(|page| self.tables_of(first + page * PAGE_SIZE)) {
            let number = table.role().processor();
            if only.is_none_or(|only| only == number)
                && let Some(set) = self.set(number)
            {
                set.push_stale(table);
            }
        }
    }
}

impl<M: Machine> Processor<'_, M> {
    /// A page has become a guest table with a shadow: entries that map it writable are listed. A large page of this processor's
    /// that contains it goes instead, so that its parts can be told apart; another processor's goes at its next flush.
    pub(super) fn track(&self, frame: u64) {
        self.each_mapping(frame, 1, |table, index| self.shadow.list(table, index));
        self.each_mapping(frame & !(LARGE_BYTES - 1), ENTRIES, |table, index| {
            if table.role().processor() == self.number {
                // If other processors had guest tables there already it was listed, and what it says is noted.
                self.remove(table, index, true);
            } else {
                self.shadow.list(table, index);
            }
        });
    }

    /// Calls the function for the entries that map these pages writable.
    fn each_mapping(&self, first: u64, pages: u64, visit: impl Fn(Ref<Table>, u64)) {
        let mut id = self.shadow.heads.get(self.shadow.heads.mapping_place(first | u64::from(pages > 1)));
        while let Some((table, index)) = entry(id) {
            id = table.link(index);
            if table.pages(table.entry(index)) == (first, pages) {
                visit(table, index);
            }
        }
    }

    /// Learns from the list which guest tables may have changed. The processor's TLB must be flushed afterwards.
    pub(super) fn harvest(&self) {
        for (number, owner) in (0..).zip(self.shadow.sets.iter().map_while(Cell::get)) {
            if number == self.number {
                self.harvest_own();
                continue;
            }
            if owner.overflow.get() {
                own_tables(self.set).for_each(|table| self.set.push_stale(table));
            }
            for place in 0..owner.listed.get() {
                if let Some((table, index)) = entry(owner.listed(place))
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
        let owner = self.set;
        if owner.overflow.take() {
            self.empty();
        }
        for place in (0..owner.listed.get()).rev() {
            let keep = entry(owner.listed(place)).is_some_and(|(table, index)| self.retain(table, index));
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
