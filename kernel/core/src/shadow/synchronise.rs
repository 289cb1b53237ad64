//! Shadow tables are compared with the guest's.

use super::cache::NO_FRAME;
use super::mode::{DIRTY, Mode, index};
use super::table::{Table, table};
use super::{Machine, Processor};
use crate::phys::Ref;
use bulkhead_abi::ShadowCounter;

/// Whether a shadow entry made from `source` may stay now that the guest's entry is `now`. A dirty bit that was set since then
/// changes nothing: the shadow entry allows no writes yet.
pub(super) fn is_valid(source: u64, now: u64) -> bool {
    let difference = source ^ now;
    difference & !DIRTY == 0 && source & difference == 0
}

impl<M: Machine> Processor<'_, M> {
    /// What the guest's table has now for an entry of a shadow table. Not for upper entries that are not read from memory, or for
    /// parts of large pages.
    pub(super) fn guest_entry(&self, table: &Table, index: u64) -> u64 {
        let (at, width) = table.guest_place(index);
        self.machine.read(at, width)
    }

    /// Compares the tables that are marked as stale with the guest's, and removes what is different.
    pub(super) fn synchronise(&self) {
        while let Some(table) = self.set.pop_stale() {
            if table.frame.get() == 0 || table.frame.get() & NO_FRAME != 0 {
                continue;
            }
            if table.references.get() == 0 && table.level() < self.paging.get().top() {
                // It is no space's, and may never be needed again.
                table.each_live(|index| self.remove(table, index, false));
                continue;
            }
            self.set.count(ShadowCounter::Synchronised);
            table.each_live(|index| {
                self.compare_entry(table, index);
            });
        }
    }

    /// Compares the entries for one address, and replaces the first that is different. False if one was above the lowest level.
    pub(super) fn compare(&self, linear: u64) -> bool {
        let mode = self.paging.get().mode;
        if mode != Mode::TwoLevel
            && let Some(table) = self.current_table(linear)
        {
            self.compare_last(table, index(0, linear));
            return true;
        }
        let mut at = table(self.set.root.get());
        let mut same = true;
        // A part of a large page is as valid as the entry above it.
        while let Some(table) = at.filter(|table| table.frame.get() != 0) {
            let level = table.level();
            let index = index(level, linear);
            if mode == Mode::TwoLevel && level == 1 {
                // The other half of 4 MiB.
                same &= self.compare_entry(table, index ^ 1);
            }
            if level == 0 {
                self.compare_last(table, index);
            } else if !mode.is_latched(level) {
                same &= self.compare_entry(table, index);
            }
            at = table.below(index);
        }
        same
    }

    /// Compares an entry for a page, and replaces it if the guest has used what it has now.
    pub(super) fn compare_last(&self, table: Ref<Table>, index: u64) {
        if !self.compare_entry(table, index) {
            self.map_used(table, index);
        }
    }

    fn compare_entry(&self, table: Ref<Table>, index: u64) -> bool {
        let same = is_valid(table.source(index), self.guest_entry(&table, index));
        if !same {
            self.remove(table, index, true);
        }
        same
    }
}
