//! Guest-physical memory: the extended page tables, the I/O bitmaps, and the doorbells.

use crate::vmx::invalidate::invalidate_guest_space;
use crate::vmx::page::Page;
use crate::vmx::vcpu::{InSpace, Vcpu};
use bulkhead_abi::{Error, GuestPaging, MAX_DOORBELLS, PAGE_SIZE, Rights};
use bulkhead_core::object::ObjectHeader;
use bulkhead_core::page_table::{Attributes, Ept, Mapping, PageSize, PageTable, Pool};
use bulkhead_core::phys::{HostPhysical, KernelObject, window_base};
use bulkhead_core::queue::List;
use bulkhead_core::shadow::Shadow;
use bulkhead_core::shootdown::Freshness;
use bulkhead_core::slot::Slot;
use core::cell::Cell;
use core::mem::offset_of;
use core::sync::atomic::{AtomicU32, Ordering};

/// Places in the table of ports: twice the doorbells, so that searches end soon.
const PLACES: usize = 2 * MAX_DOORBELLS;
/// EPT pointer: write-back tables of 4 levels (SDM vol. 3, 25.6.11).
const EPT_POINTER: u64 = 6 | 3 << 3;

/// Where the registers of a local APIC are after reset, page-aligned.
const APIC_PAGE: u64 = 0xfee0_0000;

/// A guest's physical memory and ports. Seven pages.
#[repr(C, align(4096))]
pub struct GuestSpace {
    /// Common to all objects.
    pub header: ObjectHeader,
    pool: Pool,
    /// The APIC-access page is mapped.
    has_apic_page: Cell<bool>,
    /// The vCPUs that see the space.
    pub(super) vcpus: List<Vcpu, InSpace>,
    /// It is translated by shadow tables; the extended page tables are only the memory map.
    pub(super) is_shadowed: Cell<bool>,
    pub(super) shadow: Shadow,
    /// How many vCPUs it has had.
    pub(super) processors: Cell<u32>,
    /// Which processors have nothing outdated cached of the extended page tables.
    pub freshness: Freshness,
    /// How many bindings have a place in the table of ports.
    used: Cell<u64>,
    /// A hash table of ports: [`Place`] as a word. Changed under the kernel lock, searched without.
    places: [AtomicU32; PLACES],
    bindings: [Slot; MAX_DOORBELLS],
    io_bitmaps: [Page; 2],
    root: Page,
    /// Mapped where the registers of the local APICs are: the processor turns accesses to it into accesses to the virtual-APIC
    /// page. Nothing is ever stored in it.
    apic_access: Page,
}

const _: () = assert!(size_of::<GuestSpace>() as u64 == GuestSpace::PAGES * 4096);

// SAFETY: cells, atomics, slots and plain pages, for which zero is valid.
unsafe impl KernelObject for GuestSpace {}

/// A port and the index of its binding, packed: bit 31 set, index from bit 16, port. 0: no port.
#[derive(Clone, Copy)]
struct Place(u32);

impl Place {
    const FREE: Self = Self(0);
    const fn new(port: u16, binding: usize) -> Self {
        Self(1 << 31 | (binding as u32) << 16 | port as u32)
    }
    const fn is_free(self) -> bool {
        self.0 == 0
    }
    const fn port(self) -> u16 {
        self.0 as u16
    }
    const fn binding(self) -> usize {
        (self.0 >> 16 & 0x7fff) as usize
    }
}

/// Forgets, on this processor, what was cached from the extended page tables with this root.
pub fn forget_guest_space(root: u64) {
    // Without them nothing is cached.
    if super::paging_available(GuestPaging::Ept).is_ok() {
        invalidate_guest_space(root | EPT_POINTER);
    }
}

impl GuestSpace {
    /// Pages that the object takes.
    pub const PAGES: u64 = 7;

    /// Makes zeroed memory an empty guest space: nothing mapped, every port exits.
    pub fn initialise(&self, paging: GuestPaging) {
        self.is_shadowed.set(paging == GuestPaging::Shadow);
        for bitmap in &self.io_bitmaps {
            bitmap.fill(0xff);
        }
    }

    fn physical(&self) -> u64 {
        (core::ptr::from_ref(self) as u64).wrapping_sub(window_base())
    }

    /// The root table of the extended page tables.
    pub fn root(&self) -> HostPhysical {
        HostPhysical(self.physical() + offset_of!(Self, root) as u64)
    }

    /// Memory for page tables.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The value that names the tables to the processor.
    pub fn ept_pointer(&self) -> u64 {
        self.root().0 | EPT_POINTER
    }

    /// Maps the APIC-access page, so that the processor can virtualize the local APICs.
    pub fn map_apic_page(&self) -> Result<(), Error> {
        if self.has_apic_page.get() {
            return Err(Error::AlreadyMapped);
        }
        let page = HostPhysical(self.physical() + offset_of!(Self, apic_access) as u64);
        let attributes = Attributes { rights: Rights::READ | Rights::WRITE, uncached: false, user: false };
        let mapping = Mapping::new(APIC_PAGE, page, PAGE_SIZE)?;
        PageTable::<Ept>::new(self.root()).map(&mapping, attributes, &self.pool, PageSize::Small)?;
        self.has_apic_page.set(true);
        Ok(())
    }

    /// The APIC-access page, if it is mapped.
    pub fn apic_page(&self) -> Option<HostPhysical> {
        let page = HostPhysical(self.physical() + offset_of!(Self, apic_access) as u64);
        self.has_apic_page.get().then_some(page)
    }

    /// Something was unmapped: its vCPUs look at [`Self::freshness`] before they next enter.
    pub fn delay_entries(&self) {
        for vcpu in core::iter::successors(self.vcpus.first(), |vcpu| List::<Vcpu, InSpace>::next(*vcpu)) {
            vcpu.may_enter.set(false);
        }
    }

    /// Where the I/O bitmaps are: for ports below 0x8000, and for the others.
    pub fn io_bitmaps(&self) -> [HostPhysical; 2] {
        let first = self.physical() + offset_of!(Self, io_bitmaps) as u64;
        [HostPhysical(first), HostPhysical(first + 4096)]
    }

    /// Where a port is in the table, or where it would be: there is always a free place.
    #[inline(always)]
    #[expect(clippy::indexing_slicing, reason = "the index is reduced to the array's length")]
    fn find(&self, port: u16) -> (usize, Place) {
        let mut index = usize::from(port ^ port >> 7) % PLACES;
        loop {
            let place = Place(self.places[index].load(Ordering::Relaxed));
            if place.is_free() || place.port() == port {
                return (index, place);
            }
            index = (index + 1) % PLACES;
        }
    }

    /// Whether a write to the port may be a doorbell. Needs no lock.
    #[inline(always)]
    pub fn has_doorbell(&self, port: u16) -> bool {
        !self.find(port).1.is_free()
    }

    /// The binding of a port: a slot with the capability to the notification to signal, or vacant if that was revoked.
    pub fn doorbell(&self, port: u16) -> Option<&Slot> {
        let (_, place) = self.find(port);
        if place.is_free() { None } else { self.bindings.get(place.binding()) }
    }

    /// Gives a port a binding, for the caller to fill: vacant, unless the port was bound before.
    pub fn prepare_doorbell(&self, port: u16) -> Result<&Slot, Error> {
        if let Some(binding) = self.doorbell(port) {
            return Ok(binding);
        }
        if self.used.get() >= MAX_DOORBELLS as u64 {
            self.keep_doorbells(|binding| !binding.is_vacant());
        }
        let used = self.places.iter().map(|place| Place(place.load(Ordering::Relaxed)));
        let taken = used.filter(|place| !place.is_free()).fold(0u64, |bits, place| bits | 1 << (place.binding() % 64));
        let index = taken.trailing_ones() as usize;
        let binding = self.bindings.get(index).ok_or(Error::PoolExhausted)?;
        self.enter(port, index);
        Ok(binding)
    }

    /// Forgets a port whose binding is vacant.
    pub fn forget_doorbell(&self, port: u16) {
        if let Some(gone) = self.doorbell(port)
            && gone.is_vacant()
        {
            self.keep_doorbells(|binding| !core::ptr::eq(binding, gone));
        }
    }

    /// Binding number `index`, if there are so many.
    pub(super) fn binding(&self, index: usize) -> Option<&Slot> {
        self.bindings.get(index)
    }

    #[expect(clippy::indexing_slicing, reason = "`find` returns an index of the array")]
    fn enter(&self, port: u16, binding: usize) {
        let (index, _) = self.find(port);
        self.places[index].store(Place::new(port, binding).0, Ordering::Relaxed);
        self.used.set(self.used.get() + 1);
    }

    /// Keeps the ports for whose bindings the condition holds. Enters all of them anew, since a search passes over every place
    /// that was occupied when its port was entered.
    fn keep_doorbells(&self, condition: impl Fn(&Slot) -> bool) {
        let mut kept = [Place::FREE; MAX_DOORBELLS];
        let mut free = kept.iter_mut();
        for place in &self.places {
            let place = Place(place.swap(0, Ordering::Relaxed));
            let keep = !place.is_free() && self.bindings.get(place.binding()).is_some_and(&condition);
            if keep && let Some(entry) = free.next() {
                *entry = place;
            }
        }
        self.used.set(0);
        for place in kept.into_iter().filter(|place| !place.is_free()) {
            self.enter(place.port(), place.binding());
        }
    }
}
