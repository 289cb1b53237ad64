//! A slot that was damaged does not agree with its neighbours, whichever link or number it is.

use crate::Progress;
use crate::engine::{install_object, install_range};
use crate::frames::{DEVICE, FrameRange, KERNEL};
use crate::phys::{HostPhysical, Ref};
use crate::slot::{Slot, Usage};
use crate::tests::machine::{INIT_PAGES, Machine, table_of};
use bulkhead_abi::{Error, ObjectType, PAGE_SIZE, Rights};

const RAM_PAGES: u64 = 64;

/// Memory in slot 2, three parts of it in slots 3 to 5, the middle one mapped at twice, an object in slot 7.
fn machine() -> Machine {
    let machine = Machine::new(RAM_PAGES);
    let table = table_of(machine.init);
    let slot = |index| table.vacant(index).expect("a free slot");
    install_object(slot(1), machine.init, Rights::all());
    let first = machine.ram.page(INIT_PAGES).0;
    install_range(slot(2), ObjectType::Memory, Rights::all(), first, (RAM_PAGES - INIT_PAGES) * PAGE_SIZE);
    let root = slot_of(&machine, 2);
    for (index, page) in [(3, 0), (4, 1), (5, 2), (6, 30)] {
        let rights =
            Rights::READ | Rights::WRITE | Rights::GRANT | if index == 6 { Rights::CREATE } else { Rights::empty() };
        let count = if index == 6 { 16 } else { 2 };
        machine.engine.derive_range(root, rights, page * PAGE_SIZE, count * PAGE_SIZE, table, index).expect("derived");
    }
    repeat(|| machine.engine.donate_step(slot_of(&machine, 6), machine.init, &machine));
    for (index, address) in [(3, 0x40_0000), (4, 0x50_0000)] {
        let rights = u64::from((Rights::READ | Rights::WRITE).bits());
        repeat(|| machine.engine.map_step(slot_of(&machine, index), machine.init, address, rights, &machine));
    }
    machine.create(root, ObjectType::Notification, 20 * PAGE_SIZE, 1, table, 7).expect("created");
    machine.engine.derive(slot_of(&machine, 7), Rights::SIGNAL, 4, table, 8).expect("derived");
    machine
}

fn repeat(mut step: impl FnMut() -> Result<Progress, Error>) {
    while step().expect("the step is allowed") == Progress::Again {}
}

fn slot_of(machine: &Machine, index: u64) -> Ref<Slot> {
    table_of(machine.init).lookup(index).expect("in range")
}

/// The slots that contradict their neighbours.
fn contradictions(machine: &Machine) -> std::vec::Vec<u64> {
    let agrees = |index: &u64| !machine.engine.agrees(slot_of(machine, *index));
    (0..table_of(machine.init).length()).filter(agrees).collect()
}

/// What is damaged, and how.
type Damage = (&'static str, fn(&Machine));

#[test]
fn every_damage_is_noticed() {
    assert_eq!(contradictions(&machine()), []);
    let damages: [Damage; 15] = [
        ("a parent that does not know its child", |machine| slot_of(machine, 2).first_child.set(None)),
        ("a child without a parent", |machine| slot_of(machine, 4).parent.set(None)),
        ("a child of another parent", |machine| slot_of(machine, 4).parent.set(Some(slot_of(machine, 3)))),
        ("a sibling that is passed over", |machine| slot_of(machine, 5).siblings.next.set(Some(slot_of(machine, 3)))),
        ("a sibling without a way back", |machine| slot_of(machine, 3).siblings.previous.set(None)),
        ("an empty slot in the tree", |machine| slot_of(machine, 9).parent.set(Some(slot_of(machine, 2)))),
        ("more rights than the parent has", |machine| {
            let capability = slot_of(machine, 8).get();
            slot_of(machine, 8).set(crate::slot::Capability { rights: Rights::all(), ..capability });
            let above = slot_of(machine, 7).get();
            slot_of(machine, 7).set(crate::slot::Capability { rights: Rights::READ, ..above });
        }),
        ("another badge than the parent's", |machine| {
            let above = slot_of(machine, 7).get();
            slot_of(machine, 7).set(crate::slot::Capability { badge: 1, ..above });
        }),
        ("a range that reaches out of the parent's", |machine| {
            let capability = slot_of(machine, 5).get();
            slot_of(machine, 5).set(crate::slot::Capability { count: RAM_PAGES * PAGE_SIZE, ..capability });
        }),
        ("a range before the parent's", |machine| {
            let capability = slot_of(machine, 5).get();
            slot_of(machine, 5).set(crate::slot::Capability { object: 0, ..capability });
        }),
        ("a use without a space", |machine| slot_of(machine, 5).usage.set(Usage::Mapped)),
        ("a space without a use", |machine| slot_of(machine, 3).usage.set(Usage::None)),
        ("a list of uses that is broken", |machine| slot_of(machine, 3).uses.previous.set(None)),
        ("a mapped page that is not counted", |machine| {
            let range = FrameRange::new(HostPhysical(slot_of(machine, 3).first()), PAGE_SIZE).expect("a page");
            machine.engine.frames().remove_mapping(range);
        }),
        ("an object on a page that is free", |machine| {
            let range = FrameRange::page(machine.ram.page(INIT_PAGES + 20)).expect("a page");
            machine.engine.frames().release_from_kernel(range).expect("it was the kernel's");
        }),
    ];
    for (what, damage) in damages {
        let machine = machine();
        damage(&machine);
        assert_ne!(contradictions(&machine), [], "{what}");
    }
}

#[test]
fn only_memory_and_objects_have_an_account() {
    let machine = machine();
    let account = |index| machine.engine.inspect(slot_of(&machine, index)).expect("it agrees")[1] >> 32;
    assert_eq!([account(3), account(7)].map(|account| account as u32), [1, KERNEL]);
    // Numbers of ports and interrupts, which as addresses would be those of a mapped page.
    let first = slot_of(&machine, 3).first();
    for (index, object_type) in [(10, ObjectType::IoPorts), (11, ObjectType::Interrupt)] {
        install_range(slot_of(&machine, index), object_type, Rights::READ, first, 1);
        assert_eq!(account(index) as u32, DEVICE);
    }
}
