//! The capability engine: the derivation tree, and the life of the objects that capabilities name.
//!
//! Every derivation makes a child of its source. Deleting a capability gives its children to its parent; revoking one deletes
//! its children until there are none, so every descendant costs two constant steps: it is adopted once, and deleted once. The
//! last capability to an object puts the object on a queue; deletion and revocation end only when the queue is empty. Nothing
//! recurses: a dying partition's table is cleared slot by slot, and objects that die with it join the same queue.

mod check;
mod create;
mod remove;
mod usage;

use crate::frames::{FrameTable, GROUP_PAGES};
use crate::object::ObjectHeader;
use crate::page_table::LEAVES_PER_STEP;
use crate::phys::{HostPhysical, Ref};
use crate::slot::{Capability, Neighbours, Slot};
use crate::table::Table;
use crate::{Progress, elementary_step};
use bulkhead_abi::{Error, ObjectType, PAGE_SIZE, Rights};
use core::cell::Cell;

pub use create::object_rights;
pub use usage::MOST_MAPPED_BYTES;

/// Most elementary steps (a change of a list, a page zeroed, an entry or slot looked at) in any step of the engine, with the
/// hooks' own work on page tables. The largest is to count the pages of a mapping, a group at a time; other steps take a
/// fraction of it.
pub const MOST_ELEMENTARY_STEPS: u64 =
    4 * (MOST_MAPPED_BYTES / (GROUP_PAGES * PAGE_SIZE) + 2 * GROUP_PAGES) + 8 * LEAVES_PER_STEP;

/// What the engine asks of the rest of the kernel.
///
/// The functions are called from the engine's steps and may call [`Engine::clear_table_step`], but no other step.
pub trait Hooks {
    /// Takes an object apart a bit further: stops threads, takes it out of queues, clears a partition's table
    /// ([`Engine::clear_table_step`]), tears down page tables, returns the pages of its pool to the frame table. `object` is the
    /// header's address. After `Done` nothing may refer to the object but capabilities, if it was ended early.
    fn destroy_step(&self, object: Ref<ObjectHeader>) -> Progress;

    /// Maps a bit more of the capability (Memory or IoPorts) in `slot.space()`, from `slot.mapped_length()` on, which it
    /// advances, up to `slot.count()`. After an error the engine has the part that was mapped undone.
    fn map_step(&self, slot: &Slot) -> Result<Progress, Error>;

    /// Unmaps a bit more, from `slot.mapped_length()` downwards, which it lowers, and leaves no stale translation in any
    /// processor for what it unmapped. The space can be dying, with a part of its page tables gone.
    fn unmap_step(&self, slot: &Slot) -> Progress;

    /// Adds a zeroed page to the pool of a partition or guest space.
    fn give_page(&self, space: Ref<ObjectHeader>, page: HostPhysical);
}

/// The capability engine. One in the kernel, under its lock.
pub struct Engine {
    frames: FrameTable,
    sealed: Cell<bool>,
    generation: Cell<u64>,
    first_dying: Cell<Option<Ref<ObjectHeader>>>,
    last_dying: Cell<Option<Ref<ObjectHeader>>>,
}

impl Engine {
    /// An engine over these frames.
    pub const fn new(frames: FrameTable) -> Self {
        Self {
            frames,
            sealed: Cell::new(false),
            generation: Cell::new(0),
            first_dying: Cell::new(None),
            last_dying: Cell::new(None),
        }
    }

    /// The frame table.
    pub fn frames(&self) -> &FrameTable {
        &self.frames
    }

    /// From now on no object can be created, and no port, interrupt or window right be derived.
    pub fn seal(&self) {
        self.sealed.set(true);
    }

    /// Whether the system is sealed.
    pub fn is_sealed(&self) -> bool {
        self.sealed.get()
    }

    /// Makes the header of an object whose pages are claimed and zeroed.
    pub fn initialise_object(&self, object: Ref<ObjectHeader>, object_type: ObjectType, pages: u32) {
        let generation = self.generation.get().wrapping_add(1);
        self.generation.set(generation);
        object.initialise(object_type, pages, generation);
    }

    /// Puts a child of `source` into a table: the same object, those of `rights` that the source has, and `badge` if the source
    /// has none. Needs `GRANT`. This is also how a capability is transferred. Bounded.
    pub fn derive(
        &self,
        source: Ref<Slot>,
        rights: Rights,
        badge: u64,
        table: Table,
        index: u64,
    ) -> Result<Ref<Slot>, Error> {
        source.expect_rights(Rights::GRANT)?;
        let authority =
            matches!(source.object_type(), ObjectType::IoPorts | ObjectType::Interrupt | ObjectType::Window);
        Error::Sealed.when(authority && self.sealed.get())?;
        let slot = table.vacant(index)?;
        self.derive_to(source, rights, badge, slot)?;
        Ok(slot)
    }

    /// Puts a child of `source` into a slot that is part of a kernel object, not of a table: how an object binds another, so
    /// that the binding goes when the capability does. The slot must be vacant. Bounded.
    pub fn derive_to(&self, source: Ref<Slot>, rights: Rights, badge: u64, slot: Ref<Slot>) -> Result<(), Error> {
        Error::SlotOccupied.when(!slot.is_vacant())?;
        let mut capability = source.get();
        Error::SlotEmpty.when(capability.object_type == ObjectType::None)?;
        capability.rights &= rights;
        if capability.badge == 0 {
            capability.badge = badge;
        }
        if !is_range(capability.object_type) {
            // An object's capabilities name it by the address of its header.
            source.object_header().add_reference();
        }
        slot.set(capability);
        adopt(source, slot);
        Ok(())
    }

    /// Puts a child of `source` over a part of its range into a table: `count` units from unit `first`, relative to the source.
    /// Needs `GRANT`. Bounded.
    pub fn derive_range(
        &self,
        source: Ref<Slot>,
        rights: Rights,
        first: u64,
        count: u64,
        table: Table,
        index: u64,
    ) -> Result<Ref<Slot>, Error> {
        source.expect_rights(Rights::GRANT)?;
        let mut capability = source.get();
        match capability.object_type {
            ObjectType::Memory => Error::Misaligned.when(!(first | count).is_multiple_of(PAGE_SIZE))?,
            ObjectType::IoPorts | ObjectType::Interrupt => Error::Sealed.when(self.sealed.get())?,
            _ => return Err(Error::WrongType),
        }
        Error::Misaligned.when(count == 0)?;
        Error::OutOfRange.when(first > capability.count || count > capability.count - first)?;
        let slot = table.vacant(index)?;
        capability.rights &= rights;
        capability.object = capability.object.wrapping_add(first);
        capability.count = count;
        slot.set(capability);
        adopt(source, slot);
        Ok(slot)
    }
}

/// Whether capabilities of this type name a range of numbers, not an object in kernel memory.
const fn is_range(object_type: ObjectType) -> bool {
    matches!(object_type, ObjectType::None | ObjectType::Memory | ObjectType::IoPorts | ObjectType::Interrupt)
}

/// Puts a capability to a range, without a parent, into a vacant slot. For the boot.
pub fn install_range(slot: Ref<Slot>, object_type: ObjectType, rights: Rights, first: u64, count: u64) {
    slot.set(Capability { object_type, rights, badge: 0, object: first, count });
}

/// Puts a capability to an object, without a parent, into a vacant slot. For the boot, and for what creates objects. The object's
/// pages must have been claimed from the frame table and zeroed before [`Engine::initialise_object`].
pub fn install_object(slot: Ref<Slot>, object: Ref<ObjectHeader>, rights: Rights) {
    object.add_reference();
    let (object_type, object) = (object.object_type(), object.address());
    slot.set(Capability { object_type, rights, badge: 0, object, count: 0 });
}

/// Makes `child`, which is in no list, the first child of `parent`.
fn adopt(parent: Ref<Slot>, child: Ref<Slot>) {
    elementary_step();
    child.parent.set(Some(parent));
    link(&parent.first_child, child, |slot| &slot.siblings);
}

/// Takes a slot out of the list of its siblings; it has no parent afterwards.
fn detach(slot: Ref<Slot>) {
    elementary_step();
    if let Some(parent) = slot.parent.take() {
        unlink(&parent.first_child, slot, |slot| &slot.siblings);
    }
}

/// Puts a slot before those of a list.
fn link(first: &Cell<Option<Ref<Slot>>>, slot: Ref<Slot>, neighbours: fn(&Slot) -> &Neighbours) {
    let next = first.replace(Some(slot));
    neighbours(&slot).next.set(next);
    if let Some(next) = next {
        neighbours(&next).previous.set(Some(slot));
    }
}

/// Takes a slot out of a list.
fn unlink(first: &Cell<Option<Ref<Slot>>>, slot: Ref<Slot>, neighbours: fn(&Slot) -> &Neighbours) {
    let previous = neighbours(&slot).previous.take();
    let next = neighbours(&slot).next.take();
    if let Some(next) = next {
        neighbours(&next).previous.set(previous);
    }
    match previous {
        Some(previous) => neighbours(&previous).next.set(next),
        None => first.set(next),
    }
}
