//! Variables of a program with one thread, which its own exception handlers interrupt.

use core::cell::UnsafeCell;

/// A variable.
#[repr(transparent)]
pub struct Global<T>(UnsafeCell<T>);

// SAFETY: the guest has one processor; a handler runs to its end before what it interrupted goes on, and values are copied as
// a whole, never lent.
unsafe impl<T> Sync for Global<T> {}

impl<T: Copy> Global<T> {
    /// A variable with this value.
    pub const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// The value.
    pub fn get(&self) -> T {
        // SAFETY: valid for reads; volatile, since an event may change it between two instructions.
        unsafe { self.0.get().read_volatile() }
    }

    /// Changes the value.
    pub fn set(&self, value: T) {
        // SAFETY: valid for writes.
        unsafe { self.0.get().write_volatile(value) }
    }

    /// Its address.
    pub fn address(&self) -> u64 {
        self.0.get() as u64
    }
}

impl<T: Copy> Global<Option<T>> {
    /// The value, which is none from then on.
    pub fn take(&self) -> Option<T> {
        let value = self.get();
        self.set(None);
        value
    }
}
