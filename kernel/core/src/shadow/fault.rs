//! Page faults of the hardware: the guest's own, or the engine's to answer with an entry.

use super::mode::{
    ACCESSED, ADDRESS, Access, Allows, CACHING, DIRTY, Features, LARGE, Meaning, NO_EXECUTE, PAT, PRESENT, USER, WRITE,
    index,
};
use super::synchronise::is_valid;
use super::table::{LARGE_BYTES, LISTED, Role, Table, TableId};
use super::{Machine, Work};
use crate::page_table::{PageSize, Translation};
use crate::phys::{HostPhysical, Ref};
use bulkhead_abi::{PAGE_SIZE, Rights, ShadowCounter};

/// Entries of a group of neighbours that are made together.
const NEIGHBOURS: u64 = 8;
/// Levels of the deepest tables.
const LEVELS: usize = 4;

/// What has become of a fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The guest is to try again.
    Retry,
    /// The fault is the guest's, with this error code.
    Fault(u32),
    /// Nothing is at this guest-physical address, or nothing that may be accessed so.
    Violation {
        /// The address.
        physical: u64,
        /// A write: the guest's, or of an accessed or dirty bit.
        write: bool,
        /// It is the address of an entry of a guest table.
        walking: bool,
    },
    /// The guest may do this, but no entry can express it without allowing what it may not do: its instruction has to be
    /// interpreted.
    Interpret,
}

/// An entry that the walk came by.
#[derive(Clone, Copy, Default)]
struct Step {
    level: u32,
    index: u64,
    /// The guest's entry.
    value: u64,
    at: HostPhysical,
    /// Guest-physical address of its page.
    guest: u64,
    /// The page of the guest table that the entry is in.
    frame: u64,
    /// The part of that table.
    part: u64,
}

/// A walk through the guest's tables that found a page.
struct Walk {
    steps: [Step; LEVELS],
    length: usize,
    /// What all entries allow together.
    allows: Allows,
    /// What those above the last allow.
    above: Allows,
    /// Guest-physical address of the 4 KiB that contain what was looked for.
    page: u64,
    /// The shadow table for the last entry, if all entries above are there.
    linked: Option<Ref<Table>>,
}

impl<M: Machine> Work<'_, M> {
    /// The page of a guest table, if it is memory.
    pub(super) fn table_frame(&self, guest: u64) -> Option<u64> {
        let found = self.machine.translate(guest)?;
        let page = HostPhysical(found.physical.0 & !(PAGE_SIZE - 1));
        let usable = found.attributes.rights.contains(Rights::READ) && self.machine.is_memory(page);
        usable.then_some(page.0)
    }

    /// Follows the guest's tables as they are now, and removes what shadow entries on the way were made from something else.
    fn walk(&self, linear: u64, access: Access) -> Result<Walk, Outcome> {
        let paging = &self.paging;
        let mode = paging.mode;
        let mut walk = Walk {
            steps: Default::default(),
            length: 0,
            allows: Allows::ALL,
            above: Allows::ALL,
            page: 0,
            linked: None,
        };
        let mut shadow = self.shadow.table(self.processor.root.get());
        let (mut guest, mut part, mut level) = (paging.root() & !(PAGE_SIZE - 1), 0, paging.top());
        loop {
            let index = index(level, linear);
            let offset = mode.offset(level, part, index);
            let latched = paging.latched(level, index);
            let known = shadow.map(|table| table.frame.get()).or_else(|| self.table_frame(guest));
            let (frame, value) = match (known, latched) {
                (_, Some(value)) => (0, value),
                (Some(frame), None) => (frame, self.machine.read(HostPhysical(frame + offset), mode.width())),
                (None, None) => {
                    return Err(Outcome::Violation { physical: guest + offset, write: false, walking: true });
                }
            };
            let at = HostPhysical(frame + offset);
            let mut below: TableId = 0;
            if let Some(table) = shadow {
                if is_valid(table.source(index), value) {
                    below = table.below(index);
                } else {
                    self.remove(table, index, true);
                }
            }
            let step = Step { level, index, value, at, guest, frame, part };
            if let Some(place) = walk.steps.get_mut(walk.length) {
                *place = step;
            }
            walk.length += 1;
            walk.above = walk.allows;
            if latched.is_none() {
                walk.allows = walk.allows.and(value);
            }
            match paging.meaning(level, value) {
                Meaning::Absent => return Err(Outcome::Fault(access.error(paging, false, false))),
                Meaning::Reserved => return Err(Outcome::Fault(access.error(paging, true, true))),
                Meaning::Page(base, size) => {
                    walk.linked = shadow;
                    walk.page = base | linear & (size - 1) & !(PAGE_SIZE - 1);
                    return Ok(walk);
                }
                Meaning::Table(address) => guest = address,
            }
            part = mode.part_below(level, index);
            shadow = self.shadow.table(below);
            level = level.saturating_sub(1);
        }
    }

    /// Answers a fault.
    pub(super) fn fill(&self, linear: u64, access: Access) -> Outcome {
        self.try_to_fill(linear, access).unwrap_or_else(|outcome| outcome)
    }

    fn try_to_fill(&self, linear: u64, access: Access) -> Result<Outcome, Outcome> {
        let mut walk = self.walk(linear, access)?;
        if !access.allowed(walk.allows, self.paging.features) {
            return Ok(Outcome::Fault(access.error(&self.paging, true, false)));
        }
        self.set_guest_bits(&mut walk, access)?;
        let steps = walk.steps.get(..walk.length).unwrap_or_default();
        let Some((last, upper)) = steps.split_last() else {
            return Ok(Outcome::Retry);
        };
        let backing = self.backing(walk.page, access)?;
        let entry = self.leaf(last, 0, walk.allows, backing, access)?;
        let table = match walk.linked {
            Some(table) => table,
            None => self.link(upper, steps).ok_or(Outcome::Retry)?,
        };
        let changed = self.map(table, last, linear, &walk, entry, backing, access)?;
        if !changed && walk.linked.is_some() && access.protection {
            // The hardware refuses what the entry allows: an implicit access under SMAP.
            return Ok(Outcome::Fault(access.error(&self.paging, true, false)));
        }
        self.processor.count(ShadowCounter::Fills);
        Ok(Outcome::Retry)
    }

    /// The shadow table for the last entry of a walk, with all entries above.
    fn link(&self, upper: &[Step], steps: &[Step]) -> Option<Ref<Table>> {
        let mut table = self.shadow.table(self.processor.root.get())?;
        let mut allows = Allows::ALL;
        for (step, next) in upper.iter().zip(steps.iter().skip(1)) {
            if !self.paging.mode.is_latched(step.level) {
                allows = allows.and(step.value);
            }
            let role = Role::new(self.number, next.level, next.part, allows, &self.paging);
            table = self.below(table, step.index, step.value, next.frame, role)?;
        }
        Some(table)
    }

    /// Sets the accessed bits of the entries on the way, and the dirty bit of the last for a write (SDM vol. 3, 4.8).
    fn set_guest_bits(&self, walk: &mut Walk, access: Access) -> Result<(), Outcome> {
        let last = walk.length.saturating_sub(1);
        for (number, step) in walk.steps.iter_mut().enumerate().take(walk.length) {
            if self.paging.mode.is_latched(step.level) {
                continue;
            }
            let dirty = if number == last && access.write { DIRTY } else { 0 };
            let wanted = step.value | ACCESSED | dirty;
            if wanted == step.value {
                continue;
            }
            let rights = self.machine.translate(step.guest).map(|found| found.attributes.rights);
            if !rights.is_some_and(|rights| rights.contains(Rights::WRITE)) {
                let physical = step.guest + (step.at.0 & (PAGE_SIZE - 1));
                return Err(Outcome::Violation { physical, write: true, walking: true });
            }
            if !self.machine.exchange(step.at, self.paging.mode.width(), step.value, wanted) {
                return Err(Outcome::Retry);
            }
            step.value = wanted;
        }
        Ok(())
    }

    /// Where a page of the guest's memory is.
    fn backing(&self, page: u64, access: Access) -> Result<Translation, Outcome> {
        let needed = match access {
            Access { fetch: true, .. } => Rights::EXECUTE,
            Access { write: true, .. } => Rights::WRITE,
            _ => Rights::READ,
        };
        match self.machine.translate(page) {
            Some(found) if found.attributes.rights.contains(needed) => Ok(found),
            _ => Err(Outcome::Violation { physical: page, write: access.write, walking: false }),
        }
    }

    /// The shadow entry for 4 KiB (level 0) or 2 MiB (level 1) of a guest page, without its LARGE bit.
    fn leaf(&self, guest: &Step, level: u32, by: Allows, backing: Translation, access: Access) -> Result<u64, Outcome> {
        let Allows { mut write, mut user, mut execute } = by;
        let features = self.paging.features;
        if access.write && !access.user && !write {
            // CR0.WP is clear in the guest, but not in the hardware: the page is the system's until a program needs it.
            if user && features.contains(Features::SMAP) {
                return Err(Outcome::Interpret);
            }
            execute &= !(user && features.contains(Features::SMEP));
            (write, user) = (true, false);
        }
        let rights = backing.attributes.rights;
        let mut entry = backing.physical.0 & ADDRESS | PRESENT | guest.value & CACHING;
        if write && guest.value & DIRTY != 0 && rights.contains(Rights::WRITE) {
            entry |= WRITE;
        }
        if user {
            entry |= USER;
        }
        if !execute || !rights.contains(Rights::EXECUTE) {
            entry |= NO_EXECUTE;
        }
        let [small, large] = PAT;
        if guest.value & if guest.level > 0 { large } else { small } != 0 {
            entry |= if level > 0 { large } else { small };
        }
        if backing.attributes.uncached {
            entry |= CACHING;
        }
        Ok(entry)
    }

    /// Makes the entry for a page in the table that corresponds to the guest's last. False if it was there already.
    #[expect(clippy::too_many_arguments, reason = "the results of the walk")]
    fn map(
        &self,
        mut table: Ref<Table>,
        last: &Step,
        linear: u64,
        walk: &Walk,
        entry: u64,
        backing: Translation,
        access: Access,
    ) -> Result<bool, Outcome> {
        let mut level = last.level;
        while level > 0 {
            let at = index(level, linear);
            let is_split = table.below(at) != 0 && is_valid(table.source(at), last.value);
            if level == 1 && !is_split && self.fits_large(entry, linear, backing, walk.page) {
                let first = Translation { physical: HostPhysical(backing.physical.0 & !(LARGE_BYTES - 1)), ..backing };
                let large = self.leaf(last, 1, walk.allows, first, access)? | LARGE;
                return Ok(self.set(table, at, large, last.value));
            }
            level -= 1;
            let role = Role::new(self.number, level, 0, walk.allows, &self.paging);
            table = self.below(table, at, last.value, 0, role).ok_or(Outcome::Retry)?;
        }
        let changed = self.set(table, index(0, linear), entry, last.value);
        if last.level == 0 && !cfg!(feature = "plain-shadow") {
            self.map_neighbours(table, index(0, linear), walk.above);
        }
        Ok(changed)
    }

    /// Whether 2 MiB can be mapped at once: the backing is as large, and if they are writable no guest table is among them.
    fn fits_large(&self, entry: u64, linear: u64, backing: Translation, page: u64) -> bool {
        let aligned = [linear, page].map(|address| address & (LARGE_BYTES - 1) & !(PAGE_SIZE - 1));
        let [linear, page] = aligned;
        backing.size != PageSize::Small
            && linear == page
            && backing.physical.0 & (LARGE_BYTES - 1) == page
            && (entry & WRITE == 0 || !self.shadow.is_region_tracked(backing.physical.0))
    }

    /// Sets an entry that maps a page. False if it was there already.
    fn set(&self, table: Ref<Table>, index: u64, entry: u64, source: u64) -> bool {
        table.set_source(index, source);
        if (table.entry(index) ^ entry) & !(ACCESSED | DIRTY | LISTED) == 0 {
            return false;
        }
        self.remove(table, index, true);
        table.swap(index, entry);
        if entry & WRITE != 0 {
            self.shadow.mapped(table, index, entry);
        }
        true
    }

    /// Makes the entries beside one that was missing, where the guest has used them before.
    fn map_neighbours(&self, table: Ref<Table>, index: u64, above: Allows) {
        let first = index & !(NEIGHBOURS - 1);
        let live = table.live_group(first);
        for at in (0..NEIGHBOURS).filter(|number| live >> number & 1 == 0).map(|number| first + number) {
            let (value, place) = self.guest_entry(&table, at);
            if value & ACCESSED == 0 {
                continue;
            }
            let Meaning::Page(page, _) = self.paging.meaning(0, value) else {
                continue;
            };
            let read = Access::default();
            let step = Step { value, at: place, ..Step::default() };
            if let Ok(backing) = self.backing(page, read)
                && let Ok(entry) = self.leaf(&step, 0, above.and(value), backing, read)
            {
                self.set(table, at, entry, value);
                self.processor.count(ShadowCounter::Neighbours);
            }
        }
    }
}
