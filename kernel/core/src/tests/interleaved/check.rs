//! What must hold between any two steps.

use super::{Grant, RAM_PAGES, World, grant_of};
use crate::frames::FrameRange;
use crate::object::ObjectState;
use crate::phys::Ref;
use crate::slot::{Slot, Usage};
use crate::tests::machine::{BINDINGS, binding, mapped_bytes, mappings, pages_of_space, table_of};
use bulkhead_abi::{ObjectType, PAGE_SIZE, Rights};
use std::collections::{BTreeMap, BTreeSet};
use std::vec::Vec;

impl World {
    /// Every slot there is.
    pub(super) fn slots(&self) -> BTreeMap<u64, Ref<Slot>> {
        let mut slots = BTreeMap::new();
        for (_, &object) in self.objects.iter().filter(|(id, _)| self.exists(**id)) {
            // A dead partition's table is given back from its end; there is nothing in it any more.
            match object.object_type() {
                ObjectType::Partition if object.state() != ObjectState::Dead => {
                    let table = table_of(object);
                    for index in 0..table.length() {
                        let slot = table.lookup(index).expect("in range");
                        slots.insert(slot.address(), slot);
                    }
                }
                ObjectType::Thread => {
                    for index in 0..BINDINGS {
                        let slot = binding(object, index);
                        slots.insert(slot.address(), slot);
                    }
                }
                _ => {}
            }
        }
        slots
    }

    /// Checks that everything fits together.
    pub(super) fn check(&mut self) {
        let gone: Vec<u64> = self.objects.keys().copied().filter(|&id| !self.exists(id)).collect();
        for id in gone {
            self.objects.remove(&id);
        }
        let slots = self.slots();
        let mut references: BTreeMap<u64, u64> = BTreeMap::new();
        let mut kernel = BTreeSet::new();
        let mut mapped: BTreeMap<u64, u32> = BTreeMap::new();
        let mut mapped_in: BTreeMap<u64, u64> = BTreeMap::new();
        let pages = |first: u64, length: u64| (first..first + length).step_by(PAGE_SIZE as usize);
        for &slot in slots.values() {
            self.check_links(slot, &slots);
            let object_type = slot.object_type();
            if slot.is_creating() {
                kernel.extend(pages(slot.first(), slot.count()));
            }
            if object_type == ObjectType::None {
                continue;
            }
            let grant = self.grants[&slot.address()];
            let now = grant_of(slot);
            assert!(now == grant || now == Grant { rights: Rights::empty(), ..grant }, "{now:?} was never granted");
            if !matches!(object_type, ObjectType::Memory | ObjectType::IoPorts) {
                *references.entry(slot.first()).or_default() += 1;
                continue;
            }
            match slot.usage() {
                Usage::None => assert!(slot.space().is_none()),
                Usage::Donated => {
                    let given = slot.mapped_length().get();
                    kernel.extend(pages(slot.first() + given, slot.count() - given));
                }
                _ if object_type == ObjectType::Memory => {
                    for page in pages(slot.first(), slot.count()) {
                        *mapped.entry(page).or_default() += 1;
                    }
                    let space = slot.space().expect("mapped somewhere").address();
                    *mapped_in.entry(space).or_default() += slot.mapped_length().get();
                }
                _ => {}
            }
        }
        for &object in self.objects.values() {
            let counted = references.remove(&object.address()).unwrap_or(0);
            assert_eq!(object.references(), counted);
            kernel.extend(pages(object.page().0, u64::from(object.pages()) * PAGE_SIZE));
            if matches!(object.object_type(), ObjectType::Partition | ObjectType::GuestSpace)
                && object.state() != ObjectState::Dead
            {
                kernel.extend(pages_of_space(object));
                if object.is_live() {
                    let expected = mapped_in.get(&object.address()).copied().unwrap_or(0);
                    assert_eq!(mapped_bytes(object), expected);
                }
            }
        }
        assert!(references.is_empty(), "capabilities to objects that are gone");
        let frames = self.machine.engine.frames();
        for page in 0..RAM_PAGES {
            let address = self.machine.ram.page(page);
            let is_kernel = kernel.contains(&address.0);
            let count = mapped.get(&address.0).copied().unwrap_or(0);
            assert!(!is_kernel || count == 0, "a page is the kernel's and mapped");
            assert_eq!(frames.is_kernel(FrameRange::page(address).expect("a page")), is_kernel);
            assert_eq!(mappings(frames, address), (!is_kernel).then_some(count));
        }
    }

    fn check_links(&self, slot: Ref<Slot>, slots: &BTreeMap<u64, Ref<Slot>>) {
        assert!(self.machine.engine.agrees(slot), "a slot contradicts its neighbours");
        let mut next = slot.first_child.get();
        while let Some(child) = next {
            assert!(slots.contains_key(&child.address()), "a child in no table");
            assert!(!child.is_vacant() && !child.is_deleted());
            next = child.siblings.next.get();
        }
        if let Some(parent) = slot.parent.get() {
            assert!(slots.contains_key(&parent.address()), "a parent in no table");
        }
    }
}
