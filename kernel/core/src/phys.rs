//! Physical memory as the kernel sees it: one linear window, and references to the objects in it.
//!
//! The only unsafe code of this crate. On the target the window is the direct map; in tests it is a heap block.

use crate::frames::Group;
use crate::object::ObjectHeader;
use crate::shadow::{Table, WorkingSet};
use crate::slot::Slot;
use bulkhead_abi::{ObjectType, PAGE_SIZE};
use core::cell::Cell;
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
    fn deref(&self) -> &T {
        // SAFETY: a `Ref` is made only by the unsafe functions of this module, whose callers promise a live object.
        unsafe { self.0.as_ref() }
    }
}

impl<T> Ref<T> {
    /// The address in the window, for tables that store references as words.
    pub fn address(self) -> u64 {
        self.0.as_ptr() as u64
    }
    /// The reference with this address, as `address` gave it.
    ///
    /// # Safety
    /// The address must come from `address` of a `Ref<T>` whose object is alive.
    pub unsafe fn from_address(address: u64) -> Option<Self> {
        NonNull::new(address as *mut T).map(|pointer| Self(pointer, PhantomData))
    }

    /// The object's physical address, which for those of whole pages is that of a page.
    pub fn page(self) -> HostPhysical {
        HostPhysical(self.address().wrapping_sub(window_base()))
    }
}

static WINDOW_BASE: AtomicU64 = AtomicU64::new(0);

/// Sets where physical address 0 appears in the kernel's address space. Once, before anything else of this module.
pub fn set_window_base(base: u64) {
    WINDOW_BASE.store(base, Ordering::Relaxed);
}

/// Where physical address 0 appears.
pub fn window_base() -> u64 {
    WINDOW_BASE.load(Ordering::Relaxed)
}

/// A kernel object that a capability of type `TYPE` names.
///
/// # Safety
/// The type must be `repr(C)` with an [`ObjectHeader`] as its first field, and must fit in the pages with which objects of
/// `TYPE` are created; only one Rust type may claim each `TYPE`.
pub unsafe trait TypedObject: KernelObject {
    /// The type of the capabilities that name it.
    const TYPE: ObjectType;
}

impl Slot {
    /// The object that the slot's capability names, if it is of `T`'s type and the slot has `rights`.
    #[inline(always)]
    pub fn expect_object<T: TypedObject>(&self, rights: bulkhead_abi::Rights) -> Result<Ref<T>, bulkhead_abi::Error> {
        let address = self.expect(T::TYPE, rights)?;
        // SAFETY: the engine writes a slot's type together with the address of a live object of that type, never null, and
        // empties the slot before the object's pages are released.
        Ok(Ref(unsafe { NonNull::new_unchecked(address as *mut T) }, PhantomData))
    }

    /// The header of the object that the slot's capability names. The slot must hold a capability to an object.
    pub(crate) fn object_header(&self) -> Ref<ObjectHeader> {
        // SAFETY: as above; the callers (the engine) have checked that the capability is not to a range.
        Ref(unsafe { NonNull::new_unchecked(self.first() as *mut ObjectHeader) }, PhantomData)
    }
}

impl<T: TypedObject> Ref<T> {
    /// The header at the object's beginning.
    pub fn header(self) -> Ref<ObjectHeader> {
        Ref(self.0.cast(), PhantomData)
    }
}

impl Ref<ObjectHeader> {
    /// The object that the header begins, if it is of `T`'s type.
    pub fn downcast<T: TypedObject>(self) -> Option<Ref<T>> {
        (self.object_type() == T::TYPE).then(|| Ref(self.0.cast(), PhantomData))
    }
}

/// An array of objects in the physical window.
#[repr(C)]
pub struct Array<T> {
    first: Ref<T>,
    length: u64,
}

impl<T> Clone for Array<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Array<T> {}

impl<T: KernelObject> Array<T> {
    /// The array of `length` objects that begins with `first`.
    ///
    /// # Safety
    /// All `length` objects must be alive, one after another, for as long as the array is used.
    pub const unsafe fn new(first: Ref<T>, length: u64) -> Self {
        Self { first, length }
    }

    /// Number of objects.
    pub const fn length(self) -> u64 {
        self.length
    }

    /// The object with this index.
    #[inline(always)]
    pub fn get(self, index: u64) -> Option<Ref<T>> {
        if index >= self.length {
            return None;
        }
        // SAFETY: the index is in bounds, and the array's maker promised that many objects.
        Some(Ref(unsafe { self.first.0.add(index as usize) }, PhantomData))
    }
}

/// The words of a page, as page tables and free lists use it.
pub type PageWords = [Cell<u64>; (PAGE_SIZE / 8) as usize];

/// The entries of a page table that a guest's processor walks, and sets accessed and dirty bits of, beside the kernel.
pub type ShadowEntries = [crate::sync::AtomicU64; (PAGE_SIZE / 8) as usize];

// SAFETY: cells of plain integers.
unsafe impl KernelObject for PageWords {}
// SAFETY: atomics of plain integers. (Under loom they are not, but there is no memory to make objects of either.)
unsafe impl KernelObject for ShadowEntries {}
// SAFETY: cells of plain integers, and of integers with names.
unsafe impl KernelObject for Table {}
// SAFETY: cells of plain integers, of booleans, and of an enum with a variant of value 0.
unsafe impl KernelObject for WorkingSet {}
// SAFETY: a cell of a plain integer.
unsafe impl KernelObject for Cell<u32> {}
// SAFETY: cells of plain integers.
unsafe impl KernelObject for Group {}
// SAFETY: cells of integers, of an enum with a variant of value 0, and of references that are `None` when zero.
unsafe impl KernelObject for Slot {}
// SAFETY: as above.
unsafe impl KernelObject for ObjectHeader {}

impl HostPhysical {
    /// The object of type `T` at this address.
    ///
    /// # Safety
    /// The page must be memory that the kernel owns as an object of type `T` (zeroed, or initialised as one).
    #[inline(always)]
    pub unsafe fn object<T: KernelObject>(self) -> Ref<T> {
        let pointer = self.0.wrapping_add(window_base()) as *mut T;
        // SAFETY: the window lies in the kernel's half of the address space or, in tests, in the heap: no object of it is at null.
        Ref(unsafe { NonNull::new_unchecked(pointer) }, PhantomData)
    }

    /// The words of the page at this address. For pages that [`crate::frames::FrameTable`] holds as the kernel's, and for pages
    /// that a Memory capability's holder asked to zero: nothing else in this crate may call it.
    pub(crate) fn page_words(self) -> Ref<PageWords> {
        // SAFETY: by the rule above, the page is RAM in the window, and nothing keeps Rust references into it.
        unsafe { self.object() }
    }

    /// The words of the page at this address as a shadow table, for a page that was taken from a pool for that alone.
    pub(crate) fn shadow_entries(self) -> Ref<ShadowEntries> {
        // SAFETY: by the rule above, the page is RAM in the window, and accessed as these atomics only.
        unsafe { self.object() }
    }

    /// What is known about a shadow table, in a page that was taken from a pool for such alone.
    pub(crate) fn shadow_table(self) -> Ref<Table> {
        // SAFETY: by the rule above, the page is RAM in the window; the type fits in its part, and zero is a valid value.
        unsafe { self.object() }
    }

    /// The working set of shadow tables of a processor, in a page that was taken from a pool for that alone.
    pub(crate) fn working_set(self) -> Ref<WorkingSet> {
        // SAFETY: as above.
        unsafe { self.object() }
    }

    /// The header of the object at this address; its pages must be claimed and zeroed.
    pub(crate) fn new_header(self) -> Ref<ObjectHeader> {
        // SAFETY: the caller (`Engine::create_step`) has claimed and zeroed the pages.
        unsafe { self.object() }
    }
}

impl Ref<PageWords> {
    /// A word of the page; 0 behind its end.
    #[inline(always)]
    pub(crate) fn word(self, index: u64) -> u64 {
        crate::elementary_step();
        self.get(index as usize).map_or(0, Cell::get)
    }

    /// Changes a word of the page, if it has so many.
    #[inline(always)]
    pub(crate) fn set_word(self, index: u64, value: u64) {
        crate::elementary_step();
        if let Some(word) = self.get(index as usize) {
            word.set(value);
        }
    }
}

/// Fills a page with zeros.
pub(crate) fn zero_page(page: HostPhysical) {
    crate::elementary_step();
    let words = page.page_words();
    // SAFETY: the words are inside one page that `page_words` vouches for; zero is a valid value of a cell of an integer.
    unsafe { core::ptr::write_bytes(words.address() as *mut PageWords, 0, 1) };
}
