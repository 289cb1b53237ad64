//! The comparison of machine and model.

use super::{RAM_PAGES, World};
use crate::frames::FrameRange;
use crate::phys::{HostPhysical, Ref};
use crate::slot::{Slot, Usage};
use crate::tests::machine::{mapped_bytes, mappings, table_of, translate};
use crate::tests::model::{Target, Use};
use bulkhead_abi::{ObjectType, Rights};
use std::collections::BTreeMap;
use std::vec::Vec;

impl World {
    /// Compares everything.
    pub(super) fn check(&self) {
        let mut places = BTreeMap::new();
        for (&id, object) in &self.model.objects {
            let header = self.objects[&id];
            assert_eq!(header.object_type(), object.object_type);
            assert_eq!(header.generation(), id);
            assert_eq!(header.is_live(), object.live);
            assert_eq!(header.references(), object.references);
            assert_eq!(u64::from(header.pages()), object.pages);
            assert_eq!(header.page().0, object.base);
            if object.object_type == ObjectType::Partition {
                assert_eq!(table_of(header).length(), object.slots);
            }
            for index in 0..object.slots {
                let slot = self.slot((id, index)).expect("in range");
                places.insert(slot.address(), (id, index));
            }
        }
        for (&address, &place) in &places {
            let slot = self.slot(place).expect("in range");
            assert_eq!(slot.address(), address);
            assert!(self.machine.engine.agrees(slot), "the capability in {place:?} contradicts its neighbours");
            let Some(capability) = self.model.capabilities.get(&place) else {
                assert!(slot.is_vacant(), "a capability in {place:?} that was never granted");
                assert!(slot.parent.get().is_none() && slot.first_child.get().is_none());
                continue;
            };
            assert_eq!(slot.object_type(), capability.object_type);
            assert_eq!(slot.rights(), capability.rights);
            assert_eq!(slot.badge(), capability.badge);
            match capability.target {
                Target::Range { first, count } => {
                    assert_eq!((slot.first(), slot.count()), (first, count))
                }
                Target::Object(id) => assert_eq!(slot.first(), self.objects[&id].address()),
            }
            assert_eq!(slot.parent.get().map(|parent| places[&parent.address()]), capability.parent);
            let mut children = Vec::new();
            let mut next = slot.first_child.get();
            while let Some(child) = next {
                children.push(places[&child.address()]);
                next = child.siblings.next.get();
            }
            children.sort_unstable();
            assert!(children.iter().eq(capability.children.iter()));
            self.check_usage(slot, capability.usage);
        }
        self.check_frames();
    }

    pub(super) fn check_usage(&self, slot: Ref<Slot>, usage: Use) {
        let space = slot.space();
        match usage {
            Use::None => assert_eq!((slot.usage(), space), (Usage::None, None)),
            Use::Donated { space: id } => {
                assert_eq!((slot.usage(), space), (Usage::Donated, Some(self.objects[&id])));
            }
            Use::Mapped { space: id, address, rights } => {
                let object = self.objects[&id];
                assert_eq!((slot.usage(), space), (Usage::Mapped, Some(object)));
                assert_eq!(slot.mapped_address(), address);
                if slot.object_type() == ObjectType::Memory {
                    for offset in [0, slot.count() - 1] {
                        let found = translate(object, address + offset);
                        assert_eq!(found, Some((HostPhysical(slot.first() + offset), rights | Rights::READ)));
                    }
                }
            }
        }
    }

    pub(super) fn check_frames(&self) {
        let frames = self.machine.engine.frames();
        for page in 0..RAM_PAGES {
            let address = self.machine.ram.page(page);
            let range = FrameRange::page(address).expect("a page");
            let (kernel, mapped) = (self.model.kernel[page as usize], self.model.mapped[page as usize]);
            assert!(!kernel || mapped == 0);
            assert_eq!(frames.is_kernel(range), kernel);
            assert_eq!(mappings(frames, address), (!kernel).then_some(mapped));
            assert_eq!(frames.is_free(range), !kernel && mapped == 0);
        }
        for (id, object) in &self.model.objects {
            if matches!(object.object_type, ObjectType::Partition | ObjectType::GuestSpace) {
                let bytes: u64 = self.model.mappings(*id).map(|(_, length)| length).sum();
                assert_eq!(mapped_bytes(self.objects[id]), bytes);
            }
        }
    }
}
