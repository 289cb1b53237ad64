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
const MOST_DONATED_PAGES: u64 = 4096;

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
            Ok(Progress::Again) => {}
            Ok(Progress::Done) => slot.usage.set(Usage::Mapped),
            Err(error) => slot.usage.set(Usage::RollingBack(error)),
        }
        // An error is told when all is undone.
        outcome.or(Ok(Progress::Again))
    }

    fn begin_mapping(
        &self,
        slot: Ref<Slot>,
        space: Ref<ObjectHeader>,
        address: u64,
        attributes: u64,
    ) -> Result<(), Error> {
        Error::Gone.when(!space.is_live())?;
        match slot.object_type() {
            ObjectType::Memory => {
                Error::OutOfRange.when(slot.count() > MOST_MAPPED_BYTES)?;
                self.frames.add_mapping(range_of(&slot)?)?;
            }
            ObjectType::IoPorts => {}
            ObjectType::None => return Err(Error::SlotEmpty),
            _ => return Err(Error::WrongType),
        }
        slot.address.set(address);
        slot.attributes.set(attributes);
        slot.progress.set(0);
        slot.usage.set(Usage::Mapping);
        use_in(space, slot);
        Ok(())
    }

    /// Undoes the mapping of a capability. To be repeated until `Done`.
    pub fn unmap_step(&self, slot: Ref<Slot>, hooks: &impl Hooks) -> Result<Progress, Error> {
        match slot.usage() {
            Usage::None | Usage::Donated => Err(Error::NotMapped),
            _ => {
                slot.usage.set(Usage::Unmapping);
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
        slot.usage.set(Usage::None);
        if let Some(space) = slot.space.take() {
            unlink(&space.first_use, slot, |slot| &slot.uses);
        }
    }

    /// Gives the memory of a capability, zeroed, to the pool of a partition or guest space, one page a step. Needs `CREATE`; the memory must be neither mapped nor in use. To be repeated with the same arguments until `Done`.
    /// From then on the space ends when the capability does.
    pub fn donate_step(
        &self,
        slot: Ref<Slot>,
        space: Ref<ObjectHeader>,
        hooks: &impl Hooks,
    ) -> Result<Progress, Error> {
        slot.expect(ObjectType::Memory, Rights::CREATE)?;
        Error::Gone.when(!space.is_live())?;
        match slot.usage() {
            Usage::None => {
                Error::OutOfRange.when(slot.count() > MOST_DONATED_PAGES * PAGE_SIZE)?;
                self.frames.claim_for_kernel(range_of(&slot)?)?;
                slot.progress.set(0);
                slot.usage.set(Usage::Donated);
                use_in(space, slot);
            }
            Usage::Donated if slot.space.get() == Some(space) && slot.progress.get() < slot.count() => {}
            _ => return Err(Error::MemoryInUse),
        }
        let given = slot.progress.get();
        let (page, end) = (HostPhysical(slot.first().wrapping_add(given)), given + PAGE_SIZE);
        zero_page(page);
        hooks.give_page(space, page);
        slot.progress.set(end);
        Ok(if end < slot.count() { Progress::Again } else { Progress::Done })
    }

    /// Zeroes the first page of a part of a Memory capability. Needs `WRITE`.
    pub fn zero_step(&self, slot: Ref<Slot>, offset: u64, length: u64) -> Result<(), Error> {
        let first = slot.expect(ObjectType::Memory, Rights::WRITE)?;
        Error::Misaligned.when(!(offset | length).is_multiple_of(PAGE_SIZE) || length == 0)?;
        Error::OutOfRange.when(offset > slot.count() || length > slot.count() - offset)?;
        let page = HostPhysical(first.wrapping_add(offset));
        Error::MemoryInUse.when(!self.frames.is_partition_ram(FrameRange::page(page)?))?;
        zero_page(page);
        Ok(())
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
