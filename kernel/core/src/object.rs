//! What every kernel object begins with.

use crate::phys::Ref;
use crate::slot::Slot;
use bulkhead_abi::ObjectType;
use core::cell::Cell;

/// Where an object is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum ObjectState {
    /// In use.
    Live = 0,
    /// Queued for destruction: the kernel is taking apart what it refers to.
    Dying = 1,
    /// Taken apart; the engine forgets what was mapped in it and donated to it.
    Closing = 2,
    /// Nothing is left but the pages, which go when the last capability does.
    Dead = 3,
}

/// The first 64 bytes of the first page of every kernel object.
#[repr(C, align(64))]
pub struct ObjectHeader {
    object_type: Cell<u16>,
    pub(crate) state: Cell<ObjectState>,
    pub(crate) pages: Cell<u32>,
    references: Cell<u64>,
    generation: Cell<u64>,
    /// How many slots of its table a dying partition has cleared.
    pub(crate) cleared: Cell<u64>,
    /// Next object in the engine's queue of dying objects.
    pub(crate) next_dying: Cell<Option<Ref<ObjectHeader>>>,
    /// First of the capabilities that are mapped in or donated to this object.
    pub(crate) first_use: Cell<Option<Ref<Slot>>>,
}

const _: () = assert!(size_of::<ObjectHeader>() == 64);

impl ObjectHeader {
    /// Makes zeroed pages an object without capabilities.
    pub(crate) fn initialise(&self, object_type: ObjectType, pages: u32, generation: u64) {
        self.object_type.set(object_type as u16);
        self.pages.set(pages);
        self.generation.set(generation);
    }

    /// The object's type.
    pub fn object_type(&self) -> ObjectType {
        ObjectType::from_number(u64::from(self.object_type.get())).unwrap_or(ObjectType::None)
    }

    /// Where the object is in its life.
    pub fn state(&self) -> ObjectState {
        self.state.get()
    }

    /// Whether the object can be used. Partitions and guest spaces can be dead while capabilities to them remain, when memory
    /// that was donated to them is revoked; objects of other types are live as long as a capability names them.
    pub fn is_live(&self) -> bool {
        self.state.get() == ObjectState::Live
    }

    /// Number of pages that the object consists of.
    pub fn pages(&self) -> u32 {
        self.pages.get()
    }

    /// Number of capabilities that name the object.
    pub fn references(&self) -> u64 {
        self.references.get()
    }

    /// A number that no other object since boot has had.
    pub fn generation(&self) -> u64 {
        self.generation.get()
    }

    /// Counts one more capability. 2^64 slots do not fit in memory, so the count cannot overflow.
    pub(crate) fn add_reference(&self) {
        self.references.set(self.references.get().saturating_add(1));
    }

    /// Counts one capability less; answers how many remain.
    pub(crate) fn drop_reference(&self) -> u64 {
        let rest = self.references.get().saturating_sub(1);
        self.references.set(rest);
        rest
    }
}
