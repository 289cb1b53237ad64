//! Shadow tables as a cache: found by the guest table that they were made from, linked, and replaced.

use super::mode::{ACCESSED, ADDRESS, Allows, PRESENT, USER, WRITE};
use super::synchronise::is_valid;
use super::table::{LARGE_BYTES, Role, TABLE_BYTES, Table, table};
use super::words::Words;
use super::{Machine, Processor, Shadow, Work, count};
use crate::phys::{HostPhysical, Ref};
use bulkhead_abi::PAGE_SIZE;
use core::iter::successors;

/// With this bit, the guest-physical address of upper entries that are not read from memory at each walk stands for a frame.
const NO_FRAME: u64 = 1 << 63;

/// What is known about so many tables is in one page.
pub(super) const TABLES_PER_PAGE: u64 = PAGE_SIZE / TABLE_BYTES;
/// Most pages that a new table takes.
const PAGES_OF_TABLE: u64 = 4;

/// The place for an address in a hash table.
pub(super) fn place(words: &Words, address: u64) -> u64 {
    // Fibonacci hashing; lengths are powers of two.
    (address.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) & words.length().wrapping_sub(1)
}

/// The tables of a processor.
pub(super) fn own_tables(processor: Ref<Processor>) -> impl Iterator<Item = Ref<Table>> {
    successors(table(processor.last.get()), |one| table(one.earlier.get()))
}

impl Shadow {
    /// The shadow tables of a guest table.
    pub(super) fn tables_of(&self, frame: u64) -> impl Iterator<Item = Ref<Table>> {
        let first = table(self.by_frame.get(place(&self.by_frame, frame)));
        successors(first, |one| table(one.next_same.get())).filter(move |one| one.frame.get() == frame)
    }

    /// Whether a page is a guest table with shadow tables.
    pub(super) fn is_tracked(&self, frame: u64) -> bool {
        self.tables_of(frame).next().is_some()
    }

    /// Whether the large page that contains this address may contain guest tables.
    pub(super) fn is_region_tracked(&self, address: u64) -> bool {
        self.regions.get(place(&self.regions, address / LARGE_BYTES)) != 0
    }

    fn enter(&self, table: Ref<Table>, frame: u64) {
        table.frame.set(frame);
        let bucket = place(&self.by_frame, frame);
        table.next_same.set(self.by_frame.get(bucket));
        self.by_frame.set(bucket, table.id());
        let region = place(&self.regions, frame / LARGE_BYTES);
        self.regions.set(region, self.regions.get(region).wrapping_add(1));
    }

    fn withdraw(&self, gone: Ref<Table>) {
        let frame = gone.frame.replace(0);
        if frame == 0 {
            return;
        }
        let bucket = place(&self.by_frame, frame);
        let (id, rest) = (gone.id(), gone.next_same.get());
        let before = successors(table(self.by_frame.get(bucket)), |one| table(one.next_same.get()));
        match before.take_while(|one| one.id() != id).last() {
            Some(one) => one.next_same.set(rest),
            None => self.by_frame.set(bucket, rest),
        }
        let region = place(&self.regions, frame / LARGE_BYTES);
        self.regions.set(region, self.regions.get(region).wrapping_sub(1));
    }
}

impl<M: Machine> Work<'_, M> {
    /// The shadow table of this role for a guest table, or for a part of a large page if `frame` is 0; a new one if need be.
    /// Nothing if tables have changed, so that the walk has to begin again: all have been compared with the guest's, or, if the
    /// memory is used up by the space itself, emptied.
    fn obtain(&self, frame: u64, role: Role) -> Option<Ref<Table>> {
        // A part of a large page has no frame, and is nobody else's.
        let found = if frame == 0 { None } else { self.shadow.tables_of(frame).find(|one| one.role() == role) };
        if found.is_some() && self.processor.invalidated.get() {
            // INVLPG has looked at entries that were in use. Entries of this table, or below it, may be such as it should have
            // removed, at an address for which the guest had other tables meanwhile.
            self.renew();
            return None;
        }
        if found.is_some() {
            return found;
        }
        let Some(table) = self.fresh().or_else(|| self.evict()) else {
            self.forget();
            return None;
        };
        table.set_role(role);
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
        let Processor { last, made, quota, .. } = &*self.processor;
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
        let table = self.processor.oldest_idle()?;
        count(&self.shadow.counters.evictions);
        self.processor.forget_roots();
        // What only it pointed to goes next.
        table.each_live(|index| self.remove(table, index, false));
        self.processor.remove_idle(table);
        self.shadow.withdraw(table);
        Some(table)
    }

    /// The table below an entry that is made from what the guest has now, if it is linked.
    pub(super) fn linked(&self, upper: Ref<Table>, index: u64, source: u64) -> Option<Ref<Table>> {
        upper.below(index).filter(|_| is_valid(upper.source(index), source))
    }

    /// The table below an entry, for a guest table or for a part of a large page; made and linked if need be.
    pub(super) fn below(
        &self,
        upper: Ref<Table>,
        index: u64,
        source: u64,
        frame: u64,
        role: Role,
    ) -> Option<Ref<Table>> {
        let linked = self.linked(upper, index, source);
        let table = match linked {
            Some(table) => table,
            None => {
                self.remove(upper, index, true);
                self.obtain(frame, role)?
            }
        };
        upper.set_source(index, source);
        if linked.is_none() {
            self.processor.remove_idle(table);
            table.references.set(table.references.get() + 1);
            upper.set_link(index, table.id());
            upper.swap(index, table.entries_page.get().0 | PRESENT | WRITE | USER | ACCESSED);
        }
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
        self.processor.flush.set(true);
        match below {
            Some(below) => {
                self.processor.way.forget();
                let references = below.references.get().saturating_sub(1);
                below.references.set(references);
                if references == 0 {
                    self.processor.add_idle(below, keep && below.frame.get() != 0);
                }
            }
            None => self.shadow.unmapped(table, index, entry),
        }
    }

    /// Forgets all translations.
    pub(super) fn forget(&self) {
        for table in own_tables(self.processor) {
            table.each_live(|index| self.remove(table, index, true));
        }
        self.processor.flush.set(true);
    }

    fn take_root(&self, root: Ref<Table>) {
        root.used.set(true);
        self.processor.root.set(root.id());
    }

    /// Makes the space that CR3 names the one in use.
    pub(super) fn activate(&self) {
        // Any table may go for it.
        self.processor.root.set(0);
        self.processor.way.forget();
        match self.processor.root_of(self.paging.get().root()) {
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
        let Some((frame, writable)) = found else {
            return;
        };
        let role = Role::new(self.number, top, part, Allows::ALL, paging).writable(writable);
        let Some(root) = self.obtain(frame, role) else {
            return;
        };
        if !root.idle.get() {
            self.processor.add_idle(root, true);
        }
        self.processor.remember_root(paging.root(), root);
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
