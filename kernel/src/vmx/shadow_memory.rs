//! The memory of a guest with shadow paging, as the engine sees it: the extended page tables are its map.

use crate::object::engine;
use crate::vmx::guest_space::GuestSpace;
use bulkhead_abi::Rights;
use bulkhead_core::frames::FrameRange;
use bulkhead_core::page_table::{Attributes, Ept, PageSize, PageTable, Pool, Translation};
use bulkhead_core::phys::{HostPhysical, Ref, window_base};
use bulkhead_core::shadow::{LARGE_BYTES, Machine};
use core::cell::Cell;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// How many regions of the memory map are remembered.
const RECENT: usize = 64;
/// What is remembered: memory that is mapped by large pages without restrictions.
const LARGE_RAM: Translation = Translation {
    physical: HostPhysical(0),
    attributes: Attributes {
        rights: Rights::READ.union(Rights::WRITE).union(Rights::EXECUTE),
        uncached: false,
        user: true,
    },
    size: PageSize::Large,
};

/// The regions of 2 MiB of a guest's memory that were looked up last, by number from 1 on, with their addresses of the host.
pub type Recent = [Cell<(u64, u64)>; RECENT];

/// The machine of a guest, for the engine.
pub(super) struct Memory(pub(super) Ref<GuestSpace>);

impl Memory {
    /// What the memory map says, which is remembered for 2 MiB of ordinary memory.
    #[inline(never)]
    fn look_up(&self, address: u64, recent: &Cell<(u64, u64)>) -> Option<Translation> {
        if address >> 47 != 0 {
            return None;
        }
        let found = PageTable::<Ept>::new(self.0.root()).translate(address)?;
        if found.size != PageSize::Small && found.attributes == LARGE_RAM.attributes && self.is_memory(found.physical) {
            recent.set((address / LARGE_BYTES + 1, found.physical.0 - address % LARGE_BYTES));
        }
        Some(found)
    }
}

impl Machine for Memory {
    #[inline(always)]
    fn translate(&self, address: u64) -> Option<Translation> {
        let region = address / LARGE_BYTES + 1;
        let recent = self.0.recent.get(region as usize % RECENT)?;
        match recent.get() {
            (known, first) if known == region => {
                Some(Translation { physical: HostPhysical(first + address % LARGE_BYTES), ..LARGE_RAM })
            }
            _ => self.look_up(address, recent),
        }
    }

    fn is_memory(&self, page: HostPhysical) -> bool {
        FrameRange::page(page).is_ok_and(|page| engine().frames().is_partition_ram(page))
    }

    fn read(&self, at: HostPhysical, width: u64) -> u64 {
        let place = at.0.wrapping_add(window_base());
        // SAFETY: the engine reads entries of guest tables, in pages for which `is_memory` was true and which the space still
        // maps: the window has all RAM. The guest may be writing to them, so they are read as atomics.
        unsafe {
            match width {
                4 => u64::from((*(place as *const AtomicU32)).load(Ordering::Acquire)),
                _ => (*(place as *const AtomicU64)).load(Ordering::Acquire),
            }
        }
    }

    fn exchange(&self, at: HostPhysical, width: u64, old: u64, new: u64) -> bool {
        let (place, order) = (at.0.wrapping_add(window_base()), Ordering::SeqCst);
        // SAFETY: as above; the space maps the page writable.
        unsafe {
            match width {
                4 => (*(place as *const AtomicU32)).compare_exchange(old as u32, new as u32, order, order).is_ok(),
                _ => (*(place as *const AtomicU64)).compare_exchange(old, new, order, order).is_ok(),
            }
        }
    }

    // The next entry does.
    fn flush(&self) {}

    fn pool(&self) -> &Pool {
        &self.0.pool
    }
}

/// Forgets all translations of a guest's processors, since its memory map has lost a page. Those that are in the guest have to be
/// interrupted.
pub fn forget_shadows(space: Ref<GuestSpace>) {
    if !space.is_shadowed.get() {
        return;
    }
    for region in &space.recent {
        region.set((0, 0));
    }
    let (paging, memory) = (Cell::default(), Memory(space));
    (0..).map_while(|number| space.shadow.at(number, &paging, &memory)).for_each(|processor| processor.forget());
}
