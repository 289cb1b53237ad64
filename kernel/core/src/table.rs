//! A capability table: the slots of a partition.

use crate::object::ObjectHeader;
use crate::phys::{Array, Ref};
use crate::slot::Slot;
use bulkhead_abi::Error;

/// The capability table of a partition.
#[derive(Clone, Copy)]
pub struct Table {
    slots: Array<Slot>,
    owner: Ref<ObjectHeader>,
}

impl Table {
    /// The table of the partition `owner`.
    pub const fn new(owner: Ref<ObjectHeader>, slots: Array<Slot>) -> Self {
        Self { slots, owner }
    }

    /// The slot with this index.
    pub fn lookup(self, index: u64) -> Result<Ref<Slot>, Error> {
        self.slots.get(index).ok_or(Error::SlotOutOfRange)
    }

    /// The slot with this index, if a capability can be put there.
    #[inline(always)]
    pub fn vacant(self, index: u64) -> Result<Ref<Slot>, Error> {
        let slot = self.lookup(index)?;
        Error::Gone.when(!self.owner.is_live())?;
        Error::SlotOccupied.when(!slot.is_vacant())?;
        Ok(slot)
    }

    /// Number of slots.
    pub fn length(self) -> u64 {
        self.slots.length()
    }

    /// The partition.
    pub fn owner(self) -> Ref<ObjectHeader> {
        self.owner
    }
}
