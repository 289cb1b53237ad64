//! What the engine keeps for each of the guest's processors.

use super::mode::Paging;
use super::table::{EntryId, TableId};
use super::{Shadow, Table};
use crate::phys::{HostPhysical, Ref};
use bulkhead_abi::ShadowCounter;
use core::cell::Cell;

/// Most entries that the active entry list holds for a processor. Few in the tests, so that there are often too many.
const MOST_LISTED: usize = if cfg!(test) { 6 } else { 768 };

/// The shadow paging of one processor. One page.
#[repr(C)]
pub struct Processor {
    pub(super) paging: Cell<Paging>,
    /// The root of the space that is in use; 0 if its guest table is not memory.
    pub(super) root: Cell<TableId>,
    /// A page without entries, for the hardware when there is no root.
    pub(super) empty_page: Cell<HostPhysical>,
    /// The processor's tables: number of the first, how many there may be, how many have been made.
    pub(super) first: Cell<TableId>,
    pub(super) quota: Cell<u32>,
    pub(super) made: Cell<u32>,
    /// The tables without references: roots of the kept spaces, and what nobody needs.
    oldest: Cell<TableId>,
    newest: Cell<TableId>,
    /// The tables whose guest table may have changed.
    first_stale: Cell<TableId>,
    /// The hardware may hold translations that the tables no longer have.
    pub(super) flush: Cell<bool>,
    /// There was an INVLPG since all tables were compared with the guest's.
    pub(super) invalidated: Cell<bool>,
    /// The list was full: until the next flush, this processor may have changed any guest table.
    pub(super) overflow: Cell<bool>,
    /// Entries of this processor that map guest tables writable.
    pub(super) listed: Cell<u32>,
    pub(super) counters: [Cell<u64>; 6],
    list: [Cell<EntryId>; MOST_LISTED],
}

const _: () = assert!(size_of::<Processor>() <= 4096);

impl Processor {
    /// Counts something.
    pub(super) fn count(&self, what: ShadowCounter) {
        if let Some(counter) = self.counters.get(what as usize) {
            counter.set(counter.get().wrapping_add(1));
        }
    }

    /// An entry of the list.
    pub(super) fn listed(&self, index: u32) -> EntryId {
        self.list.get(index as usize).map_or(0, Cell::get)
    }

    /// Adds to the list.
    pub(super) fn push_listed(&self, entry: EntryId) {
        let count = self.listed.get();
        match self.list.get(count as usize) {
            Some(place) => {
                place.set(entry);
                self.listed.set(count + 1);
                if let Some(longest) = self.counters.get(ShadowCounter::LongestList as usize) {
                    longest.set(longest.get().max(u64::from(count) + 1));
                }
            }
            None => self.overflow.set(true),
        }
    }

    /// Takes an entry out of the list; the last one takes its place.
    pub(super) fn remove_listed(&self, index: u32) {
        let last = self.listed.get().saturating_sub(1);
        if let Some(place) = self.list.get(index as usize) {
            place.set(self.listed(last));
        }
        self.listed.set(last);
    }

    /// Notes that a table's guest table may have changed.
    pub(super) fn push_stale(&self, table: Ref<Table>) {
        if !table.stale.replace(true) {
            table.next_stale.set(self.first_stale.replace(table.id.get()));
        }
    }

    /// Takes a table whose guest table may have changed.
    pub(super) fn pop_stale(&self, shadow: &Shadow) -> Option<Ref<Table>> {
        let table = shadow.table(self.first_stale.get())?;
        self.first_stale.set(table.next_stale.get());
        table.stale.set(false);
        Some(table)
    }

    /// The least recently used table without references, other than the root in use.
    pub(super) fn oldest_idle(&self, shadow: &Shadow) -> Option<Ref<Table>> {
        let table = shadow.table(self.oldest.get())?;
        if table.id == self.root { shadow.table(table.newer.get()) } else { Some(table) }
    }

    /// Puts a table that has no references into their list, as the one used last or first.
    pub(super) fn add_idle(&self, shadow: &Shadow, table: Ref<Table>, last: bool) {
        self.remove_idle(shadow, table);
        table.idle.set(true);
        let id = table.id.get();
        let (older, newer) = if last { (self.newest.replace(id), 0) } else { (0, self.oldest.replace(id)) };
        table.older.set(older);
        table.newer.set(newer);
        match shadow.table(older) {
            Some(older) => older.newer.set(id),
            None => self.oldest.set(id),
        }
        match shadow.table(newer) {
            Some(newer) => newer.older.set(id),
            None => self.newest.set(id),
        }
    }

    /// Takes a table out of the list of those without references, if it is there.
    pub(super) fn remove_idle(&self, shadow: &Shadow, table: Ref<Table>) {
        if !table.idle.replace(false) {
            return;
        }
        let (older, newer) = (table.older.get(), table.newer.get());
        match shadow.table(older) {
            Some(older) => older.newer.set(newer),
            None => self.oldest.set(newer),
        }
        match shadow.table(newer) {
            Some(newer) => newer.older.set(older),
            None => self.newest.set(older),
        }
    }
}
