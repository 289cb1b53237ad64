//! A slot: one capability, its place in the derivation tree, and what it is used for.

use crate::object::ObjectHeader;
use crate::phys::{HostPhysical, Ref};
use bulkhead_abi::{Error, ObjectType, Rights};
use core::cell::Cell;

/// Type field of a slot whose object is being created.
const CREATING: u16 = 0xfffe;
/// Type field of a slot that has been deleted, but whose object is still being taken apart.
const DELETED: u16 = 0xffff;

/// What the capability in a slot is used for at the moment. One capability has at most one use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C, u32)]
pub enum Usage {
    /// Nothing.
    None = 0,
    /// It is being mapped in a space: [`Slot::mapped_length`] bytes are done.
    Mapping,
    /// It is mapped in a space.
    Mapped,
    /// It is being unmapped: [`Slot::mapped_length`] bytes are left.
    Unmapping,
    /// A mapping that failed with the error is being undone.
    RollingBack(Error),
    /// It is donated to a space's pool.
    Donated,
}

/// A slot's place in a list of slots.
#[repr(C)]
pub(crate) struct Neighbours {
    pub(crate) next: Cell<Option<Ref<Slot>>>,
    pub(crate) previous: Cell<Option<Ref<Slot>>>,
}

/// One capability. All zero: an empty slot.
#[repr(C, align(128))]
pub struct Slot {
    /// Type in bits 0 to 15, rights in bits 16 to 31: one comparison checks both.
    type_and_rights: Cell<u32>,
    pub(crate) usage: Cell<Usage>,
    /// The object's address in the window, or the first unit of a range.
    object: Cell<u64>,
    badge: Cell<u64>,
    /// Units of a range.
    count: Cell<u64>,
    pub(crate) parent: Cell<Option<Ref<Slot>>>,
    pub(crate) first_child: Cell<Option<Ref<Slot>>>,
    pub(crate) siblings: Neighbours,
    pub(crate) space: Cell<Option<Ref<ObjectHeader>>>,
    pub(crate) uses: Neighbours,
    pub(crate) address: Cell<u64>,
    pub(crate) attributes: Cell<u64>,
    pub(crate) progress: Cell<u64>,
}

const _: () = assert!(size_of::<Slot>() == 128);

/// A capability's own content, apart from its place in the tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Capability {
    pub(crate) object_type: ObjectType,
    pub(crate) rights: Rights,
    pub(crate) badge: u64,
    pub(crate) object: u64,
    pub(crate) count: u64,
}

const fn pack(object_type: u16, rights: Rights) -> u32 {
    object_type as u32 | (rights.bits() as u32) << 16
}

impl Slot {
    /// The object's address in the window (for a range its first unit), if the slot holds a capability of this type with at
    /// least these rights.
    #[inline(always)]
    pub fn expect(&self, object_type: ObjectType, rights: Rights) -> Result<u64, Error> {
        let wanted = pack(object_type as u16, rights);
        if self.type_and_rights.get() & (wanted | 0xffff) == wanted {
            Ok(self.object.get())
        } else {
            Err(self.refusal(object_type))
        }
    }

    #[cold]
    fn refusal(&self, object_type: ObjectType) -> Error {
        match self.object_type() {
            ObjectType::None => Error::SlotEmpty,
            other if other != object_type => Error::WrongType,
            _ => Error::MissingRight,
        }
    }

    /// Refuses a slot that holds no capability or lacks the rights, whatever its type.
    pub fn expect_rights(&self, rights: Rights) -> Result<(), Error> {
        Error::SlotEmpty.when(self.object_type() == ObjectType::None)?;
        Error::MissingRight.when(!self.rights().contains(rights))
    }

    /// The type of the capability; `None` if the slot is empty, or its object is being created or taken apart.
    pub fn object_type(&self) -> ObjectType {
        ObjectType::from_number(u64::from(self.type_and_rights.get() as u16)).unwrap_or(ObjectType::None)
    }

    /// The rights of the capability.
    pub fn rights(&self) -> Rights {
        Rights::from_bits_truncate((self.type_and_rights.get() >> 16) as u16)
    }

    /// The badge of the capability.
    pub fn badge(&self) -> u64 {
        self.badge.get()
    }

    /// Whether a capability can be put here.
    pub fn is_vacant(&self) -> bool {
        self.type_and_rights.get() as u16 == 0
    }

    /// First unit of a range: physical address in bytes, port or interrupt number.
    pub fn first(&self) -> u64 {
        self.object.get()
    }

    /// Units of a range: bytes, ports or interrupts. 0 for other objects.
    pub fn count(&self) -> u64 {
        self.count.get()
    }

    /// First byte of the memory.
    pub fn physical(&self) -> HostPhysical {
        HostPhysical(self.object.get())
    }

    /// What the capability is used for.
    pub fn usage(&self) -> Usage {
        self.usage.get()
    }

    /// The partition or guest space that it is mapped in or donated to.
    pub fn space(&self) -> Option<Ref<ObjectHeader>> {
        self.space.get()
    }

    /// Where it is mapped: virtual or guest-physical address.
    pub fn mapped_address(&self) -> u64 {
        self.address.get()
    }

    /// The attributes of the mapping, as `Engine::map_step` was given them.
    pub fn mapped_attributes(&self) -> u64 {
        self.attributes.get()
    }

    /// Bytes, from the beginning, that are mapped at the moment. The steps of mapping count it up to [`Slot::count`], those of
    /// unmapping down to 0.
    pub fn mapped_length(&self) -> &Cell<u64> {
        &self.progress
    }

    pub(crate) fn set(&self, capability: Capability) {
        self.type_and_rights.set(pack(capability.object_type as u16, capability.rights));
        self.badge.set(capability.badge);
        self.object.set(capability.object);
        self.count.set(capability.count);
    }

    pub(crate) fn get(&self) -> Capability {
        Capability {
            object_type: self.object_type(),
            rights: self.rights(),
            badge: self.badge.get(),
            object: self.object.get(),
            count: self.count.get(),
        }
    }

    /// Marks the slot as the place of an object of this type that is being made of memory.
    pub(crate) fn begin_creating(&self, object_type: ObjectType, first: HostPhysical, length: u64) {
        self.type_and_rights.set(pack(CREATING, Rights::empty()));
        self.badge.set(object_type as u64);
        self.object.set(first.0);
        self.count.set(length);
    }

    /// Whether an object is being created here.
    pub(crate) fn is_creating(&self) -> bool {
        self.type_and_rights.get() as u16 == CREATING
    }

    /// Whether the capability is deleted, and only its object's end is awaited.
    pub(crate) fn is_deleted(&self) -> bool {
        self.type_and_rights.get() as u16 == DELETED
    }

    /// Takes the capability out; the slot must be outside the tree and unused by then.
    pub(crate) fn clear(&self) {
        self.type_and_rights.set(0);
        self.badge.set(0);
        self.object.set(0);
        self.count.set(0);
        self.progress.set(0);
    }

    /// Takes the capability out, but keeps the slot occupied.
    pub(crate) fn clear_to_deleted(&self) {
        self.clear();
        self.type_and_rights.set(pack(DELETED, Rights::empty()));
    }

    /// Takes every right away, so that nothing new can be derived while the capability is deleted.
    pub(crate) fn strip_rights(&self) {
        self.type_and_rights.set(self.type_and_rights.get() & 0xffff);
    }
}
