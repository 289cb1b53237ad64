//! Random operations, each run to its end, against the reference model.

use super::machine::{
    BINDINGS, INIT_PAGES, Machine, Partition, SLOTS_PER_PAGE, binding, is_zero, mapped_bytes,
    table_of, translate, with_space,
};
use super::model::{Creating, Model, Object, Place, Target, Use};
use super::random::{Random, operations};
use super::take_elementary_steps;
use crate::Progress;
use crate::engine::{Hooks, object_rights};
use crate::frames::FrameRange;
use crate::object::{ObjectHeader, ObjectState};
use crate::phys::{HostPhysical, Ref};
use crate::slot::{Slot, Usage};
use bulkhead_abi::{Error, ObjectType, PAGE_SIZE, Rights};
use std::collections::BTreeMap;
use std::vec::Vec;

/// Most elementary steps that one step of revoking and deleting may take: emptying a table's worth of page-table entries, four
/// words looked at and one written for each.
const MOST_ELEMENTARY_STEPS: u64 = 6 * 512;
const RAM_PAGES: u64 = 1536;
/// A device's registers, outside RAM.
const DEVICE: (u64, u64) = (0x10_0000, 16 * PAGE_SIZE);
const CREATABLE: [ObjectType; 8] = [
    ObjectType::Partition,
    ObjectType::Partition,
    ObjectType::GuestSpace,
    ObjectType::Thread,
    ObjectType::Endpoint,
    ObjectType::Notification,
    ObjectType::Window,
    ObjectType::Vcpu,
];

struct World {
    machine: Machine,
    model: Model,
    objects: BTreeMap<u64, Ref<ObjectHeader>>,
    /// How often each operation succeeded, and failed.
    outcomes: BTreeMap<&'static str, (u64, u64)>,
    /// Generation of init's partition.
    init: u64,
}

impl World {
    fn new() -> Self {
        let machine = Machine::new(RAM_PAGES);
        let mut model = Model::new(machine.ram.base().0, RAM_PAGES);
        let init = machine.init.generation();
        model.generation = init;
        for page in 0..INIT_PAGES {
            model.kernel[page as usize] = true;
        }
        model.objects.insert(
            init,
            Object {
                object_type: ObjectType::Partition,
                base: machine.ram.base().0,
                pages: INIT_PAGES,
                slots: (INIT_PAGES - 1) * SLOTS_PER_PAGE,
                live: true,
                references: 0,
                donations: Vec::new(),
            },
        );
        let table = table_of(machine.init);
        let engine = &machine.engine;
        let all = Rights::all();
        engine
            .install_object(machine.init, all, table, 1)
            .expect("free slot");
        model.install((init, 1), ObjectType::Partition, all, Target::Object(init));
        let rest = (RAM_PAGES - INIT_PAGES) * PAGE_SIZE;
        for (index, object_type, first, count) in [
            (2, ObjectType::Memory, machine.ram.page(INIT_PAGES).0, rest),
            (3, ObjectType::IoPorts, 0, 0x1_0000),
            (4, ObjectType::Interrupt, 0, 256),
            (5, ObjectType::Memory, DEVICE.0, DEVICE.1),
        ] {
            engine
                .install_range(object_type, all, first, count, table, index)
                .expect("free slot");
            model.install(
                (init, index),
                object_type,
                all,
                Target::Range { first, count },
            );
        }
        let objects = BTreeMap::from([(init, machine.init)]);
        Self {
            machine,
            model,
            objects,
            outcomes: BTreeMap::new(),
            init,
        }
    }

    fn init_is_live(&self) -> bool {
        self.model
            .objects
            .get(&self.init)
            .is_some_and(|init| init.live)
    }

    fn slot(&self, place: Place) -> Result<Ref<Slot>, Error> {
        let object = self.objects[&place.0];
        if object.object_type() == ObjectType::Thread {
            return Ok(binding(object, place.1));
        }
        table_of(object).lookup(place.1)
    }

    /// Runs the steps of a deletion or revocation as the kernel does: the operation ends when its caller does, the objects'
    /// destruction goes on.
    fn finish(
        &self,
        slot: Ref<Slot>,
        step: impl Fn(&Machine, Ref<Slot>) -> Result<Progress, Error>,
        caller: Ref<ObjectHeader>,
    ) -> Result<(), Error> {
        take_elementary_steps();
        loop {
            let outcome =
                if matches!(caller.state(), ObjectState::Live) || slot.first_child().is_some() {
                    step(&self.machine, slot)
                } else {
                    break;
                };
            let steps = take_elementary_steps();
            assert!(
                steps <= MOST_ELEMENTARY_STEPS,
                "{steps} elementary steps in one step"
            );
            match outcome? {
                Progress::Done => return Ok(()),
                Progress::Again => {}
            }
        }
        while self.machine.engine.destroy_step(&self.machine) == Progress::Again {
            let steps = take_elementary_steps();
            assert!(
                steps <= MOST_ELEMENTARY_STEPS,
                "{steps} elementary steps in one step"
            );
        }
        Ok(())
    }

    /// Drops what the model no longer has, and checks that memory that left the kernel is zero.
    fn settle(&mut self) {
        let model = &self.model;
        self.objects.retain(|id, _| model.objects.contains_key(id));
        for page in self.model.freed.drain(..) {
            assert!(
                is_zero(HostPhysical(self.model.ram + page * PAGE_SIZE)),
                "page {page} left the kernel with content"
            );
        }
    }

    fn count<T>(&mut self, operation: &'static str, outcome: &Result<T, Error>) {
        let (succeeded, failed) = self.outcomes.entry(operation).or_default();
        *(if outcome.is_ok() { succeeded } else { failed }) += 1;
    }

    fn random_partition(&self, random: &mut Random) -> u64 {
        if random.one_in(3) {
            return self.init;
        }
        let partitions: Vec<u64> = self
            .model
            .objects
            .iter()
            .filter(|(_, object)| object.object_type == ObjectType::Partition && object.live)
            .map(|(&id, _)| id)
            .collect();
        random.choose(&partitions).unwrap_or(self.init)
    }

    /// A slot of the partition, most often one with a capability.
    fn random_place(&self, random: &mut Random, partition: u64) -> Place {
        let slots = self.model.objects[&partition].slots;
        let index = random.below(slots + 1);
        if random.one_in(12) {
            return (partition, index);
        }
        let occupied = self
            .model
            .capabilities
            .range((partition, index)..=(partition, u64::MAX))
            .next();
        occupied.map_or((partition, index), |(&place, _)| place)
    }

    /// A slot with a capability of this type, if the partition has one.
    fn random_typed(
        &self,
        random: &mut Random,
        partition: u64,
        types: &[ObjectType],
    ) -> Option<Place> {
        let places: Vec<Place> = self
            .model
            .capabilities
            .range((partition, 0)..=(partition, u64::MAX))
            .filter(|(_, capability)| types.contains(&capability.object_type))
            .map(|(&place, _)| place)
            .collect();
        random.choose(&places)
    }

    /// A slot for a new capability, most often an empty one.
    fn random_destination(&self, random: &mut Random, caller: u64) -> Place {
        let owner = if random.one_in(2) {
            caller
        } else {
            // Another partition: as the receiver of a message, or by a capability to it (which can be dead).
            match self.random_typed(random, caller, &[ObjectType::Partition]) {
                Some(place) if random.one_in(2) => match self.model.capabilities[&place].target {
                    Target::Object(object) => object,
                    Target::Range { .. } => caller,
                },
                _ => self.random_partition(random),
            }
        };
        let slots = self.model.objects[&owner].slots;
        for _ in 0..8 {
            let place = (owner, random.below(slots));
            if !self.model.capabilities.contains_key(&place) {
                return place;
            }
        }
        (owner, random.below(slots + 1))
    }

    fn random_rights(&self, random: &mut Random) -> Rights {
        if random.one_in(5) {
            Rights::from_bits_truncate(random.next() as u16)
        } else {
            Rights::all()
        }
    }

    fn operation(&mut self, random: &mut Random) {
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

    fn derive(&mut self, random: &mut Random, caller: u64) {
        let source = self.random_place(random, caller);
        let destination = self.random_destination(random, caller);
        let rights = self.random_rights(random);
        let badge = random.below(4);
        let table = table_of(self.objects[&destination.0]);
        let outcome = self.slot(source).and_then(|slot| {
            self.machine
                .engine
                .derive(slot, rights, badge, table, destination.1)
        });
        let expected = if source.1 >= self.model.objects[&caller].slots {
            Err(Error::SlotOutOfRange)
        } else {
            self.model.derive(source, rights, badge, destination)
        };
        self.count("derive", &outcome);
        assert_eq!(outcome.map(|_| ()), expected);
    }

    fn derive_range(&mut self, random: &mut Random, caller: u64) {
        let source = match self.random_typed(
            random,
            caller,
            &[
                ObjectType::Memory,
                ObjectType::IoPorts,
                ObjectType::Interrupt,
            ],
        ) {
            Some(place) if !random.one_in(8) => place,
            _ => self.random_place(random, caller),
        };
        let Ok(slot) = self.slot(source) else { return };
        let destination = self.random_destination(random, caller);
        let rights = self.random_rights(random);
        let unit = if slot.object_type() == ObjectType::Memory && !random.one_in(40) {
            PAGE_SIZE
        } else {
            1
        };
        let first = random.below(slot.count() / unit + 2) * unit;
        let count = match random.below(8) {
            0 => random.next(),
            1..=3 => (random.below(32) + 1) * unit,
            _ => random.below((slot.count().saturating_sub(first)) / unit + 1) * unit,
        };
        let table = table_of(self.objects[&destination.0]);
        let outcome =
            self.machine
                .engine
                .derive_range(slot, rights, first, count, table, destination.1);
        let expected = self
            .model
            .derive_range(source, rights, first, count, destination);
        self.count("derive_range", &outcome);
        assert_eq!(outcome.map(|_| ()), expected);
    }

    fn create(&mut self, random: &mut Random, caller: u64) {
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
            offset: random.below(slot.count() / PAGE_SIZE + 2) * PAGE_SIZE
                + u64::from(random.one_in(60)),
            pages,
            slots: match object_type {
                ObjectType::Partition => (pages - 1) * SLOTS_PER_PAGE,
                ObjectType::Thread => BINDINGS,
                _ => 0,
            },
        };
        let table = table_of(self.objects[&destination.0]);
        let outcome = self.machine.create(
            slot,
            object_type,
            creating.offset,
            pages,
            table,
            destination.1,
        );
        let expected = self
            .model
            .create(source, creating, object_rights(object_type), destination);
        self.count("create", &outcome);
        assert_eq!(outcome.map(|object| object.generation()), expected);
        if let Ok(object) = outcome {
            self.objects.insert(object.generation(), object);
            self.check_new_object(object, random);
        }
    }

    /// A new object is zero but for its header. Afterwards the kernel writes its secrets there.
    fn check_new_object(&self, object: Ref<ObjectHeader>, random: &mut Random) {
        let pages = u64::from(object.pages());
        for page in 0..pages {
            let words = HostPhysical(object.physical().0 + page * PAGE_SIZE).page_words();
            for (index, word) in words.iter().enumerate() {
                assert!(
                    word.get() == 0 || (page == 0 && index < 8),
                    "a new object is not zeroed"
                );
            }
            if object.object_type() != ObjectType::Partition || page == 0 {
                words[511].set(random.next());
            }
        }
    }

    /// A thread is bound to what a capability names.
    fn bind(&mut self, random: &mut Random, caller: u64) {
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

    fn random_address(random: &mut Random) -> u64 {
        let region = [0x40_0000, 0x4000_0000, 0x10_0000_0000][random.below(3) as usize];
        region + random.below(1024) * PAGE_SIZE
    }

    fn map(&mut self, random: &mut Random, caller: u64) {
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
            let step =
                self.machine
                    .engine
                    .map_step(slot, object, address, attributes, &self.machine);
            assert!(take_elementary_steps() <= 8 * 512);
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
            && self
                .model
                .mappings(space)
                .any(|(other, length)| other < address + count && address < other + length);
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

    fn unmap(&mut self, random: &mut Random, caller: u64) {
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

    fn donate(&mut self, random: &mut Random, caller: u64) {
        let spaces = [ObjectType::Partition, ObjectType::GuestSpace];
        let Some(space) = self.random_typed(random, caller, &spaces) else {
            return;
        };
        let Some(source) = (0..6)
            .filter_map(|_| self.random_typed(random, caller, &[ObjectType::Memory]))
            .min_by_key(|place| match self.model.capabilities[place].target {
                Target::Range { first, count } if first >= self.model.ram => count,
                _ => u64::MAX,
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
            let step = self
                .machine
                .engine
                .donate_step(slot, self.objects[&space], &self.machine);
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
    fn scribble(&mut self, random: &mut Random) {
        let mapped: Vec<(u64, u64, u64)> = self
            .model
            .capabilities
            .values()
            .filter_map(|capability| match (capability.usage, capability.target) {
                (
                    Use::Mapped {
                        space,
                        address,
                        rights,
                    },
                    Target::Range { first, count },
                ) if capability.object_type == ObjectType::Memory
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
        assert!(
            !self.machine.engine.frames().is_kernel(range),
            "the kernel's page is mapped"
        );
        page.page_words()[(physical.0 % PAGE_SIZE / 8) as usize].set(random.next());
    }

    fn zero(&mut self, random: &mut Random, caller: u64) {
        let Some(source) = self.random_typed(random, caller, &[ObjectType::Memory]) else {
            return;
        };
        let slot = self.slot(source).expect("occupied");
        let offset = random.below(slot.count() / PAGE_SIZE) * PAGE_SIZE;
        let outcome = self.machine.engine.zero_step(slot, offset, PAGE_SIZE);
        let expected = self.model.check_zero(source, offset, PAGE_SIZE);
        self.count("zero", &outcome);
        assert_eq!(outcome, expected.map(|_| PAGE_SIZE));
        if let Ok(page) = expected {
            assert!(is_zero(HostPhysical(page)));
        }
    }

    fn revoke(&mut self, random: &mut Random, caller: u64) {
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

    fn delete(&mut self, random: &mut Random, caller: u64) {
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

    /// Compares everything.
    fn check(&self) {
        let mut places = BTreeMap::new();
        for (&id, object) in &self.model.objects {
            let header = self.objects[&id];
            assert_eq!(header.object_type(), object.object_type);
            assert_eq!(header.generation(), id);
            assert_eq!(header.is_live(), object.live);
            assert_eq!(header.references(), object.references);
            assert_eq!(u64::from(header.pages()), object.pages);
            assert_eq!(header.physical().0, object.base);
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
            let Some(capability) = self.model.capabilities.get(&place) else {
                assert!(
                    slot.is_vacant(),
                    "a capability in {place:?} that was never granted"
                );
                assert!(slot.parent().is_none() && slot.first_child().is_none());
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
            assert_eq!(
                slot.parent().map(|parent| places[&parent.address()]),
                capability.parent
            );
            let mut children = Vec::new();
            let mut next = slot.first_child();
            while let Some(child) = next {
                children.push(places[&child.address()]);
                next = child.next_sibling();
            }
            children.sort_unstable();
            assert!(children.iter().eq(capability.children.iter()));
            self.check_usage(slot, capability.usage);
        }
        self.check_frames();
    }

    fn check_usage(&self, slot: Ref<Slot>, usage: Use) {
        let space = slot.space();
        match usage {
            Use::None => assert_eq!((slot.usage(), space), (Usage::None, None)),
            Use::Donated { space: id } => {
                assert_eq!(
                    (slot.usage(), space),
                    (Usage::Donated, Some(self.objects[&id]))
                );
            }
            Use::Mapped {
                space: id,
                address,
                rights,
            } => {
                let object = self.objects[&id];
                assert_eq!((slot.usage(), space), (Usage::Mapped, Some(object)));
                assert_eq!(slot.mapped_address(), address);
                if slot.object_type() == ObjectType::Memory {
                    for offset in [0, slot.count() - 1] {
                        let found = translate(object, address + offset);
                        assert_eq!(
                            found,
                            Some((HostPhysical(slot.first() + offset), rights | Rights::READ))
                        );
                    }
                }
            }
        }
    }

    fn check_frames(&self) {
        let frames = self.machine.engine.frames();
        for page in 0..RAM_PAGES {
            let address = self.machine.ram.page(page);
            let range = FrameRange::page(address).expect("a page");
            let (kernel, mapped) = (
                self.model.kernel[page as usize],
                self.model.mapped[page as usize],
            );
            assert!(!kernel || mapped == 0);
            assert_eq!(frames.is_kernel(range), kernel);
            assert_eq!(frames.mappings(address), (!kernel).then_some(mapped));
            assert_eq!(frames.is_free(range), !kernel && mapped == 0);
        }
        for (id, object) in &self.model.objects {
            if matches!(
                object.object_type,
                ObjectType::Partition | ObjectType::GuestSpace
            ) {
                let bytes: u64 = self.model.mappings(*id).map(|(_, length)| length).sum();
                assert_eq!(mapped_bytes(self.objects[id]), bytes);
            }
        }
    }

    /// Revokes everything: what remains is what was there at the beginning.
    fn tear_down(mut self) {
        for index in 1..=5 {
            let slot = self.slot((self.init, index)).expect("in range");
            let revoke = |machine: &Machine, slot| machine.engine.revoke_step(slot, machine);
            assert_eq!(self.finish(slot, revoke, self.objects[&self.init]), Ok(()));
            assert_eq!(self.model.revoke((self.init, index)), Ok(()));
            self.settle();
        }
        self.check();
        assert_eq!(self.model.objects.len(), 1);
        assert_eq!(self.model.capabilities.len(), 5);
        assert!(self.model.mapped.iter().all(|&count| count == 0));
        assert_eq!(
            self.model.kernel.iter().filter(|&&kernel| kernel).count() as u64,
            INIT_PAGES
        );
        assert!(self.machine.init.downcast::<Partition>().is_some());
        assert_eq!(
            self.machine.engine.destroy_step(&self.machine),
            Progress::Done
        );
    }
}

// The machine's hooks are what the engine is driven with.
const fn assert_hooks<T: Hooks>() {}
const _: () = assert_hooks::<Machine>();

#[test]
fn operations_agree_with_the_model() {
    let mut random = Random::from_environment();
    let total = operations(60);
    let mut outcomes: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    while random.operation < total {
        let mut world = World::new();
        let end = random.operation + 20_000;
        let sealed_from = end - random.below(20_000) / 4;
        while random.operation < end && world.init_is_live() {
            world.operation(&mut random);
            random.operation += 1;
            if random.operation == sealed_from {
                world.machine.engine.seal();
                world.model.sealed = true;
            }
            if random.one_in(250) {
                world.check();
            }
        }
        world.check();
        for (operation, (succeeded, failed)) in &world.outcomes {
            let sum = outcomes.entry(operation).or_default();
            *sum = (sum.0 + succeeded, sum.1 + failed);
        }
        if world.init_is_live() {
            world.tear_down();
        }
    }
    for (operation, (succeeded, failed)) in outcomes {
        let least = total / 4000;
        assert!(
            succeeded >= least,
            "{operation} succeeded only {succeeded} times"
        );
        assert!(failed >= least, "{operation} failed only {failed} times");
    }
}
