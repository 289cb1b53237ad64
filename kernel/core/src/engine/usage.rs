//! What a capability can be used for, one use at a time: mapped in a space, or donated to a space's pool.

use super::{Engine, Hooks, link, unlink};
use crate::Progress;
use crate::frames::FrameRange;
use crate::object::{ObjectHeader, ObjectState};
use crate::phys::{HostPhysical, Ref, zero_page};
use crate::slot::{Slot, Usage};
use bulkhead_abi::{Error, ObjectType, PAGE_SIZE, Rights};

/// Most bytes of one mapping: bounds the number of groups of pages that are counted at once.
pub const MOST_MAPPED_BYTES: u64 = 64 << 30;
/// Most pages of one donation.
pub const MOST_DONATED_PAGES: u64 = 4096;
/// Pages that one step zeroes at most.
pub const PAGES_PER_STEP: u64 = 1;

impl Engine {
    /// Maps a Memory or IoPorts capability in a partition or guest space. The caller has checked rights and attributes. To be
    /// repeated with the same arguments until `Done`; after an error nothing is mapped.
    pub fn map_step(
        &self,
        slot: Ref<Slot>,
        space: Ref<ObjectHeader>,
        address: u64,
        attributes: u64,
        hooks: &impl Hooks,
    ) -> Result<Progress, Error> {
        match slot.usage() {
            Usage::None => self.begin_mapping(slot, space, address, attributes)?,
            Usage::Mapping | Usage::RollingBack(_)
                if slot.space.get() == Some(space)
                    && slot.address.get() == address
                    && slot.attributes.get() == attributes => {}
            _ => return Err(Error::AlreadyMapped),
        }
        if let Usage::RollingBack(error) = slot.usage() {
            return match self.unmap_more(slot, hooks) {
                Progress::Again => Ok(Progress::Again),
                Progress::Done => Err(error),
            };
        }
        let outcome = if space.is_live() { hooks.map_step(&slot) } else { Err(Error::Gone) };
        match outcome {
            Ok(Progress::Again) => Ok(Progress::Again),
            Ok(Progress::Done) => {
                slot.set_usage(Usage::Mapped);
                Ok(Progress::Done)
            }
            Err(error) => {
                slot.set_usage(Usage::RollingBack(error));
                Ok(Progress::Again)
            }
        }
    }

    fn begin_mapping(
        &self,
        slot: Ref<Slot>,
        space: Ref<ObjectHeader>,
        address: u64,
        attributes: u64,
    ) -> Result<(), Error> {
        if !space.is_live() {
            return Err(Error::Gone);
        }
        match slot.object_type() {
            ObjectType::Memory if slot.count() > MOST_MAPPED_BYTES => {
                return Err(Error::OutOfRange);
            }
            ObjectType::Memory => self.frames.add_mapping(range_of(&slot)?)?,
            ObjectType::IoPorts => {}
            ObjectType::None => return Err(Error::SlotEmpty),
            _ => return Err(Error::WrongType),
        }
        slot.address.set(address);
        slot.attributes.set(attributes);
        slot.progress.set(0);
        slot.set_usage(Usage::Mapping);
        use_in(space, slot);
        Ok(())
    }

    /// Undoes the mapping of a capability. To be repeated until `Done`.
    pub fn unmap_step(&self, slot: Ref<Slot>, hooks: &impl Hooks) -> Result<Progress, Error> {
        match slot.usage() {
            Usage::None | Usage::Donated => Err(Error::NotMapped),
            _ => {
                slot.set_usage(Usage::Unmapping);
                Ok(self.unmap_more(slot, hooks))
            }
        }
    }

    /// One step of undoing a mapping, whatever its state.
    pub(super) fn unmap_more(&self, slot: Ref<Slot>, hooks: &impl Hooks) -> Progress {
        // After a space has been taken apart there is nothing in it to undo.
        let intact =
            slot.space.get().is_some_and(|space| matches!(space.state(), ObjectState::Live | ObjectState::Dying));
        if intact && hooks.unmap_step(&slot) == Progress::Again {
            return Progress::Again;
        }
        self.forget_use(slot);
        Progress::Done
    }

    /// Ends the use of a capability in a space where nothing of it is left.
    pub(super) fn forget_use(&self, slot: Ref<Slot>) {
        match slot.usage() {
            Usage::None => return,
            Usage::Donated => {
                // What has not reached the pool yet; the pool's pages are released with the space.
                let given = slot.progress.get();
                if given < slot.count() {
                    self.release(HostPhysical(slot.first().wrapping_add(given)), slot.count() - given);
                }
            }
            _ => {
                if slot.object_type() == ObjectType::Memory
                    && let Ok(range) = range_of(&slot)
                {
                    self.frames.remove_mapping(range);
                }
            }
        }
        slot.progress.set(0);
        slot.address.set(0);
        slot.attributes.set(0);
        slot.set_usage(Usage::None);
        if let Some(space) = slot.space.take() {
            unlink(&space.first_use, slot, |slot| &slot.uses);
        }
    }

    /// Gives the memory of a capability, zeroed, to the pool of a partition or guest space, at most [`PAGES_PER_STEP`] pages a
    /// step. Needs `CREATE`; the memory must be neither mapped nor in use. To be repeated with the same arguments until `Done`.
    /// From then on the space ends when the capability does.
    pub fn donate_step(
        &self,
        slot: Ref<Slot>,
        space: Ref<ObjectHeader>,
        hooks: &impl Hooks,
    ) -> Result<Progress, Error> {
        slot.expect(ObjectType::Memory, Rights::CREATE)?;
        if !space.is_live() {
            return Err(Error::Gone);
        }
        match slot.usage() {
            Usage::None => {
                if slot.count() > MOST_DONATED_PAGES * PAGE_SIZE {
                    return Err(Error::OutOfRange);
                }
                self.frames.claim_for_kernel(range_of(&slot)?)?;
                slot.progress.set(0);
                slot.set_usage(Usage::Donated);
                use_in(space, slot);
            }
            Usage::Donated if slot.space.get() == Some(space) && slot.progress.get() < slot.count() => {}
            _ => return Err(Error::MemoryInUse),
        }
        let given = slot.progress.get();
        let end = slot.count().min(given + PAGES_PER_STEP * PAGE_SIZE);
        for offset in (given..end).step_by(PAGE_SIZE as usize) {
            let page = HostPhysical(slot.first().wrapping_add(offset));
            zero_page(page);
            hooks.give_page(space, page);
        }
        slot.progress.set(end);
        Ok(if end < slot.count() { Progress::Again } else { Progress::Done })
    }

    /// Zeroes a part of a Memory capability, at most [`PAGES_PER_STEP`] pages; answers how many bytes it did. Needs `WRITE`.
    pub fn zero_step(&self, slot: Ref<Slot>, offset: u64, length: u64) -> Result<u64, Error> {
        let first = slot.expect(ObjectType::Memory, Rights::WRITE)?;
        if !offset.is_multiple_of(PAGE_SIZE) || !length.is_multiple_of(PAGE_SIZE) || length == 0 {
            return Err(Error::Misaligned);
        }
        if offset > slot.count() || length > slot.count() - offset {
            return Err(Error::OutOfRange);
        }
        let length = length.min(PAGES_PER_STEP * PAGE_SIZE);
        let base = first.wrapping_add(offset);
        let range = FrameRange::new(HostPhysical(base), length)?;
        if !self.frames.is_partition_ram(range) {
            return Err(Error::MemoryInUse);
        }
        for offset in (0..length).step_by(PAGE_SIZE as usize) {
            zero_page(HostPhysical(base.wrapping_add(offset)));
        }
        Ok(length)
    }
}

fn range_of(slot: &Slot) -> Result<FrameRange, Error> {
    FrameRange::new(slot.physical(), slot.count())
}

/// Enters a slot among those that are used in a space.
fn use_in(space: Ref<ObjectHeader>, slot: Ref<Slot>) {
    slot.space.set(Some(space));
    link(&space.first_use, slot, |slot| &slot.uses);
}
