//! Whole pages inside kernel objects.

use bulkhead_core::phys::{HostPhysical, window_base};
use core::cell::UnsafeCell;

/// A page that hardware, or a monitor, reads and writes beside the kernel: the kernel touches it by raw pointer only.
#[repr(C, align(4096))]
pub struct Page(UnsafeCell<[u64; 512]>);

impl Page {
    /// Where the page is, for raw accesses. Valid as long as the object that holds it.
    pub const fn pointer(&self) -> *mut u64 {
        self.0.get().cast()
    }

    /// The page's physical address.
    pub fn physical(&self) -> HostPhysical {
        HostPhysical((self.pointer() as u64).wrapping_sub(window_base()))
    }

    /// Sets every byte.
    pub fn fill(&self, byte: u8) {
        // SAFETY: the pointer is to a page of this object; bytes are the page's only type.
        unsafe { self.pointer().cast::<u8>().write_bytes(byte, 4096) }
    }
}
