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
mod way;
mod words;

use crate::Progress;
use crate::page_table::{Pool, Translation};
use crate::phys::{HostPhysical, Ref};
use bulkhead_abi::{Error, PAGE_SIZE};
use cache::own_tables;
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

/// What the engine has done.
#[derive(Clone, Default, Debug)]
#[repr(C)]
pub struct Counters {
    /// Faults that were answered by an entry.
    pub fills: Cell<u64>,
    /// Entries made beside those, without a fault.
    pub neighbours: Cell<u64>,
    /// Tables that were compared with the guest's.
    pub synchronised: Cell<u64>,
    /// Longest list of a processor.
    pub longest_list: Cell<u64>,
    /// Tables whose memory was taken for others.
    pub evictions: Cell<u64>,
    /// Flushes of a processor's TLB.
    pub flushes: Cell<u64>,
}

fn count(counter: &Cell<u64>) {
    counter.set(counter.get().wrapping_add(1));
}

/// The shadow paging of a guest. Zero: none yet.
#[derive(Default)]
#[repr(C)]
pub struct Shadow {
    /// Hash table of guest tables: the first shadow table.
    by_frame: Words,
    /// Hash table of pages that are mapped writable: the first entry.
    mappings: Words,
    /// How many guest tables there are in large regions with the same hash.
    regions: Words,
    processors: [Cell<Option<Ref<Processor>>>; MOST_PROCESSORS],
    /// What has been done.
    pub counters: Counters,
}

/// An operation for a processor.
struct Work<'a, M> {
    shadow: &'a Shadow,
    processor: Ref<Processor>,
    number: u32,
    paging: &'a Cell<Paging>,
    machine: &'a M,
}

impl Shadow {
    /// Divides the pages of the pool between this many processors. They are taken as they are needed, and nobody else may take
    /// any.
    pub fn build(&self, pool: &Pool, processors: u32) -> Result<(), Error> {
        if processors == 0 || processors as usize > MOST_PROCESSORS {
            return Err(Error::BadArgument);
        }
        let own = 3 * u64::from(processors);
        // A table takes three pages, an eighth of one, and as much in the arrays, which are rounded up to pages.
        let tables = pool.count().saturating_sub(own + 12) * 10 / 33;
        let quota = tables.min(MOST_TABLES) / u64::from(processors);
        if quota < LEAST_TABLES {
            return Err(Error::PoolExhausted);
        }
        let tables = quota * u64::from(processors);
        let mut built = self.by_frame.build(tables.next_power_of_two(), pool)
            && self.mappings.build((tables * MAPPINGS_PER_TABLE).next_power_of_two() / 2, pool)
            && self.regions.build(REGIONS, pool);
        for place in self.processors.iter().take(processors as usize) {
            let (Some(page), Some(empty)) = (pool.take(), pool.take()) else {
                built = false;
                break;
            };
            let processor = page.shadow_processor();
            processor.empty_page.set(empty);
            processor.quota.set(quota);
            place.set(Some(processor));
        }
        if built { Ok(()) } else { Err(Error::PoolExhausted) }
    }

    /// Whether [`Shadow::build`] has been done.
    pub fn is_built(&self) -> bool {
        self.regions.length() != 0
    }

    /// Guest tables may have been changed by somebody else than the guest's processors.
    pub fn distrust(&self) {
        for processor in self.processors.iter().map_while(Cell::get) {
            own_tables(processor).for_each(|table| processor.push_stale(table));
        }
    }

    /// Gives a few pages back to the pool; `Done` when all are there. No processor may walk the tables any more.
    pub fn destroy_step(&self, pool: &Pool) -> Progress {
        for place in &self.processors {
            let Some(processor) = place.get() else {
                continue;
            };
            let Some(table) = table::table(processor.last.get()) else {
                place.set(None);
                give_back(processor.empty_page.get(), pool);
                give_back(processor.place(), pool);
                return Progress::Again;
            };
            processor.last.set(table.earlier.get());
            for page in [&table.entries_page, &table.sources_page, &table.links_page] {
                give_back(page.get(), pool);
            }
            // The first of those that are in one page is the last to go.
            if table.id().is_multiple_of(PAGE_SIZE) {
                give_back(table.place(), pool);
            }
            return Progress::Again;
        }
        for words in [&self.by_frame, &self.mappings, &self.regions] {
            if words.destroy_step(pool) == Progress::Again {
                return Progress::Again;
            }
        }
        Progress::Done
    }

    /// The processor's paging state has changed, which flushes its TLB. Answers the page that is to be the root of the hardware's
    /// tables; with PAE and two-level paging, [`Shadow::upper_entries`] have to be copied from it.
    pub fn load(&self, number: u32, paging: &Cell<Paging>, machine: &impl Machine) -> Option<HostPhysical> {
        self.processor(number)?.forget_roots();
        self.switch(number, paging, machine)
    }

    /// The same for CR3 alone, and not in PAE mode.
    #[inline(always)]
    pub fn switch(&self, number: u32, paging: &Cell<Paging>, machine: &impl Machine) -> Option<HostPhysical> {
        let work = self.work(number, paging, machine)?;
        work.renew();
        work.activate();
        work.finish();
        let root = table::table(work.processor.root.get());
        Some(root.map_or(work.processor.empty_page.get(), |root| root.entries_page.get()))
    }

    /// INVLPG: the translation of this address is as the guest's tables have it now, or absent.
    #[inline(always)]
    pub fn invalidate(&self, number: u32, paging: &Cell<Paging>, linear: u64, machine: &impl Machine) {
        if let Some(work) = self.work(number, paging, machine) {
            work.processor.invalidated.set(true);
            work.compare(linear);
            work.finish();
        }
    }

    /// The hardware found no translation of an address that allows this access.
    #[inline(always)]
    pub fn fault(
        &self,
        number: u32,
        paging: &Cell<Paging>,
        linear: u64,
        access: Access,
        machine: &impl Machine,
    ) -> Outcome {
        let Some(work) = self.work(number, paging, machine) else {
            return Outcome::Retry;
        };
        let outcome = work.fill(linear, access);
        work.finish();
        outcome
    }

    /// Forgets all translations of a processor, and where its guest tables are.
    pub fn forget(&self, number: u32, machine: &impl Machine) {
        if let Some(work) = self.work(number, &Cell::default(), machine) {
            work.processor.forget_roots();
            work.forget();
            work.finish();
        }
    }

    /// The upper entries of the shadow tables in use, for a processor in PAE or two-level paging: the hardware reads them at VM
    /// entry, from below 4 GiB.
    pub fn upper_entries(&self, number: u32) -> [u64; 4] {
        let root = self.processor(number).and_then(|processor| table::table(processor.root.get()));
        core::array::from_fn(|index| root.map_or(0, |root| root.entry(index as u64)) & (mode::ADDRESS | mode::PRESENT))
    }

    #[inline(always)]
    fn work<'a, M: Machine>(&'a self, number: u32, paging: &'a Cell<Paging>, machine: &'a M) -> Option<Work<'a, M>> {
        let processor = self.processor(number)?;
        Some(Work { shadow: self, processor, number, paging, machine })
    }

    #[inline(always)]
    fn processor(&self, number: u32) -> Option<Ref<Processor>> {
        self.processors.get(number as usize)?.get()
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
    #[inline(always)]
    fn finish(&self) {
        if self.processor.flush.take() {
            count(&self.shadow.counters.flushes);
            self.machine.flush();
        }
    }
}
