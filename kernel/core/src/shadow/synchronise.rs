//! Shadow tables are compared with the guest's.

use super::mode::{DIRTY, Mode};
use super::table::Table;
use super::{Machine, Work};
use crate::phys::{HostPhysical, Ref};
use bulkhead_abi::ShadowCounter;

/// Whether a shadow entry made from `source` may stay now that the guest's entry is `now`. A dirty bit that was set since then
/// changes nothing: the shadow entry allows no writes yet.
pub(super) fn is_valid(source: u64, now: u64) -> bool {
    let difference = source ^ now;
    difference & !DIRTY == 0 && source & difference == 0
}

impl<M: Machine> Work<'_, M> {
    /// What the guest's table has now for an entry of a shadow table, and where. Not for upper entries that are not read from
    /// memory, or for parts of large pages.
    #[inline(always)]
    pub(super) fn guest_entry(&self, table: &Table, index: u64) -> (u64, HostPhysical) {
        let role = table.role.get();
        let at = HostPhysical(table.frame.get() + role.mode().offset(role.level(), role.part(), index));
        (self.machine.read(at, role.mode().width()), at)
    }

    /// Compares the tables that are marked as stale with the guest's, and removes what is different.
    pub(super) fn synchronise(&self) {
        while let Some(table) = self.processor.pop_stale(self.shadow) {
            let role = table.role.get();
            if table.frame.get() == 0 || role.mode().is_latched(role.level()) {
                continue;
            }
            if table.references.get() == 0 && role.level() < self.paging.top() {
                // It is no space's, and may never be needed again.
                table.each_live(|index| self.remove(table, index, false));
                continue;
            }
            self.processor.count(ShadowCounter::Synchronised);
            table.each_live(|index| self.compare_entry(table, index));
        }
    }

    /// Compares the entries for one address, and removes the first that is different.
    pub(super) fn compare(&self, linear: u64) {
        let mode = self.paging.mode;
        let mut at = self.shadow.table(self.processor.root.get());
        // A part of a large page is as valid as the entry above it.
        while let Some(table) = at.filter(|table| table.frame.get() != 0) {
            let level = table.level();
            let index = super::mode::index(level, linear);
            if !mode.is_latched(level) {
                self.compare_entry(table, index);
                if mode == Mode::TwoLevel && level == 1 {
                    // The other half of 4 MiB.
                    self.compare_entry(table, index ^ 1);
                }
            }
            at = self.shadow.table(table.below(index));
        }
    }

    fn compare_entry(&self, table: Ref<Table>, index: u64) {
        if !is_valid(table.source(index), self.guest_entry(&table, index).0) {
            self.remove(table, index, true);
        }
    }
}
