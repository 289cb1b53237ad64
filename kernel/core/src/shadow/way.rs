//! The way to a lowest table that a processor took last: what the paging-structure caches of the hardware are to it.

use super::mode::index;
use super::table::{Table, TableId, table};
use super::{Machine, Processor};
use crate::phys::{HostPhysical, Ref};
use core::cell::Cell;

/// Upper entries of the deepest tables.
const UPPER: usize = 3;

/// A way. Zero: none.
#[derive(Default)]
#[repr(C)]
pub(super) struct Way {
    /// Names the 2 MiB to which it leads.
    region: Cell<u64>,
    table: Cell<TableId>,
    /// The guest's upper entries, as far as they are in memory, and what they were.
    length: Cell<u32>,
    upper: [Cell<(HostPhysical, u64)>; UPPER],
}

/// What names the 2 MiB of an address.
const fn region(linear: u64) -> u64 {
    linear >> 21 | 1 << 63
}

impl Way {
    /// Forgets the way: a table on it is somewhere else.
    pub(super) fn forget(&self) {
        self.region.set(0);
    }
}

impl<M: Machine> Processor<'_, M> {
    /// The lowest shadow table for an address, if all entries above are there. They are what a processor may have in its
    /// paging-structure caches, so what the guest has now does not matter until the next INVLPG, which empties those caches
    /// (SDM vol. 3, 4.10.4.1), or a fault that is the guest's.
    #[inline(always)]
    pub(super) fn known_table(&self, linear: u64) -> Option<Ref<Table>> {
        let table = self.find_table(linear)?;
        (!self.set.invalidated.get() || self.is_current()).then_some(table)
    }

    /// The same, if the guest has the upper entries now as well.
    pub(super) fn current_table(&self, linear: u64) -> Option<Ref<Table>> {
        self.find_table(linear).filter(|_| self.is_current())
    }

    #[inline(always)]
    fn find_table(&self, linear: u64) -> Option<Ref<Table>> {
        let way = &self.set.way;
        if way.region.get() == region(linear) { table(way.table.get()) } else { self.find_way(linear) }
    }

    #[inline(always)]
    pub(super) fn is_current(&self) -> bool {
        let Way { length, upper, .. } = &self.set.way;
        let width = self.paging.get().mode.width();
        for (place, _) in upper.iter().zip(0..length.get()) {
            let (at, value) = place.get();
            if self.machine.read(at, width) != value {
                return false;
            }
        }
        true
    }

    #[inline(never)]
    fn find_way(&self, linear: u64) -> Option<Ref<Table>> {
        let way = &self.set.way;
        way.forget();
        let mut found = table(self.set.root.get())?;
        let mode = self.paging.get().mode;
        way.length.set(if mode.is_latched(found.level()) { found.level() - 1 } else { found.level() });
        while found.level() > 0 {
            let index = index(found.level(), linear);
            if let Some(place) = way.upper.get(found.level() as usize - 1) {
                place.set((found.guest_place(index).0, found.source(index)));
            }
            found = found.below(index)?;
        }
        if found.frame.get() == 0 {
            return None;
        }
        way.region.set(region(linear));
        way.table.set(found.id());
        Some(found)
    }
}
