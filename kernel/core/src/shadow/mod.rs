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
//! INVLPG looks at one address only: it compares the entries on the way with the guest's, whatever the dirty bits say. So does a
//! page fault, which follows the guest's tables as they are now.
//!
//! Shadow leaves hold what all levels of the guest's tables allow together, so the upper entries allow everything. A leaf exists
//! only if the guest's entries have their accessed bits set, and is writable only if the dirty bit is: so the guest's bits are
//! set at a fault, as the hardware would have. The hardware must have CR0.WP, CR4.PAE and EFER.NXE set.
//!
//! Memory is divided between the processors; when a processor has used its part, the least recently used of its tables without
//! references gives its pages, and if there is none, the space in use is begun anew.
//!
//! Owns: shadow tables. Must never: touch hardware. The caller excludes other calls for the same guest; other processors may run
//! the guest meanwhile, which sets accessed and dirty bits. Before the guest's memory map loses a page, the tables of all its
//! processors must be forgotten.

mod cache;
mod fault;
mod list;
mod mode;
mod processor;
pub mod record;
mod synchronise;
mod table;
mod words;

use crate::Progress;
use crate::page_table::{Pool, Translation};
use crate::phys::{HostPhysical, Ref};
use bulkhead_abi::{Error, ShadowCounter};
use core::cell::Cell;
use words::{Words, give_back};

pub use fault::Outcome;
pub use mode::{Access, Features, Mode, Paging};
pub use processor::Processor;
pub use table::Table;

/// Most processors of a guest.
pub const MOST_PROCESSORS: usize = 16;
/// Most tables of all processors together.
const MOST_TABLES: u64 = Words::MOST / MAPPINGS_PER_TABLE;
/// Least tables of a processor: a root, a path to a page, and one that the root's last path still holds.
const LEAST_TABLES: u64 = 5;
/// Places in the reverse map for each table, at most.
const MAPPINGS_PER_TABLE: u64 = 64;
/// Places where large regions that contain guest tables are counted.
const REGIONS: u64 = 512;

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
    /// Pages of the tables by their numbers.
    tables: Words,
    /// Hash table of guest tables: the first shadow table.
    by_frame: Words,
    /// Hash table of pages that are mapped writable: the first entry.
    mappings: Words,
    /// How many guest tables there are in large regions with the same hash.
    regions: Words,
    processors: [Cell<Option<Ref<Processor>>>; MOST_PROCESSORS],
}

/// An operation for a processor.
struct Work<'a, M> {
    shadow: &'a Shadow,
    processor: Ref<Processor>,
    number: u32,
    paging: Paging,
    machine: &'a M,
}

impl Shadow {
    /// Divides the pages of the pool between this many processors. They are taken as they are needed, and nobody else may take
    /// any.
    pub fn build(&self, pool: &Pool, processors: u32) -> Result<(), Error> {
        if processors == 0 || processors as usize > MOST_PROCESSORS {
            return Err(Error::BadArgument);
        }
        let own = 2 * u64::from(processors);
        // A table takes three pages and less than a seventh of one in the arrays, which are rounded up to pages.
        let tables = pool.count().saturating_sub(own + 12) * 7 / 22;
        let quota = tables.min(MOST_TABLES) / u64::from(processors);
        if quota < LEAST_TABLES {
            return Err(Error::PoolExhausted);
        }
        let tables = quota * u64::from(processors);
        let mappings = (tables * MAPPINGS_PER_TABLE).next_power_of_two() / 2;
        let built = self.tables.build(tables + 1, pool)
            && self.by_frame.build(tables.next_power_of_two(), pool)
            && self.mappings.build(mappings, pool)
            && self.regions.build(REGIONS, pool);
        for (number, place) in self.processors.iter().enumerate().take(processors as usize) {
            let (Some(page), Some(empty)) = (pool.take(), pool.take()) else {
                return Err(Error::PoolExhausted);
            };
            let processor = page.shadow_processor();
            processor.empty_page.set(empty);
            processor.first.set(1 + number as u32 * quota as u32);
            processor.quota.set(quota as u32);
            place.set(Some(processor));
        }
        if built { Ok(()) } else { Err(Error::PoolExhausted) }
    }

    /// Whether [`Shadow::build`] has been done.
    pub fn is_built(&self) -> bool {
        self.tables.length() != 0
    }

    /// Guest tables may have been changed by somebody else than the guest's processors.
    pub fn distrust(&self) {
        for table in (1..self.tables.length()).filter_map(|id| self.table(id as u32)) {
            if let Some(processor) = self.processor(table.role.get().processor()) {
                processor.push_stale(table);
            }
        }
    }

    /// Gives a few pages back to the pool; `Done` when all are there. No processor may walk the tables any more.
    pub fn destroy_step(&self, pool: &Pool) -> Progress {
        for processor in self.processors.iter().filter_map(Cell::take) {
            give_back(processor.empty_page.get(), pool);
            give_back(processor.page(), pool);
        }
        // The last table of the array first: the array shrinks.
        if let Some(table) = self.tables.pop() {
            if table != 0 {
                let table = HostPhysical(table).shadow_table();
                give_back(table.entries_page.get(), pool);
                give_back(table.sources_page.get(), pool);
                give_back(table.page(), pool);
            }
            return Progress::Again;
        }
        for words in [&self.tables, &self.by_frame, &self.mappings, &self.regions] {
            if words.destroy_step(pool) == Progress::Again {
                return Progress::Again;
            }
        }
        Progress::Done
    }

    /// The processor's paging state has changed, or CR3 was loaded: what flushes a TLB. Answers the page that is to be the root
    /// of the hardware's tables; with PAE and two-level paging, [`Shadow::upper_entries`] have to be copied from it.
    pub fn load(&self, number: u32, paging: Paging, machine: &impl Machine) -> Option<HostPhysical> {
        let work = self.work(number, machine)?;
        work.processor.paging.set(paging);
        let work = Work { paging, ..work };
        if cfg!(feature = "plain-shadow") {
            work.forget();
        }
        work.renew();
        work.activate();
        work.finish();
        let root = self.table(work.processor.root.get());
        Some(root.map_or(work.processor.empty_page.get(), |root| root.entries_page.get()))
    }

    /// INVLPG: the translation of this address is as the guest's tables have it now, or absent.
    pub fn invalidate(&self, number: u32, linear: u64, machine: &impl Machine) {
        if let Some(work) = self.work(number, machine) {
            work.processor.invalidated.set(true);
            work.compare(linear);
            work.finish();
        }
    }

    /// The hardware found no translation of an address that allows this access.
    pub fn fault(&self, number: u32, linear: u64, access: Access, machine: &impl Machine) -> Outcome {
        let Some(work) = self.work(number, machine) else {
            return Outcome::Retry;
        };
        let outcome = work.fill(linear, access);
        work.finish();
        outcome
    }

    /// Forgets all translations of a processor.
    pub fn forget(&self, number: u32, machine: &impl Machine) {
        if let Some(work) = self.work(number, machine) {
            work.forget();
            work.finish();
        }
    }

    /// The upper entries of the shadow tables in use, for a processor in PAE or two-level paging: the hardware reads them at VM
    /// entry, from below 4 GiB.
    pub fn upper_entries(&self, number: u32) -> [u64; 4] {
        let root = self.processor(number).and_then(|processor| self.table(processor.root.get()));
        core::array::from_fn(|index| root.map_or(0, |root| root.entry(index as u64)) & (mode::ADDRESS | mode::PRESENT))
    }

    /// What has been done for a processor.
    pub fn counters(&self, number: u32) -> [u64; 6] {
        self.processor(number).map_or_else(Default::default, |processor| processor.counters.each_ref().map(Cell::get))
    }

    fn work<'a, M: Machine>(&'a self, number: u32, machine: &'a M) -> Option<Work<'a, M>> {
        let processor = self.processor(number)?;
        Some(Work { shadow: self, processor, number, paging: processor.paging.get(), machine })
    }

    #[inline(always)]
    fn processor(&self, number: u32) -> Option<Ref<Processor>> {
        self.processors.get(number as usize)?.get()
    }

    #[inline(always)]
    fn table(&self, id: table::TableId) -> Option<Ref<Table>> {
        match self.tables.get(u64::from(id)) {
            0 => None,
            page => Some(HostPhysical(page).shadow_table()),
        }
    }
}

impl<M: Machine> Work<'_, M> {
    /// Brings all tables up to date, as for a flush of the TLB.
    fn renew(&self) {
        self.harvest();
        self.synchronise();
        self.processor.invalidated.set(false);
    }

    /// Brings the hardware's TLB up to date.
    fn finish(&self) {
        if self.processor.flush.take() {
            self.processor.count(ShadowCounter::Flushes);
            self.machine.flush();
        }
    }
}
