//! Shadow tables as a cache: found by the guest table that they were made from, linked, and replaced.

use super::fault::Step;
use super::mode::{ACCESSED, ADDRESS, Allows, Layout, PRESENT, USER, WRITE};
use super::synchronise::is_valid;
use super::table::{Role, TABLE_BYTES, Table, table};
use super::{Machine, Processor, Shadow, WorkingSet};
use crate::phys::{HostPhysical, Ref};
use bulkhead_abi::{PAGE_SIZE, ShadowCounter};
use core::iter::successors;

/// With this bit, the guest-physical address of upper entries that are not read from memory at each walk stands for a frame.
pub(super) const NO_FRAME: u64 = 1 << 63;

/// What is known about so many tables is in one page.
pub(super) const TABLES_PER_PAGE: u64 = PAGE_SIZE / TABLE_BYTES;
/// Most pages that a new table takes.
const PAGES_OF_TABLE: u64 = 4;

/// The tables of a processor.
pub(super) fn own_tables(set: Ref<WorkingSet>) -> impl Iterator<Item = Ref<Table>> {
    successors(table(set.last.get()), |one| table(one.earlier.get()))
}

impl Shadow {
    /// The shadow tables of a guest table.
    pub(super) fn tables_of(&self, frame: u64) -> impl Iterator<Item = Ref<Table>> {
        self.tables_like(frame).filter(move |one| one.frame.get() == frame)
    }

    /// The shadow tables of guest tables with the same hash.
    fn tables_like(&self, frame: u64) -> impl Iterator<Item = Ref<Table>> {
        successors(table(self.heads.get(self.heads.table_place(frame))), |one| table(one.next_same.get()))
    }

    /// Whether a page is a guest table with shadow tables.
    pub(super) fn is_tracked(&self, frame: u64) -> bool {
        self.tables_of(frame).next().is_some()
    }

    fn enter(&self, table: Ref<Table>, frame: u64) {
        table.frame.set(frame);
        let place = self.heads.table_place(frame);
        table.next_same.set(self.heads.get(place));
        self.heads.set(place, table.id());
    }

    fn withdraw(&self, gone: Ref<Table>) {
        let frame = gone.frame.replace(0);
        if frame == 0 {
            return;
        }
        match self.tables_like(frame).take_while(|one| *one != gone).last() {
            Some(one) => one.next_same.set(gone.next_same.get()),
            None => self.heads.set(self.heads.table_place(frame), gone.next_same.get()),
        }
    }
}

impl<M: Machine> Processor<'_, M> {
    /// The shadow table of this role for a guest table, or for a part of a large page if `frame` is 0; a new one if need be.
    /// Nothing if tables have changed, so that the walk has to begin again: all have been compared with the guest's, or, if the
    /// memory is used up by the space itself, emptied.
    fn obtain(&self, frame: u64, role: Role, layout: Layout) -> Option<Ref<Table>> {
        // A part of a large page has no frame, and is nobody else's.
        let found = if frame == 0 { None } else { self.shadow.tables_of(frame).find(|one| one.role() == role) };
        if found.is_some() && self.set.invalidated.get() {
            // INVLPG has looked at entries that were in use. Entries of this table, or below it, may be such as it should have
            // removed, at an address for which the guest had other tables meanwhile.
            self.renew();
            return None;
        }
        if found.is_some() {
            return found;
        }
        let Some(table) = self.fresh().or_else(|| self.evict()) else {
            self.empty();
            return None;
        };
        table.role.set(role);
        table.layout.set(layout);
        if frame != 0 {
            let was_tracked = self.shadow.is_tracked(frame);
            self.shadow.enter(table, frame);
            if !was_tracked {
                self.track(frame);
            }
        }
        Some(table)
    }

    /// A table that has never been used.
    fn fresh(&self) -> Option<Ref<Table>> {
        let WorkingSet { last, made, quota, .. } = &*self.set;
        let pool = self.machine.pool();
        if made.get() >= quota.get() || pool.count() < PAGES_OF_TABLE {
            return None;
        }
        let after = last.get() + TABLE_BYTES;
        let place = if made.get().is_multiple_of(TABLES_PER_PAGE) { pool.take()? } else { HostPhysical(after) };
        let table = place.shadow_table();
        table.earlier.set(last.replace(place.0));
        made.set(made.get() + 1);
        for page in [&table.entries_page, &table.sources_page, &table.links_page] {
            page.set(pool.take()?);
        }
        Some(table)
    }

    /// Empties the table that has not been needed for longest.
    fn evict(&self) -> Option<Ref<Table>> {
        let table = self.set.oldest_idle()?;
        self.set.count(ShadowCounter::Evictions);
        self.set.forget_roots();
        // What only it pointed to goes next.
        table.each_live(|index| self.remove(table, index, false));
        self.set.remove_idle(table);
        self.shadow.withdraw(table);
        Some(table)
    }

    /// The table below an entry that is made from what the guest has now, if it is linked.
    pub(super) fn linked(&self, upper: Ref<Table>, index: u64, source: u64) -> Option<Ref<Table>> {
        upper.below(index).filter(|_| is_valid(upper.source(index), source))
    }

    /// The table below an entry, for a guest table or for a part of a large page; made and linked if need be.
    pub(super) fn below(&self, upper: Ref<Table>, index: u64, source: u64, next: &Step) -> Option<Ref<Table>> {
        let linked = self.linked(upper, index, source);
        if linked.is_some() {
            upper.set_source(index, source);
            return linked;
        }
        self.remove(upper, index, true);
        let table = self.obtain(next.frame, next.role, next.layout)?;
        self.set.remove_idle(table);
        table.references.set(table.references.get() + 1);
        upper.set_source(index, source);
        upper.set_link(index, table.id());
        upper.swap(index, table.entries_page.get().0 | PRESENT | WRITE | USER | ACCESSED);
        Some(table)
    }

    /// Takes an entry out of a table of this processor, if it is there. A table that loses its last reference waits to be
    /// needed again, as the first or the last to be emptied.
    pub(super) fn remove(&self, table: Ref<Table>, index: u64, keep: bool) {
        let below = table.below(index);
        let entry = table.swap(index, 0);
        if entry & PRESENT == 0 {
            return;
        }
        self.set.flush.set(true);
        match below {
            Some(below) => {
                self.set.way.forget();
                let references = below.references.get().saturating_sub(1);
                below.references.set(references);
                if references == 0 {
                    self.set.add_idle(below, keep && below.frame.get() != 0);
                }
            }
            None => self.shadow.unmapped(table, index, entry),
        }
    }

    /// Takes all entries out of the processor's tables.
    pub(super) fn empty(&self) {
        for table in own_tables(self.set) {
            table.each_live(|index| self.remove(table, index, true));
        }
        self.set.flush.set(true);
    }

    fn take_root(&self, root: Ref<Table>) {
        root.used.set(true);
        self.set.root.set(root.id());
    }

    /// Makes the space that CR3 names the one in use.
    pub(super) fn activate(&self) {
        // Any table may go for it.
        self.set.root.set(0);
        self.set.way.forget();
        match self.set.root_of(self.paging.get().root()) {
            Some(root) => self.take_root(root),
            None => self.find_root(),
        }
    }

    #[inline(never)]
    fn find_root(&self) {
        let paging = &self.paging.get();
        let top = paging.top();
        let latched = paging.mode.is_latched(top);
        let part = if latched { paging.root() >> 5 & 0x7f } else { 0 };
        let found =
            if latched { Some((paging.root() & ADDRESS | NO_FRAME, false)) } else { self.table_frame(paging.root()) };
        let Some((frame, writable)) = found else { return };
        let role = Role::new(self.number, top, part, Allows::all(), paging).writable(writable);
        let Some(root) = self.obtain(frame, role, paging.mode.layout(top, part)) else { return };
        if !root.idle.get() {
            self.set.add_idle(root, true);
        }
        self.set.remember_root(paging.root(), root);
        self.take_root(root);
        if latched {
            root.each_live(|index| {
                if paging.latched(top, index) != Some(root.source(index)) {
                    self.remove(root, index, true);
                }
            });
        }
    }
}
