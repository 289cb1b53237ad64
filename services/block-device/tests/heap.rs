//! What a monitor has noted does not cost the service heap, which is everybody's.

#[path = "../../ide/tests/common/mod.rs"]
mod controller;

use bulkhead_block_device::{Disk, DiskRange, NoBounce, Service, Withheld};
use bulkhead_channel::{AtomicU64, Configuration, MonitorSide, Outcome, QueueConfiguration};
use bulkhead_doubles::FlatMemory;
use bulkhead_ide::{IdeDrive, Position, PrdTable};
use controller::{Bus, TABLE_PHYSICAL};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::Ordering::SeqCst;

thread_local! {
    /// Allocations of this thread.
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, which counts.
struct Counting;

// SAFETY: all is the system allocator's; a thread-local cell without a destructor allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps to what the trait demands.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above; the pointer is the system allocator's.
        unsafe { System.dealloc(pointer, layout) };
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

type TestService = Service<'static, IdeDrive<'static, Bus, Bus>, Bus, FlatMemory, NoBounce>;

/// A service that starts, with one disk.
fn service(bus: &Bus, words: &'static [AtomicU64], memory: &FlatMemory) -> TestService {
    let table = PrdTable::new(bus.table(), TABLE_PHYSICAL).unwrap();
    let drive = IdeDrive::start(bus.clone(), bus.clone(), table, Position::First).unwrap();
    let mut service = Service::new(drive, bus.clone(), NoBounce);
    let range =
        DiskRange { name: "disk", first_sector: 0, sectors: 8, read_only: false, withheld: Withheld::default() };
    service.add(Disk::publish(words, memory.clone(), range, service.information()).unwrap()).unwrap();
    service
}

#[test]
fn notes_of_all_heads_take_no_heap() {
    let words: &'static [AtomicU64] = Box::leak((0..512).map(|_| AtomicU64::new(0)).collect());
    let (bus, memory) = (Bus::new(true), FlatMemory::new(0x1_0000, 0));
    let mut first = service(&bus, words, &memory);
    let mut monitor = MonitorSide::attach(words).unwrap();
    let mut choice = Configuration { features: 1 << 32, ..Default::default() };
    choice.queues[0] = Some(QueueConfiguration { size: 512, descriptors: 0x1000, driver: 0x4000, device: 0x6000 });
    monitor.configure(&choice);
    while first.work() {}
    assert_eq!(monitor.outcome(), Outcome::Done);
    // Every head of the first queue is said to be in flight.
    for word in &words[73..81] {
        word.store(u64::MAX, SeqCst);
    }
    let mut next = service(&bus, words, &memory);
    monitor.resume(&choice);
    let before = ALLOCATIONS.get();
    while next.work() {}
    assert_eq!(ALLOCATIONS.get(), before);
    assert_eq!(monitor.outcome(), Outcome::Done);
    assert!(monitor.needs_reset(), "there are no requests");
}
