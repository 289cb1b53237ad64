//! Page faults of the hardware: the guest's own, or the engine's to answer with an entry.

use super::mode::{
    ACCESSED, ADDRESS, Access, Allows, CACHING, DIRTY, Features, LARGE, Layout, Meaning, NO_EXECUTE, PAT, PRESENT,
    USER, WRITE, index,
};
use super::table::{ENTRIES, LARGE_BYTES, LISTED, Role, Table, table};
use super::{Machine, Processor};
use crate::page_table::{PageSize, Translation};
use crate::phys::{HostPhysical, Ref};
use bulkhead_abi::{PAGE_SIZE, Rights, ShadowCounter};

/// Entries that a fault makes beside the missing one, at most.
const NEIGHBOURS: u64 = 15;
/// Levels of the deepest tables.
const LEVELS: usize = 4;

/// What has become of a fault of the hardware.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The guest is to try again.
    Retry,
    /// It is the guest's, with this error code.
    Guests(u32),
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

/// An entry that a walk came by, and what stands for its guest table.
#[derive(Clone, Copy, Default)]
pub(super) struct Step {
    /// The guest's entry, and where it is.
    value: u64,
    at: HostPhysical,
    /// The guest table: its guest-physical address and its page, the role of its shadow and the place of entries.
    guest: u64,
    pub frame: u64,
    pub role: Role,
    pub layout: Layout,
}

impl<M: Machine> Processor<'_, M> {
    /// Answers a fault.
    #[inline(always)]
    pub(super) fn fill(&self, linear: u64, access: Access) -> Fault {
        let outcome = self.known_table(linear).and_then(|table| self.fill_known(table, linear, access));
        outcome.unwrap_or_else(|| self.fill_anew(linear, access).unwrap_or_else(|outcome| outcome))
    }

    /// Answers a fault by the guest's last entry, if that is enough to know.
    #[inline(always)]
    fn fill_known(&self, table: Ref<Table>, linear: u64, access: Access) -> Option<Fault> {
        let index = index(0, linear);
        let (at, width) = table.guest_place(index);
        let value = self.machine.read(at, width);
        let role = table.role();
        let allows = role.allows().and(value);
        let cause = match self.paging.get().meaning(0, value) {
            Meaning::Page(page, _) if access.allowed(allows, self.paging.get().features) => {
                let bits = ACCESSED | if access.contains(Access::WRITE) { DIRTY } else { 0 };
                let is_set =
                    value & bits == bits || role.is_writable() && self.machine.exchange(at, width, value, value | bits);
                let backing = self.backing(page, access).ok()?;
                let entry = self.leaf(value | bits, [0, 0], allows, backing, access).ok()?;
                if !is_set || !self.set(table, index, entry, value | bits) {
                    return None;
                }
                self.map_neighbours(table, index);
                self.set.count(ShadowCounter::Fills);
                return Some(Fault::Retry);
            }
            Meaning::Page(..) => Access::PROTECTION,
            Meaning::Reserved => Access::PROTECTION | Access::RESERVED,
            Meaning::Absent | Meaning::Table(_) => Access::empty(),
        };
        if !self.is_current() {
            return None;
        }
        if table.entry(index) & PRESENT != 0 {
            self.compare_last(table, index);
        }
        Some(Fault::Guests(access.error(&self.paging.get(), cause)))
    }

    /// Answers a fault by the guest's tables as they are now.
    #[inline(never)]
    fn fill_anew(&self, linear: u64, access: Access) -> Result<Fault, Fault> {
        let mut steps = [Step::default(); LEVELS];
        let (page, allows, lowest) = self.walk(linear, access, &mut steps)?;
        let steps = steps.get_mut(lowest as usize..=self.paging.get().top() as usize).unwrap_or_default();
        self.set_guest_bits(steps, access)?;
        let (last, upper) = steps.split_first().ok_or(Fault::Retry)?;
        let backing = self.backing(page, access)?;
        let mut entry = self.leaf(last.value, [lowest, 0], allows, backing, access)?;
        let mut table = table(self.set.root.get()).ok_or(Fault::Retry)?;
        for (step, next) in upper.iter().zip(steps.iter()).rev() {
            table = self.below(table, index(step.role.level(), linear), step.value, next).ok_or(Fault::Retry)?;
        }
        let mut level = lowest;
        while level > 0 {
            let at = index(level, linear);
            let is_split = self.linked(table, at, last.value).is_some();
            if level == 1 && !is_split && fits_large(linear, backing, page) {
                let first = Translation { physical: HostPhysical(backing.physical.0 & !(LARGE_BYTES - 1)), ..backing };
                let large = self.leaf(last.value, [lowest, 1], allows, first, access)? | LARGE;
                if large & WRITE == 0 || !self.shadow.is_any_tracked(first.physical.0, ENTRIES) {
                    entry = large;
                    break;
                }
            }
            level -= 1;
            let role = Role::new(self.number, level, 0, allows, &self.paging.get());
            let part = Step { role, ..Step::default() };
            table = self.below(table, at, last.value, &part).ok_or(Fault::Retry)?;
        }
        let changed = self.set(table, index(level, linear), entry, last.value);
        if lowest == 0 {
            self.map_neighbours(table, index(0, linear));
        }
        if !changed && access.contains(Access::PROTECTION) && !self.set.flush.get() {
            // The hardware refuses what the entries allow: an implicit access under SMAP.
            return Ok(Fault::Guests(access.error(&self.paging.get(), Access::PROTECTION)));
        }
        self.set.count(ShadowCounter::Fills);
        Ok(Fault::Retry)
    }

    /// The page of a guest table, if it is memory, and whether the guest may write to it.
    pub(super) fn table_frame(&self, guest: u64) -> Option<(u64, bool)> {
        let found = self.machine.translate(guest)?;
        let page = HostPhysical(found.physical.0 & !(PAGE_SIZE - 1));
        let rights = found.attributes.rights;
        let usable = rights.contains(Rights::READ) && self.machine.is_memory(page);
        usable.then_some((page.0, rights.contains(Rights::WRITE)))
    }

    /// Follows the guest's tables as they are now. If the fault is the guest's, nothing remains of other entries for the address.
    /// Answers the guest-physical 4 KiB, what all entries allow together, and the level of the last.
    fn walk(&self, linear: u64, access: Access, steps: &mut [Step; LEVELS]) -> Result<(u64, Allows, u32), Fault> {
        let paging = &self.paging.get();
        let (mut guest, mut part, mut allows) = (paging.root() & !(PAGE_SIZE - 1), 0, Allows::all());
        let cause = 'fault: {
            for level in (0..=paging.top()).rev() {
                let index = index(level, linear);
                let layout = paging.mode.layout(level, part);
                let offset = layout.offset(index);
                let role = Role::new(self.number, level, part, allows, paging);
                let mut step = Step { guest, role, layout, ..Step::default() };
                match paging.latched(level, index) {
                    Some(value) => step.value = value,
                    None => {
                        let nothing = Fault::Violation { physical: guest + offset, write: false, walking: true };
                        let (frame, writable) = self.table_frame(guest).ok_or(nothing)?;
                        step.at = HostPhysical(frame + offset);
                        step.value = self.machine.read(step.at, layout.width());
                        (step.frame, step.role) = (frame, role.writable(writable));
                        allows = allows.and(step.value);
                    }
                }
                if let Some(place) = steps.get_mut(level as usize) {
                    *place = step;
                }
                match paging.meaning(level, step.value) {
                    Meaning::Absent => break 'fault Access::empty(),
                    Meaning::Reserved => break 'fault Access::PROTECTION | Access::RESERVED,
                    Meaning::Page(base, size) if access.allowed(allows, paging.features) => {
                        return Ok((base | linear & (size - 1) & !(PAGE_SIZE - 1), allows, level));
                    }
                    Meaning::Page(..) => break 'fault Access::PROTECTION,
                    Meaning::Table(address) => guest = address,
                }
                part = paging.mode.part_below(level, index);
            }
            Access::empty()
        };
        self.compare(linear);
        Err(Fault::Guests(access.error(paging, cause)))
    }

    /// Sets the accessed bits of the entries on the way, from above, and the dirty bit of the last for a write (SDM vol. 3, 4.8).
    fn set_guest_bits(&self, steps: &mut [Step], access: Access) -> Result<(), Fault> {
        let last = steps.first().map_or(0, |last| last.role.level());
        let width = self.paging.get().mode.width();
        for step in steps.iter_mut().rev() {
            let level = step.role.level();
            let dirty = if level == last && access.contains(Access::WRITE) { DIRTY } else { 0 };
            let wanted = step.value | ACCESSED | dirty;
            if wanted == step.value || self.paging.get().mode.is_latched(level) {
                continue;
            }
            if !step.role.is_writable() {
                let physical = step.guest + (step.at.0 & (PAGE_SIZE - 1));
                return Err(Fault::Violation { physical, write: true, walking: true });
            }
            if !self.machine.exchange(step.at, width, step.value, wanted) {
                return Err(Fault::Retry);
            }
            step.value = wanted;
        }
        Ok(())
    }

    /// Where a page of the guest's memory is.
    #[inline(always)]
    fn backing(&self, page: u64, access: Access) -> Result<Translation, Fault> {
        let write = access.contains(Access::WRITE);
        let needed = match access {
            access if access.contains(Access::FETCH) => Rights::EXECUTE,
            _ if write => Rights::WRITE,
            _ => Rights::READ,
        };
        match self.machine.translate(page) {
            Some(found) if found.attributes.rights.contains(needed) => Ok(found),
            _ => Err(Fault::Violation { physical: page, write, walking: false }),
        }
    }

    /// The shadow entry made from a guest's entry of one level for another level, 4 KiB (level 0) or 2 MiB (level 1), without its
    /// LARGE bit.
    #[inline(always)]
    fn leaf(
        &self,
        value: u64,
        [from, to]: [u32; 2],
        by: Allows,
        backing: Translation,
        access: Access,
    ) -> Result<u64, Fault> {
        let mut allows = by.bits();
        if !by.contains(Allows::WRITE) && access & (Access::WRITE | Access::USER) == Access::WRITE {
            // CR0.WP is clear in the guest, but not in the hardware: the page is the system's until a program needs it.
            let features = self.paging.get().features;
            if by.contains(Allows::USER) && features.contains(Features::SMAP) {
                return Err(Fault::Interpret);
            }
            if by.contains(Allows::USER) && features.contains(Features::SMEP) {
                allows &= !NO_EXECUTE;
            }
            allows = allows & !USER | WRITE;
        }
        let rights = backing.attributes.rights;
        if value & DIRTY == 0 || !rights.contains(Rights::WRITE) {
            allows &= !WRITE;
        }
        if !rights.contains(Rights::EXECUTE) {
            allows &= !NO_EXECUTE;
        }
        let mut entry = backing.physical.0 & ADDRESS | PRESENT | value & CACHING | allows ^ NO_EXECUTE;
        let [small, large] = PAT;
        if value & if from > 0 { large } else { small } != 0 {
            entry |= if to > 0 { large } else { small };
        }
        if backing.attributes.uncached {
            entry |= CACHING;
        }
        Ok(entry)
    }

    /// Sets an entry that maps a page. False if it was there already.
    #[inline(always)]
    fn set(&self, table: Ref<Table>, index: u64, entry: u64, source: u64) -> bool {
        table.set_source(index, source);
        let old = table.entry(index);
        if (old ^ entry) & !(ACCESSED | DIRTY | LISTED) == 0 {
            return false;
        }
        if old & PRESENT != 0 {
            self.remove(table, index, true);
        }
        table.swap(index, entry);
        if entry & WRITE != 0 {
            self.shadow.mapped(table, index, entry);
        }
        true
    }

    /// Makes the entries after one that was missing, as far as the guest has used them before.
    #[inline(always)]
    fn map_neighbours(&self, table: Ref<Table>, index: u64) {
        let mut next = index + 1;
        if cfg!(feature = "plain-shadow") {
            return;
        }
        while next <= (index + NEIGHBOURS).min(ENTRIES - 1) && self.map_used(table, next) {
            next += 1;
        }
    }

    /// Makes the entry for a page that the guest has used before, if none is there. Answers whether it was made.
    #[inline(always)]
    pub(super) fn map_used(&self, table: Ref<Table>, index: u64) -> bool {
        let value = self.guest_entry(&table, index);
        value & (PRESENT | ACCESSED) == PRESENT | ACCESSED && self.map_again(table, index, value)
    }

    #[inline(never)]
    fn map_again(&self, table: Ref<Table>, index: u64, value: u64) -> bool {
        let (read, allows) = (Access::empty(), table.role().allows().and(value));
        if table.entry(index) & PRESENT == 0
            && let Meaning::Page(page, _) = self.paging.get().meaning(0, value)
            && let Ok(backing) = self.backing(page, read)
            && let Ok(entry) = self.leaf(value, [0, 0], allows, backing, read)
        {
            self.set.count(ShadowCounter::Neighbours);
            return self.set(table, index, entry, value);
        }
        false
    }
}

/// Whether 2 MiB can be mapped at once, by what lies where.
fn fits_large(linear: u64, backing: Translation, page: u64) -> bool {
    let [linear, page] = [linear, page].map(|address| address & (LARGE_BYTES - 1) & !(PAGE_SIZE - 1));
    backing.size != PageSize::Small && linear == page && backing.physical.0 & (LARGE_BYTES - 1) == page
}
