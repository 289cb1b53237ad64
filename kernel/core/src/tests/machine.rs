//! A small machine in the heap: RAM, a frame table, an engine, and the kernel's hooks in their simplest form.

use crate::Progress;
use crate::engine::{Engine, Hooks};
use crate::frames::{FrameRange, FrameTable, Group, MOST_MAPPINGS};
use crate::object::ObjectHeader;
use crate::page_table::{Attributes, Ept, Format, Mapping, Native, PageSize, PageTable, Pool};
use crate::phys::{Array, HostPhysical, KernelObject, Ref, TypedObject};
use crate::slot::Slot;
use crate::table::Table;
use bulkhead_abi::{Error, ObjectType, PAGE_SIZE, Rights};
use core::cell::Cell;
use std::alloc::{Layout, alloc_zeroed, dealloc};

/// Slots in a page.
pub const SLOTS_PER_PAGE: u64 = PAGE_SIZE / size_of::<Slot>() as u64;

/// RAM in the heap; in the tests, physical addresses are addresses of the process.
pub struct Ram {
    base: *mut u8,
    layout: Layout,
}

impl Ram {
    pub fn new(pages: u64) -> Self {
        let layout =
            Layout::from_size_align((pages * PAGE_SIZE) as usize, 512 * PAGE_SIZE as usize).expect("a valid layout");
        // SAFETY: the layout's size is not zero.
        let base = unsafe { alloc_zeroed(layout) };
        assert!(!base.is_null());
        base.expose_provenance();
        Self { base, layout }
    }

    pub fn base(&self) -> HostPhysical {
        HostPhysical(self.base as u64)
    }

    /// Number of pages.
    pub fn pages(&self) -> u64 {
        self.layout.size() as u64 / PAGE_SIZE
    }

    /// The address of a page.
    pub fn page(&self, index: u64) -> HostPhysical {
        assert!(index < self.pages());
        HostPhysical(self.base().0 + index * PAGE_SIZE)
    }
}

impl Drop for Ram {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout.
        unsafe { dealloc(self.base, self.layout) };
    }
}

/// An array of zeroed cells in its own block of the heap.
pub fn array<T: KernelObject>(ram: &Ram, length: u64) -> Array<T> {
    assert!(length * size_of::<T>() as u64 <= ram.pages() * PAGE_SIZE);
    // SAFETY: the block is zeroed, large enough, and used for this array alone, which its owner keeps as long as the block.
    unsafe { Array::new(ram.base().object(), length) }
}

/// What partitions and guest spaces consist of here.
#[repr(C)]
pub struct Space {
    header: ObjectHeader,
    pub pool: Pool,
    pub root: Cell<u64>,
}

/// A partition: this page, and its table in the pages behind.
#[repr(transparent)]
pub struct Partition(pub Space);
/// A guest space.
#[repr(transparent)]
pub struct GuestSpace(pub Space);

// SAFETY: cells, valid when zero.
unsafe impl KernelObject for Partition {}
// SAFETY: cells, valid when zero.
unsafe impl KernelObject for GuestSpace {}
// SAFETY: begins with the header, fits in a page, the only type for partitions in the tests.
unsafe impl TypedObject for Partition {
    const TYPE: ObjectType = ObjectType::Partition;
}
// SAFETY: begins with the header, fits in a page, the only type for guest spaces in the tests.
unsafe impl TypedObject for GuestSpace {
    const TYPE: ObjectType = ObjectType::GuestSpace;
}

/// What threads consist of here: slots for what they are bound to.
#[repr(C)]
pub struct Thread {
    header: ObjectHeader,
    _unused: [u64; 8],
    bindings: [Slot; BINDINGS as usize],
}

/// Slots in a thread.
pub const BINDINGS: u64 = 2;

// SAFETY: cells, valid when zero.
unsafe impl KernelObject for Thread {}
// SAFETY: begins with the header, fits in a page, the only type for threads in the tests.
unsafe impl TypedObject for Thread {
    const TYPE: ObjectType = ObjectType::Thread;
}

/// A slot that is part of a thread.
pub fn binding(thread: Ref<ObjectHeader>, index: u64) -> Ref<Slot> {
    let thread = thread.downcast::<Thread>().expect("a thread");
    let slot = &thread.bindings[index as usize];
    // SAFETY: the slot lives as long as the thread, whose pages are the kernel's.
    unsafe { Ref::from_address(core::ptr::from_ref(slot) as u64) }.expect("not null")
}

/// The table of a partition: all pages but the first.
pub fn table_of(partition: Ref<ObjectHeader>) -> Table {
    assert_eq!(partition.object_type(), ObjectType::Partition);
    let slots = (u64::from(partition.pages()) - 1) * SLOTS_PER_PAGE;
    // SAFETY: the pages behind a partition's first are zeroed at its creation and hold nothing but slots.
    Table::new(partition, unsafe { Array::new(HostPhysical(partition.page().0 + PAGE_SIZE).object(), slots) })
}

/// The space part of a partition or guest space.
pub fn with_space<R>(object: Ref<ObjectHeader>, use_it: impl FnOnce(&Space) -> R) -> R {
    if let Some(partition) = object.downcast::<Partition>() {
        use_it(&partition.0)
    } else if let Some(guest) = object.downcast::<GuestSpace>() {
        use_it(&guest.0)
    } else {
        panic!("{:?} is no space", object.object_type())
    }
}

/// Calls the generic function with the format of the space's page tables.
macro_rules! with_tables {
    ($object:expr, $space:expr, $tables:ident => $body:expr) => {
        if $object.object_type() == ObjectType::Partition {
            let $tables = PageTable::<Native>::new(HostPhysical($space.root.get()));
            $body
        } else {
            let $tables = PageTable::<Ept>::new(HostPhysical($space.root.get()));
            $body
        }
    };
}

/// What an address of a space translates to.
pub fn translate(object: Ref<ObjectHeader>, address: u64) -> Option<(HostPhysical, Rights)> {
    with_space(object, |space| {
        if space.root.get() == 0 {
            return None;
        }
        with_tables!(object, space, tables => {
            tables.translate(address).map(|found| (found.physical, found.attributes.rights))
        })
    })
}

/// How often a page is mapped; nothing if it is the kernel's or no RAM.
pub fn mappings(frames: &FrameTable, page: HostPhysical) -> Option<u32> {
    frames.state(page.0 / PAGE_SIZE).filter(|&state| state <= MOST_MAPPINGS)
}

/// Bytes that the page tables of a space map.
pub fn mapped_bytes(object: Ref<ObjectHeader>) -> u64 {
    fn walk<F: Format>(table: HostPhysical, level: u32) -> u64 {
        let mut bytes = 0;
        for word in table.page_words().iter() {
            let entry = word.get();
            if F::is_present(entry) {
                bytes += if level == 0 || entry & (1 << 7) != 0 {
                    PAGE_SIZE << (9 * level)
                } else {
                    walk::<F>(HostPhysical(entry & 0x000f_ffff_ffff_f000), level - 1)
                };
            }
        }
        bytes
    }
    with_space(object, |space| match space.root.get() {
        0 => 0,
        root if object.object_type() == ObjectType::Partition => walk::<Native>(HostPhysical(root), 3),
        root => walk::<Ept>(HostPhysical(root), 3),
    })
}

/// The machine.
pub struct Machine {
    pub ram: Ram,
    pub engine: Engine,
    /// Init's partition, in the first pages of RAM.
    pub init: Ref<ObjectHeader>,
    // The frame table's storage.
    _pages: Ram,
    _groups: Ram,
}

/// Pages of init's partition.
pub const INIT_PAGES: u64 = 9;

impl Machine {
    /// A machine with this much RAM, and init's partition at its beginning.
    pub fn new(ram_pages: u64) -> Self {
        let ram = Ram::new(ram_pages);
        let pages = Ram::new(ram_pages.div_ceil(1024));
        let groups = Ram::new(1);
        let frames = FrameTable::new(
            ram.base(),
            array(&pages, ram_pages),
            array::<Group>(&groups, FrameTable::groups_for(ram_pages)),
        );
        let all = FrameRange::new(ram.base(), ram_pages * PAGE_SIZE).expect("a range");
        frames.add_ram(all).expect("nothing there before");
        let own = FrameRange::new(ram.base(), INIT_PAGES * PAGE_SIZE).expect("a range");
        frames.claim_for_kernel(own).expect("free");
        let engine = Engine::new(frames);
        let init = ram.base().new_header();
        engine.initialise_object(init, ObjectType::Partition, INIT_PAGES as u32);
        Self { ram, engine, init, _pages: pages, _groups: groups }
    }

    /// Creates an object without interruption.
    pub fn create(
        &self,
        memory: Ref<Slot>,
        object_type: ObjectType,
        offset: u64,
        pages: u64,
        table: Table,
        index: u64,
    ) -> Result<Ref<ObjectHeader>, Error> {
        loop {
            if let Some(object) = self.engine.create_step(memory, object_type, offset, pages, table, index)? {
                return Ok(object);
            }
        }
    }
}

impl Hooks for Machine {
    fn destroy_step(&self, object: Ref<ObjectHeader>) -> Progress {
        match object.object_type() {
            ObjectType::Partition => {
                if self.engine.clear_table_step(table_of(object), self) == Progress::Again {
                    return Progress::Again;
                }
            }
            ObjectType::GuestSpace => {}
            ObjectType::Thread => {
                for index in 0..BINDINGS {
                    let slot = binding(object, index);
                    if !slot.is_vacant() {
                        let _ = self.engine.unbind_step(slot, self);
                        return Progress::Again;
                    }
                }
                return Progress::Done;
            }
            _ => return Progress::Done,
        }
        with_space(object, |space| {
            if space.root.get() != 0 {
                let torn = with_tables!(object, space, tables => tables.destroy_step(&space.pool));
                if torn == Progress::Done {
                    let root = HostPhysical(space.root.replace(0));
                    crate::phys::zero_page(root);
                    space.pool.give(root);
                }
                return Progress::Again;
            }
            let Some(page) = space.pool.take() else {
                return Progress::Done;
            };
            let range = FrameRange::page(page).expect("a page");
            self.engine.frames().release_from_kernel(range).expect("the kernel's");
            Progress::Again
        })
    }

    fn map_step(&self, slot: &Slot) -> Result<Progress, Error> {
        if slot.object_type() == ObjectType::IoPorts {
            slot.mapped_length().set(slot.count());
            return Ok(Progress::Done);
        }
        let object = slot.space().expect("a slot that is being mapped has a space");
        with_space(object, |space| {
            if space.root.get() == 0 {
                return Err(Error::PoolExhausted);
            }
            let mapping = Mapping::new(slot.mapped_address(), slot.physical(), slot.count())?;
            let attributes = Attributes {
                rights: Rights::from_bits_truncate(slot.mapped_attributes() as u16),
                uncached: false,
                user: true,
            };
            with_tables!(object, space, tables => {
                tables.map_step(&mapping, attributes, &space.pool, PageSize::Huge, slot.mapped_length())
            })
        })
    }

    fn unmap_step(&self, slot: &Slot) -> Progress {
        let object = slot.space().expect("a slot that is being unmapped has a space");
        if slot.object_type() == ObjectType::IoPorts {
            slot.mapped_length().set(0);
            return Progress::Done;
        }
        with_space(object, |space| {
            if space.root.get() == 0 {
                return Progress::Done;
            }
            with_tables!(object, space, tables => tables.unmap_step(slot.mapped_address(), slot.mapped_length()))
        })
    }

    fn give_page(&self, space: Ref<ObjectHeader>, page: HostPhysical) {
        assert!(is_zero(page), "a donated page was not zeroed");
        with_space(space, |space| {
            if space.root.get() == 0 {
                space.root.set(page.0);
            } else {
                space.pool.give(page);
            }
        });
    }
}

/// Whether a page is all zero.
pub fn is_zero(page: HostPhysical) -> bool {
    page.page_words().iter().all(|word| word.get() == 0)
}

/// The pages of a space's pool and page tables; those in the pool must be zero.
pub fn pages_of_space(object: Ref<ObjectHeader>) -> std::vec::Vec<u64> {
    fn walk(table: HostPhysical, level: u32, present: fn(u64) -> bool, pages: &mut std::vec::Vec<u64>) {
        pages.push(table.0);
        if level == 0 {
            return;
        }
        for word in table.page_words().iter() {
            let entry = word.get();
            if present(entry) && entry & (1 << 7) == 0 {
                walk(HostPhysical(entry & 0x000f_ffff_ffff_f000), level - 1, present, pages);
            }
        }
    }
    with_space(object, |space| {
        let mut pages = std::vec::Vec::new();
        if space.root.get() != 0 {
            let present =
                if object.object_type() == ObjectType::Partition { Native::is_present } else { Ept::is_present };
            walk(HostPhysical(space.root.get()), 3, present, &mut pages);
        }
        let taken: std::vec::Vec<HostPhysical> = core::iter::from_fn(|| space.pool.take()).collect();
        for page in taken.into_iter().rev() {
            assert!(is_zero(page), "a page of a pool is not zero");
            pages.push(page.0);
            space.pool.give(page);
        }
        pages
    })
}
