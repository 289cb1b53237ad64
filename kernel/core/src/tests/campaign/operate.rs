//! Random operations, on the machine and on the model.

use super::{CREATABLE, World};
use crate::Progress;
use crate::engine::object_rights;
use crate::frames::FrameRange;
use crate::object::ObjectHeader;
use crate::phys::{HostPhysical, Ref};
use crate::tests::machine::{BINDINGS, Machine, SLOTS_PER_PAGE, binding, is_zero, table_of, translate, with_space};
use crate::tests::model::{Creating, Target, Use};
use crate::tests::random::Random;
use crate::tests::{assert_one_step, take_elementary_steps};
use bulkhead_abi::{Error, ObjectType, PAGE_SIZE, Rights};
use std::vec::Vec;

impl World {
    pub(super) fn operation(&mut self, random: &mut Random) {
        let caller = self.random_partition(random);
        match random.below(33) {
            0..=7 => self.derive(random, caller),
            8..=13 => self.derive_range(random, caller),
            14..=19 => self.create(random, caller),
            20..=22 => self.map(random, caller),
            23..=24 => self.donate(random, caller),
            25..=26 => self.scribble(random),
            27 => self.unmap(random, caller),
            28 => self.zero(random, caller),
            29 => self.bind(random, caller),
            30..=31 => self.delete(random, caller),
            _ => self.revoke(random, caller),
        }
        self.settle();
    }

    pub(super) fn derive(&mut self, random: &mut Random, caller: u64) {
        let source = self.random_place(random, caller);
        let destination = self.random_destination(random, caller);
        let rights = self.random_rights(random);
        let badge = random.below(4);
        let table = table_of(self.objects[&destination.0]);
        let outcome =
            self.slot(source).and_then(|slot| self.machine.engine.derive(slot, rights, badge, table, destination.1));
        let expected = if source.1 >= self.model.objects[&caller].slots {
            Err(Error::SlotOutOfRange)
        } else {
            self.model.derive(source, rights, badge, destination)
        };
        self.count("derive", &outcome);
        assert_eq!(outcome.map(|_| ()), expected);
    }

    pub(super) fn derive_range(&mut self, random: &mut Random, caller: u64) {
        let source = match self.random_typed(
            random,
            caller,
            &[ObjectType::Memory, ObjectType::IoPorts, ObjectType::Interrupt],
        ) {
            Some(place) if !random.one_in(8) => place,
            _ => self.random_place(random, caller),
        };
        let Ok(slot) = self.slot(source) else { return };
        let destination = self.random_destination(random, caller);
        let rights = self.random_rights(random);
        let unit = if slot.object_type() == ObjectType::Memory && !random.one_in(40) { PAGE_SIZE } else { 1 };
        let first = random.below(slot.count() / unit + 2) * unit;
        let count = match random.below(8) {
            0 => random.next(),
            1..=3 => (random.below(32) + 1) * unit,
            _ => random.below((slot.count().saturating_sub(first)) / unit + 1) * unit,
        };
        let table = table_of(self.objects[&destination.0]);
        let outcome = self.machine.engine.derive_range(slot, rights, first, count, table, destination.1);
        let expected = self.model.derive_range(source, rights, first, count, destination);
        self.count("derive_range", &outcome);
        assert_eq!(outcome.map(|_| ()), expected);
    }

    pub(super) fn create(&mut self, random: &mut Random, caller: u64) {
        let source = match self.random_typed(random, caller, &[ObjectType::Memory]) {
            Some(place) if !random.one_in(20) => place,
            _ => self.random_place(random, caller),
        };
        let Ok(slot) = self.slot(source) else { return };
        let destination = self.random_destination(random, caller);
        let object_type = if random.one_in(50) {
            ObjectType::IoPorts
        } else {
            random.choose(&CREATABLE).unwrap_or(ObjectType::Thread)
        };
        let pages = match object_type {
            ObjectType::Partition => 2 + random.below(2),
            ObjectType::Thread if random.one_in(8) => random.below(20),
            _ => 1,
        };
        let creating = Creating {
            object_type,
            offset: random.below(slot.count() / PAGE_SIZE + 2) * PAGE_SIZE + u64::from(random.one_in(60)),
            pages,
            slots: match object_type {
                ObjectType::Partition => (pages - 1) * SLOTS_PER_PAGE,
                ObjectType::Thread => BINDINGS,
                _ => 0,
            },
        };
        let table = table_of(self.objects[&destination.0]);
        let outcome = self.machine.create(slot, object_type, creating.offset, pages, table, destination.1);
        let expected = self.model.create(source, creating, object_rights(object_type), destination);
        self.count("create", &outcome);
        assert_eq!(outcome.map(|object| object.generation()), expected);
        if let Ok(object) = outcome {
            self.objects.insert(object.generation(), object);
            self.check_new_object(object, random);
        }
    }

    /// A new object is zero but for its header. Afterwards the kernel writes its secrets there.
    pub(super) fn check_new_object(&self, object: Ref<ObjectHeader>, random: &mut Random) {
        let pages = u64::from(object.pages());
        for page in 0..pages {
            let words = HostPhysical(object.page().0 + page * PAGE_SIZE).page_words();
            for (index, word) in words.iter().enumerate() {
                assert!(word.get() == 0 || (page == 0 && index < 8), "a new object is not zeroed");
            }
            if object.object_type() != ObjectType::Partition || page == 0 {
                words[511].set(random.next());
            }
        }
    }

    /// A thread is bound to what a capability names.
    pub(super) fn bind(&mut self, random: &mut Random, caller: u64) {
        let Some(thread) = self.random_typed(random, caller, &[ObjectType::Thread]) else {
            return;
        };
        let Target::Object(thread) = self.model.capabilities[&thread].target else {
            return;
        };
        let source = self.random_place(random, caller);
        let Ok(slot) = self.slot(source) else { return };
        let place = (thread, random.below(BINDINGS));
        let destination = binding(self.objects[&thread], place.1);
        let rights = self.random_rights(random);
        let outcome = self.machine.engine.derive_to(slot, rights, 1, destination);
        self.count("bind", &outcome);
        assert_eq!(outcome, self.model.bind(source, rights, 1, place));
    }

    pub(super) fn random_address(random: &mut Random) -> u64 {
        let region = [0x40_0000, 0x4000_0000, 0x10_0000_0000][random.below(3) as usize];
        region + random.below(1024) * PAGE_SIZE
    }

    pub(super) fn map(&mut self, random: &mut Random, caller: u64) {
        let spaces = [ObjectType::Partition, ObjectType::GuestSpace];
        let Some(space) = self.random_typed(random, caller, &spaces) else {
            return;
        };
        let types = [ObjectType::Memory, ObjectType::Memory, ObjectType::IoPorts];
        let Some(source) = self.random_typed(random, caller, &types) else {
            return;
        };
        let Target::Object(space) = self.model.capabilities[&space].target else {
            return;
        };
        let capability = &self.model.capabilities[&source];
        let rights = capability.rights & (Rights::READ | Rights::WRITE);
        if rights.is_empty() {
            return;
        }
        let Target::Range { count, .. } = capability.target else {
            return;
        };
        let memory = capability.object_type == ObjectType::Memory;
        let address = Self::random_address(random);
        let object = self.objects[&space];
        let slot = self.slot(source).expect("occupied");
        let outcome = loop {
            take_elementary_steps();
            let attributes = u64::from(rights.bits());
            let step = self.machine.engine.map_step(slot, object, address, attributes, &self.machine);
            assert_one_step();
            match step {
                Ok(Progress::Again) => {}
                Ok(Progress::Done) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        self.count("map", &outcome);
        if let Err(error) = self.model.check_map(source, space) {
            assert_eq!(outcome, Err(error));
            return;
        }
        let overlaps = memory
            && self.model.mappings(space).any(|(other, length)| other < address + count && address < other + length);
        match outcome {
            Ok(()) => {
                assert!(!overlaps, "mapped over another mapping");
                self.model.map(source, space, address, rights);
            }
            Err(Error::AlreadyMapped) => assert!(overlaps),
            Err(Error::PoolExhausted) => {
                assert_eq!(with_space(object, |space| space.pool.count()), 0);
            }
            Err(error) => panic!("mapping failed with {error:?}"),
        }
    }

    pub(super) fn unmap(&mut self, random: &mut Random, caller: u64) {
        let place = self.random_place(random, caller);
        if !self.model.capabilities.contains_key(&place) {
            return;
        }
        let slot = self.slot(place).expect("occupied");
        let outcome = loop {
            match self.machine.engine.unmap_step(slot, &self.machine) {
                Ok(Progress::Again) => {}
                Ok(Progress::Done) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        self.count("unmap", &outcome);
        assert_eq!(outcome, self.model.unmap(place));
    }

    pub(super) fn donate(&mut self, random: &mut Random, caller: u64) {
        let spaces = [ObjectType::Partition, ObjectType::GuestSpace];
        let Some(space) = self.random_typed(random, caller, &spaces) else {
            return;
        };
        let Some(source) =
            (0..6).filter_map(|_| self.random_typed(random, caller, &[ObjectType::Memory])).min_by_key(|place| {
                match self.model.capabilities[place].target {
                    Target::Range { first, count } if first >= self.model.ram => count,
                    _ => u64::MAX,
                }
            })
        else {
            return;
        };
        let Target::Object(space) = self.model.capabilities[&space].target else {
            return;
        };
        let slot = self.slot(source).expect("occupied");
        // Donating to init makes it possible that init ends, which ends the world.
        if slot.count() > 64 * PAGE_SIZE || (space == self.init && !random.one_in(200)) {
            return;
        }
        let outcome = loop {
            let step = self.machine.engine.donate_step(slot, self.objects[&space], &self.machine);
            match step {
                Ok(Progress::Again) => {}
                Ok(Progress::Done) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        self.count("donate", &outcome);
        assert_eq!(outcome, self.model.donate(source, space));
    }

    /// A program writes to its memory, through the page tables.
    pub(super) fn scribble(&mut self, random: &mut Random) {
        let mapped: Vec<(u64, u64, u64)> = self
            .model
            .capabilities
            .values()
            .filter_map(|capability| match (capability.usage, capability.target) {
                (Use::Mapped { space, address, rights }, Target::Range { first, count })
                    if capability.object_type == ObjectType::Memory
                        && rights.contains(Rights::WRITE)
                        && first >= self.model.ram =>
                {
                    Some((space, address, count))
                }
                _ => None,
            })
            .collect();
        let Some((space, address, count)) = random.choose(&mapped) else {
            return;
        };
        let offset = random.below(count / 8) * 8;
        let (physical, rights) = translate(self.objects[&space], address + offset).expect("mapped");
        assert!(rights.contains(Rights::WRITE));
        let page = HostPhysical(physical.0 & !(PAGE_SIZE - 1));
        let range = FrameRange::page(page).expect("a page");
        assert!(!self.machine.engine.frames().is_kernel(range), "the kernel's page is mapped");
        page.page_words()[(physical.0 % PAGE_SIZE / 8) as usize].set(random.next());
    }

    pub(super) fn zero(&mut self, random: &mut Random, caller: u64) {
        let Some(source) = self.random_typed(random, caller, &[ObjectType::Memory]) else {
            return;
        };
        let slot = self.slot(source).expect("occupied");
        let offset = random.below(slot.count() / PAGE_SIZE) * PAGE_SIZE;
        let outcome = self.machine.engine.zero_step(slot, offset, PAGE_SIZE);
        let expected = self.model.check_zero(source, offset, PAGE_SIZE);
        self.count("zero", &outcome);
        assert_eq!(outcome, expected.map(|_| ()));
        if let Ok(page) = expected {
            assert!(is_zero(HostPhysical(page)));
        }
    }

    pub(super) fn revoke(&mut self, random: &mut Random, caller: u64) {
        let place = self.random_place(random, caller);
        // The roots of everything only now and then, or nothing would ever grow.
        if caller == self.init && place.1 <= 5 && !random.one_in(40) {
            return;
        }
        let Ok(slot) = self.slot(place) else { return };
        let revoke = |machine: &Machine, slot| machine.engine.revoke_step(slot, machine);
        let outcome = self.finish(slot, revoke, self.objects[&caller]);
        self.count("revoke", &outcome);
        assert_eq!(outcome, self.model.revoke(place));
    }

    pub(super) fn delete(&mut self, random: &mut Random, caller: u64) {
        let place = self.random_place(random, caller);
        if caller == self.init && place.1 <= 5 {
            return;
        }
        let Ok(slot) = self.slot(place) else { return };
        let delete = |machine: &Machine, slot| machine.engine.delete_step(slot, machine);
        let outcome = self.finish(slot, delete, self.objects[&caller]);
        self.count("delete", &outcome);
        assert_eq!(outcome, self.model.delete(place));
    }
}
