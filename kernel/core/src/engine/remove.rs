//! Deleting and revoking capabilities, and taking objects apart.

use super::{Engine, Hooks, adopt, detach, is_range};
use crate::frames::FrameRange;
use crate::object::{ObjectHeader, ObjectState};
use crate::phys::{HostPhysical, Ref, zero_page};
use crate::slot::{Slot, Usage};
use crate::table::Table;
use crate::{Progress, elementary_step};
use bulkhead_abi::{Error, PAGE_SIZE, Rights};

/// Empty slots that one step of clearing a table passes over at most.
const SLOTS_PER_STEP: u64 = 64;

impl Engine {
    /// Deletes everything derived from the capability. To be repeated until `Done`. Needs `REVOKE`.
    pub fn revoke_step(&self, slot: Ref<Slot>, hooks: &impl Hooks) -> Result<Progress, Error> {
        slot.expect_rights(Rights::REVOKE)?;
        Ok(match slot.first_child.get() {
            Some(child) => {
                if self.remove_step(child, hooks) == Progress::Done {
                    child.clear();
                }
                Progress::Again
            }
            None => self.destroy_step(hooks),
        })
    }

    /// Deletes the capability; what was derived from it goes to its parent. To be repeated until `Done`: the slot stays
    /// occupied, though without a capability, until the object, if this was the last capability to it, is gone.
    pub fn delete_step(&self, slot: Ref<Slot>, hooks: &impl Hooks) -> Result<Progress, Error> {
        Error::SlotEmpty.when(slot.is_vacant())?;
        if !slot.is_deleted() {
            if self.remove_step(slot, hooks) == Progress::Again {
                return Ok(Progress::Again);
            }
            slot.clear_to_deleted();
        }
        let progress = self.destroy_step(hooks);
        if progress == Progress::Done {
            slot.clear();
        }
        Ok(progress)
    }

    /// Empties the table of a dying partition a bit further; what was derived from its capabilities goes to their parents.
    /// For [`Hooks::destroy_step`] alone.
    pub fn clear_table_step(&self, table: Table, hooks: &impl Hooks) -> Progress {
        let owner = table.owner();
        let mut index = owner.cleared.get();
        let end = index.saturating_add(SLOTS_PER_STEP);
        while index < end {
            elementary_step();
            let Ok(slot) = table.lookup(index) else { return Progress::Done };
            if !slot.is_vacant() {
                if slot.is_deleted() || self.remove_step(slot, hooks) == Progress::Done {
                    slot.clear();
                }
                break;
            }
            index += 1;
        }
        owner.cleared.set(index);
        Progress::Again
    }

    /// Empties a slot that is part of a kernel object, as [`Engine::derive_to`] fills it. To be repeated until `Done`. An object
    /// that this was the last capability to joins the queue of the dying.
    pub fn unbind_step(&self, slot: Ref<Slot>, hooks: &impl Hooks) -> Progress {
        if !slot.is_vacant() {
            if self.remove_step(slot, hooks) == Progress::Again {
                return Progress::Again;
            }
            slot.clear();
        }
        Progress::Done
    }

    /// Takes dying objects apart a bit further. `Done`: there are none left.
    pub fn destroy_step(&self, hooks: &impl Hooks) -> Progress {
        let Some(object) = self.first_dying.get() else { return Progress::Done };
        match object.state() {
            ObjectState::Live | ObjectState::Dying => {
                elementary_step();
                if hooks.destroy_step(object) == Progress::Done {
                    object.state.set(ObjectState::Closing);
                }
            }
            ObjectState::Closing => match object.first_use.get() {
                Some(slot) => self.forget_use(slot),
                None => {
                    object.state.set(ObjectState::Dead);
                    if object.references() > 0 {
                        self.dequeue(object);
                    }
                }
            },
            ObjectState::Dead => self.release_page(object),
        }
        if self.first_dying.get().is_none() { Progress::Done } else { Progress::Again }
    }

    /// Zeroes and frees the last page of a dead object that no capability names.
    fn release_page(&self, object: Ref<ObjectHeader>) {
        let rest = object.pages().saturating_sub(1);
        object.pages.set(rest);
        if rest == 0 {
            self.dequeue(object);
        }
        let page = HostPhysical(object.page().0.wrapping_add(u64::from(rest) * PAGE_SIZE));
        zero_page(page);
        self.release(page, PAGE_SIZE);
    }

    /// Gives memory that was the kernel's back to the partitions that have capabilities to it.
    pub fn release(&self, first: HostPhysical, length: u64) {
        let released = FrameRange::new(first, length).and_then(|range| self.frames.release_from_kernel(range));
        debug_assert!(released.is_ok(), "a page of an object or pool was not the kernel's");
    }

    /// One step of taking a capability out of the tree and ending its use. `Done`: the slot is outside the tree, and its content
    /// can be cleared.
    fn remove_step(&self, slot: Ref<Slot>, hooks: &impl Hooks) -> Progress {
        slot.strip_rights();
        if let Some(child) = slot.first_child.get() {
            detach(child);
            if let Some(parent) = slot.parent.get() {
                adopt(parent, child);
            }
            return Progress::Again;
        }
        match slot.usage() {
            Usage::None => {}
            Usage::Donated => {
                let space = slot.space.get();
                self.forget_use(slot);
                if let Some(space) = space {
                    self.end(space);
                }
                return Progress::Again;
            }
            _ => {
                slot.usage.set(Usage::Unmapping);
                // Whether there is more to unmap or not, the rest is the next step's.
                let _ = self.unmap_more(slot, hooks);
                return Progress::Again;
            }
        }
        if slot.is_creating() {
            self.release(slot.physical(), slot.count());
        } else if !is_range(slot.object_type()) {
            let object = slot.object_header();
            if object.drop_reference() == 0 {
                self.end(object);
            }
        }
        detach(slot);
        Progress::Done
    }

    /// Queues an object that lost its last capability, or whose memory was taken away.
    fn end(&self, object: Ref<ObjectHeader>) {
        match object.state() {
            ObjectState::Live => object.state.set(ObjectState::Dying),
            // Taken apart before, and now without capabilities.
            ObjectState::Dead if object.references() == 0 => {}
            _ => return,
        }
        object.next_dying.set(None);
        match self.last_dying.get() {
            Some(last) => last.next_dying.set(Some(object)),
            None => self.first_dying.set(Some(object)),
        }
        self.last_dying.set(Some(object));
    }

    /// Takes the first object out of the queue.
    fn dequeue(&self, object: Ref<ObjectHeader>) {
        let next = object.next_dying.take();
        self.first_dying.set(next);
        if next.is_none() {
            self.last_dying.set(None);
        }
    }
}
