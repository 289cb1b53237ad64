//! Physical memory as the kernel sees it: one linear window, and references to the objects in it.
//!
//! The only unsafe code of this crate. On the target the window is the direct map; in tests it is a heap block.

use core::fmt;
use core::marker::PhantomData;
use core::ops::Deref;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

/// A host-physical address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
#[repr(transparent)]
pub struct HostPhysical(pub u64);

/// A place for a type that may live in kernel pages: only cells and plain data, valid when all bytes are zero.
///
/// # Safety
/// All-zero bytes must be a valid value, and shared references must be enough to use it (interior mutability by `Cell`).
pub unsafe trait KernelObject {}

/// A reference to an object in the physical window. It is as light as a pointer and may be copied; the kernel lock makes
/// accesses exclusive, and the capability engine frees an object's pages only when no reference can be followed any more.
#[repr(transparent)]
pub struct Ref<T>(NonNull<T>, PhantomData<*const T>);

impl<T> Clone for Ref<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Ref<T> {}
impl<T> PartialEq for Ref<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
impl<T> Eq for Ref<T> {}
impl<T> fmt::Debug for Ref<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:p}", self.0)
    }
}

impl<T: KernelObject> Deref for Ref<T> {
    type Target = T;
    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: a `Ref` is made only by `Window::object`, whose caller promises a live object; see the type's text.
        unsafe { self.0.as_ref() }
    }
}

impl<T> Ref<T> {
    /// The address in the window, for tables that store references as words.
    #[inline(always)]
    pub fn address(self) -> u64 {
        self.0.as_ptr() as u64
    }
    /// The reference with this address, as `address` gave it.
    ///
    /// # Safety
    /// The address must come from `address` of a `Ref<T>` whose object is alive.
    #[inline(always)]
    pub unsafe fn from_address(address: u64) -> Option<Self> {
        NonNull::new(address as *mut T).map(|pointer| Self(pointer, PhantomData))
    }
}

static WINDOW_BASE: AtomicU64 = AtomicU64::new(0);

/// Sets where physical address 0 appears in the kernel's address space. Once, before anything else of this module.
pub fn set_window_base(base: u64) {
    WINDOW_BASE.store(base, Ordering::Relaxed);
}

/// Where physical address 0 appears.
#[inline(always)]
pub fn window_base() -> u64 {
    WINDOW_BASE.load(Ordering::Relaxed)
}

impl HostPhysical {
    /// The object of type `T` at this address.
    ///
    /// # Safety
    /// The page must be memory that the kernel owns as an object of type `T` (zeroed, or initialised as one).
    #[inline(always)]
    pub unsafe fn object<T: KernelObject>(self) -> Ref<T> {
        let pointer = self.0.wrapping_add(window_base()) as *mut T;
        // SAFETY: the window base is in the upper half, so the sum is never null.
        Ref(unsafe { NonNull::new_unchecked(pointer) }, PhantomData)
    }
}

impl<T> Ref<T> {
    /// The object's physical address.
    #[inline(always)]
    pub fn physical(self) -> HostPhysical {
        HostPhysical(self.address().wrapping_sub(window_base()))
    }
}
