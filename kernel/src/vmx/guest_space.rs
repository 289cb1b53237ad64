//! Guest-physical memory: the root of the extended page tables, the I/O bitmaps, and the doorbells.

use crate::vmx::page::Page;
use bulkhead_abi::{Error, MAX_DOORBELLS};
use bulkhead_core::phys::{HostPhysical, KernelObject, Ref};
use core::cell::Cell;

/// Slots of the doorbell table: twice the doorbells, so that searches end soon.
const SLOTS: usize = 2 * MAX_DOORBELLS;
/// EPT pointer: write-back tables of 4 levels (SDM vol. 3, 25.6.11).
const EPT_POINTER: u64 = 6 | 3 << 3;

/// The signal that a guest's write to an I/O port is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Doorbell {
    /// Address of the notification to signal.
    pub notification: u64,
    /// Badge of the capability with which it was bound.
    pub badge: u64,
}

struct Slot {
    /// The port plus 1; 0 if the slot is free.
    port: Cell<u64>,
    notification: Cell<u64>,
    badge: Cell<u64>,
}

/// A guest's physical memory and ports. Four pages.
#[repr(C, align(4096))]
pub struct GuestSpace {
    /// The capability engine's.
    pub header: [Cell<u64>; 8],
    /// Counts the changes of the page tables that took something away.
    generation: Cell<u64>,
    doorbells: Cell<u64>,
    slots: [Slot; SLOTS],
    /// The caller's: where the pool of table memory is kept, for example.
    pub extension: [Cell<u64>; 32],
    io_bitmaps: [Page; 2],
    root: Page,
}

const _: () = assert!(size_of::<GuestSpace>() == GuestSpace::PAGES * 4096);

// SAFETY: cells and plain pages, for which zero is valid.
unsafe impl KernelObject for GuestSpace {}

impl GuestSpace {
    /// Pages that the object takes.
    pub const PAGES: usize = 4;

    /// Makes zeroed memory an empty guest space: nothing mapped, every port exits.
    pub fn initialise(&self) {
        self.generation.set(1);
        for bitmap in &self.io_bitmaps {
            bitmap.fill(0xff);
        }
    }

    /// The root table of the extended page tables.
    pub fn root(space: Ref<Self>) -> HostPhysical {
        HostPhysical(space.physical().0 + core::mem::offset_of!(Self, root) as u64)
    }

    /// The value that names the tables to the processor.
    pub fn ept_pointer(space: Ref<Self>) -> u64 {
        Self::root(space).0 | EPT_POINTER
    }

    /// Where the I/O bitmaps are: for ports below 0x8000, and for the others.
    pub fn io_bitmaps(space: Ref<Self>) -> [HostPhysical; 2] {
        let first = space.physical().0 + core::mem::offset_of!(Self, io_bitmaps) as u64;
        [HostPhysical(first), HostPhysical(first + 4096)]
    }

    /// Makes every vCPU of the space forget cached translations before it enters the guest again. To be called after
    /// something was unmapped; processors that are in the guest at the moment must be interrupted besides.
    pub fn translations_changed(&self) {
        self.generation.set(self.generation.get().wrapping_add(1));
    }

    /// How often translations were taken away.
    #[inline(always)]
    pub fn generation(&self) -> u64 {
        self.generation.get()
    }

    /// The slot that holds this port, or the free one where it would be. There is always a free one.
    #[inline(always)]
    fn find(&self, port: u16) -> &Slot {
        let mut index = usize::from(port ^ port >> 7) % SLOTS;
        loop {
            let slot = &self.slots[index];
            if slot.port.get() == 0 || slot.port.get() == u64::from(port) + 1 {
                return slot;
            }
            index = (index + 1) % SLOTS;
        }
    }

    /// The doorbell of a port.
    #[inline(always)]
    pub fn doorbell(&self, port: u16) -> Option<Doorbell> {
        let slot = self.find(port);
        (slot.port.get() != 0).then(|| Doorbell {
            notification: slot.notification.get(),
            badge: slot.badge.get(),
        })
    }

    /// Binds a port.
    pub fn bind_doorbell(&self, port: u16, doorbell: Doorbell) -> Result<(), Error> {
        let slot = self.find(port);
        if slot.port.get() != 0 {
            return Err(Error::AlreadyMapped);
        }
        if self.doorbells.get() >= MAX_DOORBELLS as u64 {
            return Err(Error::PoolExhausted);
        }
        self.doorbells.set(self.doorbells.get() + 1);
        slot.port.set(u64::from(port) + 1);
        slot.notification.set(doorbell.notification);
        slot.badge.set(doorbell.badge);
        Ok(())
    }

    /// Withdraws the doorbell of a port.
    pub fn unbind_doorbell(&self, port: u16) -> Result<(), Error> {
        if self.doorbell(port).is_none() {
            return Err(Error::NotMapped);
        }
        self.keep_doorbells(|bound, _| bound != port);
        Ok(())
    }

    /// Withdraws every doorbell of a notification that is about to go.
    pub fn forget_notification(&self, notification: u64) {
        self.keep_doorbells(|_, doorbell| doorbell.notification != notification);
    }

    /// Keeps the doorbells that the condition holds for. Enters all of them anew, since a search passes over every slot that
    /// was occupied when its doorbell was entered.
    fn keep_doorbells(&self, condition: impl Fn(u16, Doorbell) -> bool) {
        let mut kept = [None; MAX_DOORBELLS];
        let mut free = kept.iter_mut();
        for slot in &self.slots {
            let Some(port) = slot.port.replace(0).checked_sub(1) else {
                continue;
            };
            let doorbell = Doorbell {
                notification: slot.notification.get(),
                badge: slot.badge.get(),
            };
            if condition(port as u16, doorbell)
                && let Some(place) = free.next()
            {
                *place = Some((port as u16, doorbell));
            }
        }
        self.doorbells.set(0);
        for (port, doorbell) in kept.into_iter().flatten() {
            // Each fits, since there were at least as many before.
            let _ = self.bind_doorbell(port, doorbell);
        }
    }
}
