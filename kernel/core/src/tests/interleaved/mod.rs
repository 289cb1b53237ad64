//! Random operations that are interrupted after any step, continued later or never, among others that do the same. Between
//! steps everything must be consistent.

mod check;

use crate::Progress;
use crate::engine::{install_object, install_range, object_rights};
use crate::frames::FrameRange;
use crate::object::ObjectHeader;
use crate::phys::{HostPhysical, Ref};
use crate::slot::Slot;
use crate::tests::machine::{BINDINGS, INIT_PAGES, Machine, SLOTS_PER_PAGE, binding, is_zero, table_of};
use crate::tests::random::{Random, operations};
use crate::tests::{assert_one_step, take_elementary_steps};
use bulkhead_abi::{Error, ObjectType, PAGE_SIZE, Rights};
use std::collections::BTreeMap;
use std::vec::Vec;

const RAM_PAGES: u64 = 1024;
/// Init's slots that hold its first capabilities.
const FIRST_SLOTS: u64 = 4;
const CREATABLE: [ObjectType; 6] = [
    ObjectType::Partition,
    ObjectType::Partition,
    ObjectType::GuestSpace,
    ObjectType::Thread,
    ObjectType::Endpoint,
    ObjectType::Notification,
];

/// A system call that has begun: its arguments, as its caller gave them. Slots are of the caller's table.
#[derive(Clone, Copy, Debug)]
enum Call {
    Revoke { slot: u64 },
    Delete { slot: u64 },
    Create { memory: u64, object_type: ObjectType, offset: u64, pages: u64, destination: u64 },
    Map { memory: u64, space: u64, address: u64 },
    Unmap { memory: u64 },
    Donate { memory: u64, space: u64 },
}

/// What was granted to a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Grant {
    object_type: ObjectType,
    rights: Rights,
    badge: u64,
    first: u64,
    count: u64,
}

fn grant_of(slot: Ref<Slot>) -> Grant {
    Grant {
        object_type: slot.object_type(),
        rights: slot.rights(),
        badge: slot.badge(),
        first: slot.first(),
        count: slot.count(),
    }
}

struct World {
    machine: Machine,
    /// Objects that were made, by generation; those that have ended are sorted out by [`World::exists`].
    objects: BTreeMap<u64, Ref<ObjectHeader>>,
    /// What was granted to each slot, by its address.
    grants: BTreeMap<u64, Grant>,
    pending: Vec<(u64, Call)>,
    init: u64,
    completed: u64,
}

impl World {
    fn new() -> Self {
        let machine = Machine::new(RAM_PAGES);
        let init = machine.init.generation();
        let table = table_of(machine.init);
        let rest = (RAM_PAGES - INIT_PAGES) * PAGE_SIZE;
        let slots = [1, 2, 3].map(|index| table.vacant(index).expect("a free slot"));
        install_object(slots[0], machine.init, Rights::all());
        install_range(slots[1], ObjectType::Memory, Rights::all(), machine.ram.page(INIT_PAGES).0, rest);
        install_range(slots[2], ObjectType::IoPorts, Rights::all(), 0, 0x1_0000);
        let grants = slots.into_iter().map(|slot| (slot.address(), grant_of(slot))).collect();
        let objects = BTreeMap::from([(init, machine.init)]);
        Self { machine, objects, grants, pending: Vec::new(), init, completed: 0 }
    }

    /// Whether an object has not ended; its header's page may have become anything else since. Callers of pending calls may have been
    /// sorted out.
    fn exists(&self, id: u64) -> bool {
        let Some(object) = self.objects.get(&id) else { return false };
        let range = FrameRange::page(object.page()).expect("a page");
        object.generation() == id && self.machine.engine.frames().is_kernel(range)
    }

    fn is_live(&self, id: u64) -> bool {
        self.exists(id) && self.objects[&id].is_live()
    }

    fn random_partition(&self, random: &mut Random) -> u64 {
        let live: Vec<u64> = self
            .objects
            .keys()
            .copied()
            .filter(|&id| self.is_live(id) && self.objects[&id].object_type() == ObjectType::Partition)
            .collect();
        if random.one_in(3) { self.init } else { random.choose(&live).unwrap_or(self.init) }
    }

    fn random_slot(&self, random: &mut Random, partition: u64, types: &[ObjectType]) -> Option<u64> {
        let table = table_of(self.objects[&partition]);
        let found: Vec<u64> = (0..table.length())
            .filter(|&index| {
                let object_type = table.lookup(index).expect("in range").object_type();
                object_type != ObjectType::None && (types.is_empty() || types.contains(&object_type))
            })
            .collect();
        random.choose(&found)
    }

    /// Begins an operation.
    fn begin(&mut self, random: &mut Random) -> Option<()> {
        let caller = self.random_partition(random);
        let memory = [ObjectType::Memory];
        let spaces = [ObjectType::Partition, ObjectType::GuestSpace];
        let call = match random.below(24) {
            0..=8 => return self.derive(random, caller),
            9..=14 => Call::Create {
                memory: self.random_slot(random, caller, &memory)?,
                object_type: random.choose(&CREATABLE)?,
                offset: random.below(RAM_PAGES / 4) * PAGE_SIZE,
                pages: 2 + random.below(3) * random.below(16),
                destination: random.below(table_of(self.objects[&caller]).length()),
            },
            15..=16 => Call::Map {
                memory: self.random_slot(random, caller, &[ObjectType::Memory, ObjectType::IoPorts])?,
                space: self.random_slot(random, caller, &spaces)?,
                address: 0x40_0000 + random.below(2048) * PAGE_SIZE,
            },
            17 => Call::Unmap { memory: self.random_slot(random, caller, &memory)? },
            18..=19 => {
                let memory = self.random_slot(random, caller, &memory)?;
                let space = self.random_slot(random, caller, &spaces)?;
                let target = table_of(self.objects[&caller]).lookup(space).ok()?;
                if target.first() == self.objects[&self.init].address() {
                    // When the memory goes init would go, and the world with it.
                    return None;
                }
                Call::Donate { memory, space }
            }
            20 => {
                let slot = self.random_slot(random, caller, &[])?;
                if caller == self.init && slot < FIRST_SLOTS && !random.one_in(40) {
                    return None;
                }
                Call::Revoke { slot }
            }
            21..=22 => {
                let slot = self.random_slot(random, caller, &[])?;
                if caller == self.init && slot < FIRST_SLOTS {
                    return None;
                }
                Call::Delete { slot }
            }
            _ => return self.bind(random, caller),
        };
        self.pending.push((caller, call));
        Some(())
    }

    fn derive(&mut self, random: &mut Random, caller: u64) -> Option<()> {
        let index = self.random_slot(random, caller, &[])?;
        let source = table_of(self.objects[&caller]).lookup(index).ok()?;
        let target = self.random_partition(random);
        let table = table_of(self.objects[&target]);
        let index = random.below(table.length());
        let before = grant_of(source);
        let rights = if random.one_in(8) { Rights::from_bits_truncate(random.next() as u16) } else { Rights::all() };
        let engine = &self.machine.engine;
        let slot = if random.one_in(2) && source.count() > 0 {
            let first = random.below(source.count() / PAGE_SIZE + 1) * PAGE_SIZE;
            let most = (source.count().saturating_sub(first)) / PAGE_SIZE;
            let count = (random.below(most.min(48)) + 1) * PAGE_SIZE;
            engine.derive_range(source, rights, first, count, table, index)
        } else {
            engine.derive(source, rights, random.below(3), table, index)
        }
        .ok()?;
        let after = grant_of(slot);
        assert_eq!(after.object_type, before.object_type);
        assert_eq!(after.rights, before.rights & rights);
        assert!(before.rights.contains(Rights::GRANT));
        assert!(before.badge == 0 || after.badge == before.badge);
        assert!(after.first >= before.first && after.first + after.count <= before.first + before.count);
        self.grants.insert(slot.address(), after);
        self.completed += 1;
        Some(())
    }

    fn bind(&mut self, random: &mut Random, caller: u64) -> Option<()> {
        let table = table_of(self.objects[&caller]);
        let thread = table.lookup(self.random_slot(random, caller, &[ObjectType::Thread])?).ok()?;
        let source = table.lookup(self.random_slot(random, caller, &[])?).ok()?;
        let object =
            self.objects.values().copied().find(|object| object.address() == thread.first() && object.is_live())?;
        let destination = binding(object, random.below(BINDINGS));
        self.machine.engine.derive_to(source, Rights::all(), 0, destination).ok()?;
        self.grants.insert(destination.address(), grant_of(destination));
        Some(())
    }

    /// One step of a call. `None`: it is over.
    fn step(&mut self, caller: u64, call: Call) -> Option<()> {
        if !self.is_live(caller) {
            return None;
        }
        let machine = &self.machine;
        let engine = &machine.engine;
        let table = table_of(self.objects[&caller]);
        let lookup = |index| table.lookup(index).expect("in range");
        let space_of = |index| -> Option<Ref<ObjectHeader>> {
            let slot = lookup(index);
            self.objects.iter().filter(|(id, _)| self.exists(**id)).map(|(_, &object)| object).find(|object| {
                matches!(slot.object_type(), ObjectType::Partition | ObjectType::GuestSpace)
                    && object.address() == slot.first()
            })
        };
        take_elementary_steps();
        let outcome: Result<Progress, Error> = match call {
            Call::Revoke { slot } => engine.revoke_step(lookup(slot), machine),
            Call::Delete { slot } => engine.delete_step(lookup(slot), machine),
            Call::Map { memory, space, address } => {
                let slot = lookup(memory);
                if !matches!(slot.object_type(), ObjectType::Memory | ObjectType::IoPorts) {
                    return None;
                }
                let rights = u64::from((Rights::READ | Rights::WRITE).bits());
                engine.map_step(slot, space_of(space)?, address, rights, machine)
            }
            Call::Unmap { memory } => engine.unmap_step(lookup(memory), machine),
            Call::Donate { memory, space } => {
                let slot = lookup(memory);
                if slot.count() > 64 * PAGE_SIZE {
                    return None;
                }
                engine.donate_step(slot, space_of(space)?, machine)
            }
            Call::Create { memory, object_type, offset, pages, destination } => {
                match engine.create_step(lookup(memory), object_type, offset, pages, table, destination) {
                    Ok(None) => Ok(Progress::Again),
                    Ok(Some(object)) => {
                        self.created(object, object_type, pages, lookup(destination));
                        return None;
                    }
                    Err(error) => Err(error),
                }
            }
        };
        assert_one_step();
        match outcome {
            Ok(Progress::Again) => Some(()),
            Ok(Progress::Done) => {
                self.completed += 1;
                None
            }
            Err(_) => None,
        }
    }

    fn created(&mut self, object: Ref<ObjectHeader>, object_type: ObjectType, pages: u64, slot: Ref<Slot>) {
        for page in 0..pages {
            let address = HostPhysical(object.page().0 + page * PAGE_SIZE);
            assert!(page == 0 || is_zero(address), "a new object is not zeroed");
        }
        let grant = grant_of(slot);
        assert_eq!(
            (grant.object_type, grant.rights, grant.first),
            (object_type, object_rights(object_type), object.address())
        );
        self.grants.insert(slot.address(), grant);
        self.objects.insert(object.generation(), object);
        self.completed += 1;
    }

    /// Begins or continues something.
    fn advance(&mut self, random: &mut Random) {
        if self.pending.len() < 12 && random.one_in(2) {
            let _ = self.begin(random);
        }
        if self.pending.is_empty() {
            return;
        }
        let chosen = random.below(self.pending.len() as u64) as usize;
        let (caller, call) = self.pending[chosen];
        for _ in 0..=random.below(6) {
            if self.step(caller, call).is_none() || random.one_in(60) {
                // Over, or abandoned by its caller.
                self.pending.swap_remove(chosen);
                break;
            }
        }
    }

    /// Revokes everything: what remains is what was there at the beginning.
    fn tear_down(mut self) {
        let table = table_of(self.machine.init);
        for index in 1..FIRST_SLOTS {
            let slot = table.lookup(index).expect("in range");
            while self.machine.engine.revoke_step(slot, &self.machine) == Ok(Progress::Again) {}
            assert!(slot.first_child.get().is_none());
        }
        self.pending.clear();
        for index in FIRST_SLOTS..(INIT_PAGES - 1) * SLOTS_PER_PAGE {
            let slot = table.lookup(index).expect("in range");
            // Deletions that were abandoned leave their slots occupied until they are repeated.
            while self.machine.engine.delete_step(slot, &self.machine) == Ok(Progress::Again) {}
            assert!(slot.is_vacant());
        }
        self.check();
        assert_eq!(self.objects.len(), 1);
        for page in INIT_PAGES..RAM_PAGES {
            let range = FrameRange::page(self.machine.ram.page(page)).expect("a page");
            assert!(self.machine.engine.frames().is_free(range));
        }
    }
}

#[test]
fn interrupted_operations_leave_everything_consistent() {
    let mut random = Random::from_environment();
    let total = operations(40);
    let mut completed = 0;
    while random.operation < total {
        let mut world = World::new();
        let end = random.operation + 20_000;
        while random.operation < end && world.is_live(world.init) {
            world.advance(&mut random);
            random.operation += 1;
            if random.one_in(100) {
                world.check();
            }
        }
        world.check();
        completed += world.completed;
        if world.is_live(world.init) {
            world.tear_down();
        }
    }
    assert!(completed > total / 20, "only {completed} operations came to their ends");
}
