//! Whether what the kernel keeps of capabilities agrees with itself.
//!
//! One slot is looked at with its neighbours: its parent, the slots beside it in lists, the space that uses it, its first page's
//! account. So each look is short; if all slots agree with their neighbours, the whole tree and all lists are as they must be.

use super::{Engine, is_range};
use crate::frames::{DEVICE, KERNEL};
use crate::phys::Ref;
use crate::slot::{Neighbours, Slot, Usage};
use bulkhead_abi::{ObjectType, PAGE_SIZE};

impl Engine {
    /// What `PartitionMethod::InspectSlot` tells; nothing if the slot contradicts its neighbours.
    pub fn inspect(&self, slot: Ref<Slot>) -> Option<[u64; 6]> {
        let own = slot.get();
        let object = if is_range(own.object_type) { own.object } else { slot.object_header().generation() };
        let account = u64::from(self.account(slot).unwrap_or(DEVICE)) << 32;
        let rights = u64::from(own.rights.bits()) | (slot.mapped_attributes() & 0xffff) << 16 | account;
        let space = slot.space().map_or(0, |space| space.generation());
        self.agrees(slot).then_some([own.object_type as u64, rights, own.badge, own.count, object, space])
    }

    /// What the first page of memory or of an object is used for; nothing for other ranges, and for pages outside the account.
    fn account(&self, slot: Ref<Slot>) -> Option<u32> {
        let is_paged = !matches!(slot.object_type(), ObjectType::IoPorts | ObjectType::Interrupt);
        is_paged.then(|| self.frames.state(first_unit(slot) / PAGE_SIZE))?
    }

    /// Whether a slot agrees with its neighbours. Bounded; changes nothing.
    pub fn agrees(&self, slot: Ref<Slot>) -> bool {
        let (parent, child, space, usage) = (slot.parent.get(), slot.first_child.get(), slot.space.get(), slot.usage());
        let account = self.account(slot);
        let is_kernel = account == Some(KERNEL);
        let is_right = match slot.object_type() {
            ObjectType::None if !slot.is_creating() => parent.is_none() && child.is_none() && usage == Usage::None,
            ObjectType::IoPorts | ObjectType::Interrupt => true,
            // A dying space gives its pool's pages back before the capability's use ends.
            ObjectType::Memory if usage == Usage::Donated => is_kernel || space.is_some_and(|one| !one.is_live()),
            ObjectType::Memory => usage == Usage::None || (account != Some(0) && !is_kernel),
            // What the boot made lies in memory that is not counted.
            _ => account.is_none_or(|account| account >= DEVICE),
        };
        is_right
            && (usage == Usage::None) == space.is_none()
            && parent.is_none_or(|parent| is_within(slot, parent))
            && child.is_none_or(|child| child.parent.get() == Some(slot))
            && slot.siblings.next.get().is_none_or(|next| next.parent.get() == parent)
            && slot.uses.next.get().is_none_or(|next| next.space.get() == space)
            && is_linked(slot, parent.and_then(|parent| parent.first_child.get()), |one| &one.siblings)
            && is_linked(slot, space.and_then(|space| space.first_use.get()), |one| &one.uses)
    }
}

/// Whether a slot's neighbours in a list know it; `first` is the list's first slot, if the slot is in one.
fn is_linked(slot: Ref<Slot>, first: Option<Ref<Slot>>, neighbours: fn(&Slot) -> &Neighbours) -> bool {
    let (previous, next) = (neighbours(&slot).previous.get(), neighbours(&slot).next.get());
    previous.is_none() == first.is_none_or(|first| first == slot)
        && next.is_none_or(|next| neighbours(&next).previous.get() == Some(slot))
        && previous.is_none_or(|previous| neighbours(&previous).next.get() == Some(slot))
}

/// First unit of the range that a capability names, or first byte of its object.
fn first_unit(slot: Ref<Slot>) -> u64 {
    if is_range(slot.object_type()) { slot.first() } else { slot.object_header().page().0 }
}

/// Whether a capability is no more than what it was derived from, or an object made of it. One that is being deleted has no rights.
fn is_within(slot: Ref<Slot>, parent: Ref<Slot>) -> bool {
    let (own, above, first, start) = (slot.get(), parent.get(), first_unit(slot), first_unit(parent));
    let is_less = above.rights.is_empty() || above.rights.contains(own.rights);
    let is_part = is_less && (above.badge == 0 || above.badge == own.badge);
    let is_child = if own.object_type == above.object_type { is_part } else { above.object_type == ObjectType::Memory };
    is_child && start <= first && first.saturating_add(own.count) <= start.saturating_add(above.count)
}
