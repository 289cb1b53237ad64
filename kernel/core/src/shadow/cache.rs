//! Shadow tables as a cache: found by the guest table that they were made from, linked, and replaced.

use super::mode::{ACCESSED, ADDRESS, Allows, PRESENT, USER, WRITE};
use super::synchronise::is_valid;
use super::table::{EntryId, LARGE_BYTES, Role, Table, TableId};
use super::words::Words;
use super::{Machine, Shadow, Work};
use crate::phys::Ref;
use bulkhead_abi::ShadowCounter;

/// With this bit, the guest-physical address of upper entries that are not read from memory at each walk stands for a frame.
const NO_FRAME: u64 = 1 << 63;

/// The place for an address in a hash table.
pub(super) fn place(words: &Words, address: u64) -> u64 {
    // Fibonacci hashing; lengths are powers of two.
    (address.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) & words.length().wrapping_sub(1)
}

impl Shadow {
    /// Calls the function for the shadow tables of a guest table.
    #[inline(always)]
    pub(super) fn each_of(&self, frame: u64, mut visit: impl FnMut(Ref<Table>)) {
        let mut id = self.by_frame.get(place(&self.by_frame, frame)) as TableId;
        while let Some(table) = self.table(id) {
            id = table.next_same.get();
            if table.frame.get() == frame {
                visit(table);
            }
        }
    }

    /// Whether a page is a guest table with shadow tables.
    #[inline(always)]
    pub(super) fn is_tracked(&self, frame: u64) -> bool {
        let mut found = false;
        self.each_of(frame, |_| found = true);
        found
    }

    /// Whether the large page that contains this address may contain guest tables.
    pub(super) fn is_region_tracked(&self, address: u64) -> bool {
        self.regions.get(place(&self.regions, address / LARGE_BYTES)) != 0
    }

    fn enter(&self, table: Ref<Table>) {
        let frame = table.frame.get();
        let bucket = place(&self.by_frame, frame);
        table.next_same.set(self.by_frame.get(bucket) as TableId);
        self.by_frame.set(bucket, u64::from(table.id.get()));
        let region = place(&self.regions, frame / LARGE_BYTES);
        self.regions.set(region, self.regions.get(region).wrapping_add(1));
    }

    fn withdraw(&self, table: Ref<Table>) {
        let frame = table.frame.replace(0);
        if frame == 0 {
            return;
        }
        let bucket = place(&self.by_frame, frame);
        let (id, rest) = (table.id.get(), table.next_same.get());
        if self.by_frame.get(bucket) as TableId == id {
            self.by_frame.set(bucket, u64::from(rest));
        } else {
            let mut at = self.table(self.by_frame.get(bucket) as TableId);
            while let Some(one) = at {
                if one.next_same.get() == id {
                    one.next_same.set(rest);
                    break;
                }
                at = self.table(one.next_same.get());
            }
        }
        let region = place(&self.regions, frame / LARGE_BYTES);
        self.regions.set(region, self.regions.get(region).wrapping_sub(1));
    }

    /// The table and index of an entry.
    #[inline(always)]
    pub(super) fn entry(&self, id: EntryId) -> Option<(Ref<Table>, u64)> {
        Some((self.table(id / 512)?, u64::from(id % 512)))
    }
}

impl<M: Machine> Work<'_, M> {
    /// The shadow table of this role for a guest table, or for a part of a large page if `frame` is 0; a new one if need be.
    /// Nothing if tables have changed, so that the walk has to begin again: all have been compared with the guest's, or, if the
    /// memory is used up by the space itself, emptied.
    fn obtain(&self, frame: u64, role: Role) -> Option<Ref<Table>> {
        let mut found = None;
        if frame != 0 {
            self.shadow.each_of(frame, |table| {
                if table.role.get() == role {
                    found = Some(table);
                }
            });
        }
        if found.is_some() {
            if self.processor.invalidated.get() {
                // INVLPG has looked at entries that were in use. Entries of this table, or below it, may be such as it should have
                // removed, at an address for which the guest had other tables meanwhile.
                self.renew();
                return None;
            }
            return found;
        }
        let Some(table) = self.fresh().or_else(|| self.evict()) else {
            self.forget();
            return None;
        };
        table.role.set(role);
        table.frame.set(frame);
        if frame != 0 {
            let was_tracked = self.shadow.is_tracked(frame);
            self.shadow.enter(table);
            if !was_tracked {
                self.track(frame);
            }
        }
        Some(table)
    }

    /// A table that has never been used.
    fn fresh(&self) -> Option<Ref<Table>> {
        let made = self.processor.made.get();
        if made >= self.processor.quota.get() {
            return None;
        }
        let pool = self.machine.pool();
        let (page, entries, sources) = (pool.take()?, pool.take()?, pool.take()?);
        let table = page.shadow_table();
        let id = self.processor.first.get() + made;
        table.id.set(id);
        table.entries_page.set(entries);
        table.sources_page.set(sources);
        self.shadow.tables.set(u64::from(id), page.0);
        self.processor.made.set(made + 1);
        Some(table)
    }

    /// Empties the table that has not been needed for longest.
    fn evict(&self) -> Option<Ref<Table>> {
        let table = self.processor.oldest_idle(self.shadow)?;
        self.processor.count(ShadowCounter::Evictions);
        // What only it pointed to goes next.
        table.each_live(|index| self.remove(table, index, false));
        self.processor.remove_idle(self.shadow, table);
        self.shadow.withdraw(table);
        Some(table)
    }

    /// The table below an entry that is made from what the guest has now, for a guest table or for a part of a large page; made
    /// and linked if need be.
    pub(super) fn below(
        &self,
        upper: Ref<Table>,
        index: u64,
        source: u64,
        frame: u64,
        role: Role,
    ) -> Option<Ref<Table>> {
        if is_valid(upper.source(index), source)
            && let Some(table) = self.shadow.table(upper.below(index))
        {
            upper.set_source(index, source);
            return Some(table);
        }
        self.remove(upper, index, true);
        let table = self.obtain(frame, role)?;
        self.processor.remove_idle(self.shadow, table);
        table.references.set(table.references.get() + 1);
        upper.set_source(index, source);
        upper.set_link(index, table.id.get());
        upper.swap(index, table.entries_page.get().0 | PRESENT | WRITE | USER | ACCESSED);
        Some(table)
    }

    /// Takes an entry out of a table of this processor, if it is there. A table that loses its last reference waits to be
    /// needed again, as the first or the last to be emptied.
    pub(super) fn remove(&self, table: Ref<Table>, index: u64, keep: bool) {
        let below = self.shadow.table(table.below(index));
        let entry = table.swap(index, 0);
        if entry & PRESENT == 0 {
            return;
        }
        self.processor.flush.set(true);
        match below {
            Some(below) => {
                let references = below.references.get().saturating_sub(1);
                below.references.set(references);
                if references == 0 {
                    self.processor.add_idle(self.shadow, below, keep && below.frame.get() != 0);
                }
            }
            None => self.shadow.unmapped(table, index, entry),
        }
    }

    /// Calls the function for the tables of this processor.
    pub(super) fn each_own(&self, visit: impl Fn(Ref<Table>)) {
        let first = self.processor.first.get();
        (first..first + self.processor.made.get()).filter_map(|id| self.shadow.table(id)).for_each(visit);
    }

    /// Forgets all translations.
    pub(super) fn forget(&self) {
        self.each_own(|table| table.each_live(|index| self.remove(table, index, true)));
        self.processor.flush.set(true);
    }

    /// Makes the space that CR3 names the one in use.
    pub(super) fn activate(&self) {
        let paging = &self.paging;
        // Any other table may go for it.
        self.processor.root.set(0);
        let latched = paging.mode.is_latched(paging.top());
        let frame = if latched { Some(paging.root() & ADDRESS | NO_FRAME) } else { self.table_frame(paging.root()) };
        let Some(frame) = frame else {
            return;
        };
        let part = if latched { paging.root() >> 5 & 0x7f } else { 0 };
        let role = Role::new(self.number, paging.top(), part, Allows::ALL, paging);
        let Some(root) = self.obtain(frame, role) else {
            return;
        };
        self.processor.add_idle(self.shadow, root, true);
        self.processor.root.set(root.id.get());
        root.each_live(|index| {
            if paging.latched(paging.top(), index).is_some_and(|entry| entry != root.source(index)) {
                self.remove(root, index, true);
            }
        });
    }
}
