//! Random operations, each run to its end, against the reference model.

mod check;
mod choose;
mod operate;

use crate::Progress;
use crate::engine::{install_object, install_range};
use crate::object::{ObjectHeader, ObjectState};
use crate::phys::{HostPhysical, Ref};
use crate::slot::Slot;
use crate::tests::machine::{INIT_PAGES, Machine, Partition, SLOTS_PER_PAGE, binding, is_zero, table_of};
use crate::tests::model::{Model, Object, Place, Target};
use crate::tests::random::{Random, operations};
use crate::tests::{assert_one_step, take_elementary_steps};
use bulkhead_abi::{Error, ObjectType, PAGE_SIZE, Rights};
use std::collections::BTreeMap;
use std::vec::Vec;

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
        let all = Rights::all();
        let slot = |index| table.vacant(index).expect("free slot");
        install_object(slot(1), machine.init, all);
        model.install((init, 1), ObjectType::Partition, all, Target::Object(init));
        let rest = (RAM_PAGES - INIT_PAGES) * PAGE_SIZE;
        for (index, object_type, first, count) in [
            (2, ObjectType::Memory, machine.ram.page(INIT_PAGES).0, rest),
            (3, ObjectType::IoPorts, 0, 0x1_0000),
            (4, ObjectType::Interrupt, 0, 256),
            (5, ObjectType::Memory, DEVICE.0, DEVICE.1),
        ] {
            install_range(slot(index), object_type, all, first, count);
            model.install((init, index), object_type, all, Target::Range { first, count });
        }
        let objects = BTreeMap::from([(init, machine.init)]);
        Self { machine, model, objects, outcomes: BTreeMap::new(), init }
    }

    fn init_is_live(&self) -> bool {
        self.model.objects.get(&self.init).is_some_and(|init| init.live)
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
            let outcome = if matches!(caller.state(), ObjectState::Live) || slot.first_child.get().is_some() {
                step(&self.machine, slot)
            } else {
                break;
            };
            assert_one_step();
            match outcome? {
                Progress::Done => return Ok(()),
                Progress::Again => {}
            }
        }
        while self.machine.engine.destroy_step(&self.machine) == Progress::Again {
            assert_one_step();
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

    /// Revokes everything: what remains is what was there at the beginning.
    fn tear_down(mut self) {
        for index in 1..=5 {
            let slot = self.slot((self.init, index)).expect("in range");
            let revoke = |machine: &Machine, slot| machine.engine.revoke_step(slot, machine);
            assert_eq!(self.finish(slot, revoke, self.objects[&self.init]), Ok(()));
            assert_eq!(self.model.revoke((self.init, index)), Ok(()));
            self.settle();
            if !self.init_is_live() {
                // Its page tables were made of memory that has been revoked.
                return;
            }
        }
        self.check();
        assert_eq!(self.model.objects.len(), 1);
        assert_eq!(self.model.capabilities.len(), 5);
        assert!(self.model.mapped.iter().all(|&count| count == 0));
        assert_eq!(self.model.kernel.iter().filter(|&&kernel| kernel).count() as u64, INIT_PAGES);
        assert!(self.machine.init.downcast::<Partition>().is_some());
        assert_eq!(self.machine.engine.destroy_step(&self.machine), Progress::Done);
    }
}

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
        assert!(succeeded >= least, "{operation} succeeded only {succeeded} times");
        assert!(failed >= least, "{operation} failed only {failed} times");
    }
}
