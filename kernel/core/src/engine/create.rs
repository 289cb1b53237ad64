//! Making kernel objects of memory.

use super::{Engine, adopt, install_object};
use crate::frames::FrameRange;
use crate::object::ObjectHeader;
use crate::phys::{HostPhysical, Ref, zero_page};
use crate::slot::Slot;
use crate::table::Table;
use bulkhead_abi::{Error, ObjectType, PAGE_SIZE, Rights};

/// Most pages of one object: a partition with 2^16 slots has 2049 or a few more.
const MOST_OBJECT_PAGES: u64 = 4096;

/// The rights of the first capability to an object of this type.
pub const fn object_rights(object_type: ObjectType) -> Rights {
    let own = match object_type {
        ObjectType::Partition | ObjectType::GuestSpace | ObjectType::Window => Rights::CONTROL,
        ObjectType::Thread | ObjectType::Vcpu => Rights::CONTROL.union(Rights::RUN),
        ObjectType::Endpoint => Rights::CALL.union(Rights::RECEIVE),
        ObjectType::Notification => Rights::SIGNAL.union(Rights::WAIT),
        _ => return Rights::empty(),
    };
    own.union(Rights::READ).union(Rights::WRITE).union(Rights::GRANT).union(Rights::REVOKE)
}

impl Engine {
    /// Makes an object of `pages` pages of a Memory capability, from `offset` on, and puts a capability with all rights, a child
    /// of the memory's, into a table. Needs `CREATE`. The memory must be neither mapped nor in use; it is zeroed, one
    /// page a step; the state between steps is in the destination slot.
    ///
    /// Answers nothing while the memory is not all zeroed: repeat the call with the same arguments. The object is zero but for its
    /// header; the caller initialises the rest before it gives up the kernel lock.
    pub fn create_step(
        &self,
        memory: Ref<Slot>,
        object_type: ObjectType,
        offset: u64,
        pages: u64,
        table: Table,
        index: u64,
    ) -> Result<Option<Ref<ObjectHeader>>, Error> {
        Error::Sealed.when(self.sealed.get())?;
        let base = memory.expect(ObjectType::Memory, Rights::CREATE)?;
        Error::BadArgument.when(super::is_range(object_type))?;
        Error::Misaligned.when(!offset.is_multiple_of(PAGE_SIZE))?;
        Error::BadArgument.when(pages == 0 || pages > MOST_OBJECT_PAGES)?;
        let length = pages * PAGE_SIZE;
        Error::OutOfRange.when(offset > memory.count() || length > memory.count() - offset)?;
        let first = HostPhysical(base.wrapping_add(offset));
        let slot = table.lookup(index)?;
        Error::Gone.when(!table.owner().is_live())?;
        if slot.is_vacant() {
            self.frames.claim_for_kernel(FrameRange::new(first, length)?)?;
            slot.begin_creating(object_type, first, length);
            adopt(memory, slot);
        } else if !(slot.is_creating()
            && slot.parent.get() == Some(memory)
            && slot.badge() == object_type as u64
            && slot.physical() == first
            && slot.count() == length)
        {
            return Err(Error::SlotOccupied);
        }
        let done = slot.progress.get();
        zero_page(HostPhysical(first.0.wrapping_add(done)));
        slot.progress.set(done + PAGE_SIZE);
        if done + PAGE_SIZE < length {
            return Ok(None);
        }
        let object = first.new_header();
        self.initialise_object(object, object_type, pages as u32);
        slot.progress.set(0);
        install_object(slot, object, object_rights(object_type));
        Ok(Some(object))
    }
}
