//! The program's heap: a global allocator over the region that the environment names.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{NonNull, null_mut};
use linked_list_allocator::Heap;
use spin::Mutex;

struct ProgramHeap(Mutex<Heap>);

#[global_allocator]
static HEAP: ProgramHeap = ProgramHeap(Mutex::new(Heap::empty()));

// SAFETY: the heap hands out disjoint blocks of memory that belongs to it alone, of the size and alignment asked for.
unsafe impl GlobalAlloc for ProgramHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.0.lock().allocate_first_fit(layout).map_or(null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if let Some(pointer) = NonNull::new(pointer) {
            // SAFETY: the caller got the pointer from `alloc` with this layout.
            unsafe { self.0.lock().deallocate(pointer, layout) };
        }
    }
}

/// Gives the allocator its memory.
///
/// # Safety
/// To be called once, with a mapped writable range that nothing else uses.
pub(crate) unsafe fn start(address: u64, length: u64) {
    // SAFETY: the caller vouches for the range.
    unsafe { HEAP.0.lock().init(address as usize as *mut u8, length as usize) };
}

/// Allocates all that is left, in ever smaller blocks, for good; how many bytes. Nothing if the program was stopped while it allocated.
pub(crate) fn exhaust() -> usize {
    let Some(mut heap) = HEAP.0.try_lock() else { return 0 };
    let before = heap.free();
    let mut size = before.next_power_of_two();
    while size >= MIN_BLOCK {
        let block = Layout::from_size_align(size, MIN_BLOCK).ok().map(|layout| heap.allocate_first_fit(layout));
        if !matches!(block, Some(Ok(_))) {
            size /= 2;
        }
    }
    before.saturating_sub(heap.free())
}

/// Smallest block that [`exhaust`] tries.
const MIN_BLOCK: usize = 16;

/// Bytes of the heap that are not allocated.
pub fn free() -> usize {
    HEAP.0.lock().free()
}
