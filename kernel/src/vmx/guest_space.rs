//! Guest-physical memory: the extended page tables, the I/O bitmaps, and the doorbells.

use crate::vmx::invalidate::invalidate_guest_space;
use crate::vmx::page::Page;
use crate::vmx::shadow_memory::Recent;
use crate::vmx::vcpu::{InSpace, Vcpu};
use bulkhead_abi::{Error, GuestPaging, MAX_DOORBELLS, PAGE_SIZE, Rights};
use bulkhead_core::object::ObjectHeader;
use bulkhead_core::page_table::{Attributes, Ept, Mapping, PageSize, PageTable, Pool};
use bulkhead_core::phys::{HostPhysical, KernelObject};
use bulkhead_core::queue::List;
use bulkhead_core::shadow::Shadow;
use bulkhead_core::shootdown::Freshness;
use bulkhead_core::slot::Slot;
use core::cell::Cell;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// In the word of a port that has a doorbell.
const BOUND: u32 = 1 << 16;
/// EPT pointer: write-back tables of 4 levels (SDM vol. 3, 25.6.11).
const EPT_POINTER: u64 = 6 | 3 << 3;

/// Where the registers of a local APIC are after reset, page-aligned.
const APIC_PAGE: u64 = 0xfee0_0000;

/// A guest's physical memory and ports. Seven pages.
#[repr(C, align(4096))]
pub struct GuestSpace {
    /// Common to all objects.
    pub header: ObjectHeader,
    /// Memory for page tables.
    pub pool: Pool,
    /// The APIC-access page is mapped.
    has_apic_page: Cell<bool>,
    /// The vCPUs that see the space.
    pub(super) vcpus: List<Vcpu, InSpace>,
    /// It is translated by shadow tables; the extended page tables are only the memory map.
    pub(super) is_shadowed: Cell<bool>,
    pub(super) shadow: Shadow,
    pub(super) recent: Recent,
    /// How many vCPUs it has had.
    pub(super) processors: Cell<u32>,
    /// Which processors have nothing outdated cached of the extended page tables.
    pub freshness: Freshness,
    /// A bit for all ports with the same 12 lower bits: 0 if none of them has ever had a doorbell.
    candidates: [AtomicU64; 64],
    /// The port that belongs to each binding, with [`BOUND`]; or 0. Changed under the kernel lock, searched without.
    ports: [AtomicU32; MAX_DOORBELLS],
    pub(super) bindings: [Slot; MAX_DOORBELLS],
    /// For ports below 0x8000, and for the others.
    pub(super) io_bitmaps: [Page; 2],
    root: Page,
    /// Mapped where the registers of the local APICs are: the processor turns accesses to it into accesses to the virtual-APIC
    /// page. Nothing is ever stored in it.
    apic_access: Page,
}

const _: () = assert!(size_of::<GuestSpace>() as u64 == GuestSpace::PAGES * 4096);

// SAFETY: cells, atomics, slots and plain pages, for which zero is valid.
unsafe impl KernelObject for GuestSpace {}

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

    /// The root table of the extended page tables.
    pub fn root(&self) -> HostPhysical {
        self.root.physical()
    }

    /// The value that names the tables to the processor.
    pub fn ept_pointer(&self) -> u64 {
        self.root().0 | EPT_POINTER
    }

    /// Maps the APIC-access page, so that the processor can virtualize the local APICs.
    pub fn map_apic_page(&self) -> Result<(), Error> {
        Error::AlreadyMapped.when(self.has_apic_page.get())?;
        let attributes = Attributes { rights: Rights::READ | Rights::WRITE, uncached: false, user: false };
        let mapping = Mapping::new(APIC_PAGE, self.apic_access.physical(), PAGE_SIZE)?;
        PageTable::<Ept>::new(self.root()).map(&mapping, attributes, &self.pool, PageSize::Small)?;
        self.has_apic_page.set(true);
        Ok(())
    }

    /// The APIC-access page, if it is mapped.
    pub fn apic_page(&self) -> Option<HostPhysical> {
        self.has_apic_page.get().then(|| self.apic_access.physical())
    }

    /// Something was unmapped: its vCPUs look at [`Self::freshness`] before they next enter.
    pub fn delay_entries(&self) {
        for vcpu in core::iter::successors(self.vcpus.first(), |vcpu| List::<Vcpu, InSpace>::next(*vcpu)) {
            vcpu.may_enter.set(false);
        }
    }

    /// Which candidate a port is: word and bit.
    #[expect(clippy::indexing_slicing, reason = "the index is reduced to the array's length")]
    fn candidate(&self, port: u16) -> (&AtomicU64, u64) {
        (&self.candidates[usize::from(port / 64) % 64], 1 << (port % 64))
    }

    fn index_of(&self, port: u16) -> Option<usize> {
        self.ports.iter().position(|word| word.load(Ordering::Relaxed) == BOUND | u32::from(port))
    }

    /// Whether a write to the port may be a doorbell. Needs no lock.
    #[inline(always)]
    pub fn has_doorbell(&self, port: u16) -> bool {
        let (word, bit) = self.candidate(port);
        word.load(Ordering::Relaxed) & bit != 0 && self.index_of(port).is_some()
    }

    /// The binding of a port: a slot with the capability to the notification to signal, or vacant if that was revoked.
    pub fn doorbell(&self, port: u16) -> Option<&Slot> {
        self.bindings.get(self.index_of(port)?)
    }

    /// Gives a port a binding, for the caller to fill: vacant, unless the port was bound before.
    pub fn prepare_doorbell(&self, port: u16) -> Result<&Slot, Error> {
        if let Some(binding) = self.doorbell(port) {
            return Ok(binding);
        }
        let places = || self.ports.iter().zip(&self.bindings);
        let unused = places().find(|(word, _)| word.load(Ordering::Relaxed) == 0);
        let free = unused.or_else(|| places().find(|(_, binding)| binding.is_vacant()));
        let (place, binding) = free.ok_or(Error::PoolExhausted)?;
        place.store(BOUND | u32::from(port), Ordering::Relaxed);
        let (word, bit) = self.candidate(port);
        word.fetch_or(bit, Ordering::Relaxed);
        Ok(binding)
    }

    /// Forgets a port whose binding is vacant.
    pub fn forget_doorbell(&self, port: u16) {
        let mut places = self.ports.iter().zip(&self.bindings);
        let is_wanted = |word: &AtomicU32| word.load(Ordering::Relaxed) == BOUND | u32::from(port);
        if let Some((word, _)) = places.find(|(word, binding)| is_wanted(word) && binding.is_vacant()) {
            word.store(0, Ordering::Relaxed);
        }
    }
}
