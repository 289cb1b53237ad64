//! What the engine keeps for each of the guest's processors.

use super::Table;
use super::table::{EntryId, TableId, table};
use super::way::Way;
use crate::phys::{HostPhysical, Ref};
use bulkhead_abi::ShadowCounter;
use core::cell::Cell;

/// Most entries that the active entry list holds for a processor. Few in the tests, so that there are often too many.
const MOST_LISTED: usize = if cfg!(test) { 6 } else { 420 };

/// How many roots are found at once.
const ROOTS: usize = 16;

/// The working set of shadow tables of one processor. One page.
#[repr(C)]
pub struct WorkingSet {
    /// The root of the space that is in use; 0 if its guest table is not memory.
    pub(super) root: Cell<TableId>,
    /// A page without entries, for the hardware when there is no root.
    pub(super) empty_page: Cell<HostPhysical>,
    /// The processor's tables: the one made last, how many have been made, how many there may be.
    pub(super) last: Cell<TableId>,
    pub(super) made: Cell<u64>,
    pub(super) quota: Cell<u64>,
    /// The tables without references: roots of the kept spaces, and what nobody needs.
    oldest: Cell<TableId>,
    newest: Cell<TableId>,
    /// The tables whose guest table may have changed.
    first_stale: Cell<TableId>,
    /// Roots by what CR3 said of them, in the paging mode that the processor is in.
    roots: [Cell<(u64, TableId)>; ROOTS],
    /// The way to the table that was used last.
    pub(super) way: Way,
    /// The hardware may hold translations that the tables no longer have.
    pub(super) flush: Cell<bool>,
    /// There was an INVLPG since all tables were compared with the guest's.
    pub(super) invalidated: Cell<bool>,
    /// The list was full: until the next flush, this processor may have changed any guest table.
    pub(super) overflow: Cell<bool>,
    /// Entries of this processor that map guest tables writable.
    pub(super) listed: Cell<u32>,
    /// By [`ShadowCounter`].
    pub(super) counters: [Cell<u64>; 6],
    list: [Cell<EntryId>; MOST_LISTED],
}

const _: () = assert!(size_of::<WorkingSet>() <= 4096);

impl WorkingSet {
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
            table.next_stale.set(self.first_stale.replace(table.id()));
        }
    }

    /// Takes a table whose guest table may have changed.
    pub(super) fn pop_stale(&self) -> Option<Ref<Table>> {
        let table = table(self.first_stale.get())?;
        self.first_stale.set(table.next_stale.get());
        table.stale.set(false);
        Some(table)
    }

    /// The root that was in use for this address in CR3.
    pub(super) fn root_of(&self, address: u64) -> Option<Ref<Table>> {
        let (known, root) = self.roots.get((address >> 12) as usize % ROOTS)?.get();
        if known == address | 1 { table(root) } else { None }
    }

    /// Notes the root that is in use for this address in CR3.
    pub(super) fn remember_root(&self, address: u64, root: Ref<Table>) {
        if let Some(place) = self.roots.get((address >> 12) as usize % ROOTS) {
            place.set((address | 1, root.id()));
        }
    }

    /// Forgets which roots are in use for which addresses.
    pub(super) fn forget_roots(&self) {
        self.roots.iter().for_each(|place| place.set((0, 0)));
    }

    /// A table without references, other than the root in use: the least recently used one, but for roots that have been in use
    /// since they were looked at last.
    pub(super) fn oldest_idle(&self) -> Option<Ref<Table>> {
        loop {
            let oldest = table(self.oldest.get())?;
            let in_use = oldest.id() == self.root.get();
            if in_use && oldest.newer.get() == 0 {
                return None;
            }
            if !in_use && !oldest.used.take() {
                return Some(oldest);
            }
            self.add_idle(oldest, true);
        }
    }

    /// Puts a table that has no references into their list, as the one used last or first.
    pub(super) fn add_idle(&self, idle: Ref<Table>, last: bool) {
        self.remove_idle(idle);
        idle.idle.set(true);
        let id = idle.id();
        let (older, newer) = if last { (self.newest.get(), 0) } else { (0, self.oldest.get()) };
        idle.older.set(older);
        idle.newer.set(newer);
        self.set_newer(older, id);
        self.set_older(newer, id);
    }

    /// Takes a table out of the list of those without references, if it is there.
    pub(super) fn remove_idle(&self, idle: Ref<Table>) {
        if idle.idle.replace(false) {
            let (older, newer) = (idle.older.get(), idle.newer.get());
            self.set_newer(older, newer);
            self.set_older(newer, older);
        }
    }

    /// What comes after a table of the list, or first.
    fn set_newer(&self, id: TableId, newer: TableId) {
        table(id).as_deref().map_or(&self.oldest, |table| &table.newer).set(newer);
    }

    /// What comes before a table of the list, or last.
    fn set_older(&self, id: TableId, older: TableId) {
        table(id).as_deref().map_or(&self.newest, |table| &table.older).set(older);
    }
}
