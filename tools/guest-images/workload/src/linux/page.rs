//! A page of memory at an address of its own, which can be replaced while others read it.

#![allow(unsafe_code)]

use core::sync::atomic::{AtomicU32, Ordering};

use super::{
    Failure,
    call::{MMAP, call},
};

/// PROT_READ | PROT_WRITE.
const READ_WRITE: usize = 3;
/// MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED.
const PRIVATE_ANONYMOUS_FIXED: usize = 0x2 | 0x20 | 0x10;
const SIZE: usize = 4096;

/// The page; zero until something is stored.
#[repr(C, align(4096))]
pub struct Page([AtomicU32; SIZE / 4]);

impl Page {
    pub const fn new() -> Self {
        Self([const { AtomicU32::new(0) }; SIZE / 4])
    }

    /// Puts a new page of zeros in its place. When this returns, no processor may see the old one.
    pub fn replace(&self) -> Result<(), Failure> {
        let address = self.0.as_ptr().addr();
        // SAFETY: the new page has the place of this one, which holds numbers that may change at any time.
        unsafe { call("mmap", MMAP, [address, SIZE, READ_WRITE, PRIVATE_ANONYMOUS_FIXED, usize::MAX, 0]) }.map(drop)
    }

    pub fn load(&self) -> u32 {
        self.0[0].load(Ordering::SeqCst)
    }

    pub fn store(&self, value: u32) {
        self.0[0].store(value, Ordering::SeqCst);
    }
}
