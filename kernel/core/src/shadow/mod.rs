//! Shadow paging: the page tables that a guest's processors walk when the hardware has no second level of translation.
//!
//! Every processor of the guest has shadow tables of its own, made from the guest's tables as the processor needs them, and
//! kept: the tables that a CR3 load leaves behind are a space's again when the guest comes back to it, until their memory is
//! needed. Guest tables are not write-protected. Instead:
//!
//! - The **active entry list** holds the shadow entries that map, writable, a page from which some shadow table was made (a
//!   tracked page), for each processor that owns such entries. Their dirty bits say which tracked pages may have changed.
//! - When a processor does what flushes its TLB, it takes the dirty bits of its own entries, clears them, and marks as stale the
//!   shadow tables of all processors that were made from those pages; then it compares its own stale tables with the guest's,
//!   entry by entry, and flushes its hardware TLB. Other processors compare theirs when they flush.
//! - A dirty bit of another processor's entry cannot be cleared: that processor's TLB may hold the translation as dirty already,
//!   and will write without setting the bit again. So the bit stays, and the page counts as changed at each flush of any other
//!   processor, until the owner has flushed. The record of changed tables thus consists of the dirty bits themselves (who may
//!   be writing) and the stale marks (who has not looked yet), and nobody waits for another processor.
//! - An entry of the list whose accessed bit was not set since the last flush is taken out of the tables.
//!
//! INVLPG looks at one address only: it compares the entries on the way with the guest's, whatever the dirty bits say, and makes
//! the last one anew if the guest has used the page that it has there now.
//!
//! A page fault looks at the guest's last entry, and takes the shadow entries above as they are: the hardware's paging-structure
//! caches might hold the same. After INVLPG they must not, and a fault that is the guest's is one of the tables as they are now;
//! so in these cases the entries above are compared first. The way that was taken last is remembered.
//!
//! Shadow leaves hold what all levels of the guest's tables allow together, so the upper entries allow everything. A leaf exists
//! only if the guest's entries have their accessed bits set, and is writable only if the dirty bit is: so the guest's bits are
//! set at a fault, as the hardware would have. The hardware must have CR0.WP, CR4.PAE and EFER.NXE set.
//!
//! Memory is divided between the processors. When a processor has used its part, the oldest of its tables without references gives
//! its pages, but for roots that were in use since they were looked at last; if there is none, the space in use is begun anew.
//!
//! Owns: shadow tables. Must never: touch hardware. The caller excludes other calls for the same guest; other processors may run
//! the guest meanwhile, which sets accessed and dirty bits. Before the guest's memory map loses a page, the tables of all its
//! processors must be forgotten.

mod cache;
mod fault;
mod heads;
mod list;
mod mode;
pub mod record;
mod synchronise;
mod table;
mod way;
mod working_set;

use crate::Progress;
use crate::page_table::{Pool, Translation};
use crate::phys::{HostPhysical, Ref};
use bulkhead_abi::{Error, PAGE_SIZE, ShadowCounter};
use cache::own_tables;
use core::cell::Cell;
use heads::{Heads, give_back};

pub use fault::Fault;
pub use mode::{Access, Features, Mode, Paging};
pub use table::{LARGE_BYTES, Table};
pub use working_set::WorkingSet;

/// Most processors of a guest.
pub const MOST_PROCESSORS: usize = 16;
/// Most tables of all processors together.
const MOST_TABLES: u64 = Heads::MOST / MAPPINGS_PER_TABLE;
/// Least tables of a processor: a root, a path to a page, and one that the root's last path still holds.
const LEAST_TABLES: u64 = 5;
/// Places in the reverse map for each table, at most.
const MAPPINGS_PER_TABLE: u64 = 64;

/// What the engine needs of the machine, for the processor at hand.
pub trait Machine {
    /// Where a guest-physical address is, and what the guest may do there.
    fn translate(&self, address: u64) -> Option<Translation>;
    /// Whether a page is RAM that is not the kernel's, so that guest tables may be read there.
    fn is_memory(&self, page: HostPhysical) -> bool;
    /// Reads an entry of 4 or 8 bytes from the guest's memory.
    fn read(&self, at: HostPhysical, width: u64) -> u64;
    /// Replaces an entry of 4 or 8 bytes in the guest's memory if it still has the old value.
    fn exchange(&self, at: HostPhysical, width: u64, old: u64, new: u64) -> bool;
    /// Forgets everything that this processor's TLB holds for the guest.
    fn flush(&self);
    /// Memory for tables.
    fn pool(&self) -> &Pool;
}

/// The shadow paging of a guest. Zero: none yet.
#[derive(Default)]
#[repr(C)]
pub struct Shadow {
    heads: Heads,
    sets: [Cell<Option<Ref<WorkingSet>>>; MOST_PROCESSORS],
}

/// The shadow paging of one processor: what its hardware and its guest ask for.
pub struct Processor<'a, M> {
    shadow: &'a Shadow,
    set: Ref<WorkingSet>,
    number: u32,
    paging: &'a Cell<Paging>,
    machine: &'a M,
}

impl Shadow {
    /// Divides the pages of the pool between this many processors. They are taken as they are needed, and nobody else may take
    /// any.
    #[cold]
    pub fn build(&self, pool: &Pool, processors: u32) -> Result<(), Error> {
        Error::BadArgument.when(processors == 0 || processors as usize > MOST_PROCESSORS)?;
        Error::WrongState.when(self.heads.is_built())?;
        // A table takes three pages, an eighth of one, and as much in the heads, which are rounded up to pages.
        let tables = pool.count().saturating_sub(12 + 3 * u64::from(processors)) * 10 / 33;
        let quota = tables.min(MOST_TABLES) / u64::from(processors);
        Error::PoolExhausted.when(quota < LEAST_TABLES)?;
        let mappings = (quota * u64::from(processors) * MAPPINGS_PER_TABLE).next_power_of_two() / 2;
        self.heads.build(mappings, pool).ok_or(Error::PoolExhausted)?;
        for place in self.sets.iter().take(processors as usize) {
            let set = pool.take().ok_or(Error::PoolExhausted)?.working_set();
            set.empty_page.set(pool.take().ok_or(Error::PoolExhausted)?);
            set.quota.set(quota);
            place.set(Some(set));
        }
        Ok(())
    }

    /// Guest tables may have been changed by somebody else than the guest's processors.
    pub fn distrust(&self) {
        for set in self.sets.iter().map_while(Cell::get) {
            own_tables(set).for_each(|table| set.push_stale(table));
        }
    }

    /// Gives a few pages back to the pool; `Done` when all are there. No processor may walk the tables any more.
    pub fn destroy_step(&self, pool: &Pool) -> Progress {
        let Some((place, set)) = self.sets.iter().find_map(|place| Some((place, place.get()?))) else {
            return self.heads.destroy_step(pool);
        };
        let give = |page| give_back(page, pool);
        if let Some(table) = table::table(set.last.get()) {
            set.last.set(table.earlier.get());
            [&table.entries_page, &table.sources_page, &table.links_page].into_iter().for_each(|page| give(page.get()));
            // The first of those that are in one page is the last to go.
            if table.id().is_multiple_of(PAGE_SIZE) {
                give(table.page());
            }
        } else {
            place.set(None);
            [set.empty_page.get(), set.page()].into_iter().for_each(give);
        }
        Progress::Again
    }

    /// A processor, if there are so many, in the paging state that it is in.
    #[inline(always)]
    pub fn at<'a, M: Machine>(
        &'a self,
        number: u32,
        paging: &'a Cell<Paging>,
        machine: &'a M,
    ) -> Option<Processor<'a, M>> {
        Some(Processor { shadow: self, set: self.set(number)?, number, paging, machine })
    }

    /// What has been done for a processor.
    pub fn counters(&self, number: u32) -> [u64; 6] {
        self.set(number).map_or_else(Default::default, |set| set.counters.each_ref().map(Cell::get))
    }

    fn set(&self, number: u32) -> Option<Ref<WorkingSet>> {
        self.sets.get(number as usize)?.get()
    }
}

impl<M: Machine> Processor<'_, M> {
    /// The paging state has changed, which flushes the TLB. Answers the page that is to be the root of the hardware's tables; with
    /// PAE and two-level paging, [`Processor::upper_entries`] have to be copied from it.
    #[inline(never)]
    pub fn load(&self) -> HostPhysical {
        self.set.forget_roots();
        self.switch()
    }

    /// The same for CR3 alone, and not in PAE mode.
    #[inline(always)]
    pub fn switch(&self) -> HostPhysical {
        if cfg!(feature = "plain-shadow") {
            self.empty();
        }
        self.renew();
        self.activate();
        self.finish();
        let root = table::table(self.set.root.get());
        root.map_or(self.set.empty_page.get(), |root| root.entries_page.get())
    }

    /// INVLPG: the translation of this address is as the guest's tables have it now, or absent.
    #[inline(always)]
    pub fn invalidate(&self, linear: u64) {
        self.set.invalidated.set(true);
        self.compare(linear);
        self.finish();
    }

    /// The hardware found no translation of an address that allows this access.
    #[inline(always)]
    pub fn fault(&self, linear: u64, access: Access) -> Fault {
        let outcome = self.fill(linear, access);
        self.finish();
        outcome
    }

    /// Forgets all translations, and where the guest's tables are.
    pub fn forget(&self) {
        self.set.forget_roots();
        self.empty();
        self.finish();
    }

    /// The upper entries of the shadow tables in use, in PAE or two-level paging: the hardware reads them at VM entry, from below
    /// 4 GiB.
    pub fn upper_entries(&self) -> [u64; 4] {
        let root = table::table(self.set.root.get());
        core::array::from_fn(|index| root.map_or(0, |root| root.entry(index as u64)) & (mode::ADDRESS | mode::PRESENT))
    }

    /// Brings all tables up to date, as for a flush of the TLB.
    fn renew(&self) {
        self.harvest();
        self.synchronise();
        self.set.invalidated.set(false);
    }

    /// Brings the hardware's TLB up to date.
    #[inline(always)]
    fn finish(&self) {
        if self.set.flush.take() {
            self.set.count(ShadowCounter::Flushes);
            self.machine.flush();
        }
    }
}
