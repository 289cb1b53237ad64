//! The cost of revocation is linear in what is revoked, whatever the tree's shape.

use super::machine::{INIT_PAGES, Machine, SLOTS_PER_PAGE, table_of};
use super::random::Random;
use super::take_elementary_steps;
use crate::Progress;
use crate::engine::install_range;
use crate::phys::Ref;
use crate::slot::Slot;
use bulkhead_abi::{ObjectType, PAGE_SIZE, Rights};
use std::vec::Vec;

/// Revokes `count` capabilities, each derived from the one that `parent` chooses among those before it; answers the steps and the
/// elementary steps.
fn revoke(count: u64, mut parent: impl FnMut(u64) -> u64) -> (u64, u64) {
    let machine = Machine::new(1024);
    let init = table_of(machine.init);
    let memory = init.vacant(2).expect("a free slot");
    let length = (1024 - INIT_PAGES) * PAGE_SIZE;
    install_range(memory, ObjectType::Memory, Rights::all(), machine.ram.page(INIT_PAGES).0, length);
    // A partition whose table has room for all of them, and that is not itself part of what is revoked.
    let pages = 1 + count.div_ceil(SLOTS_PER_PAGE);
    let partition = machine.create(memory, ObjectType::Partition, 0, pages, init, 3).expect("free memory");
    let table = table_of(partition);
    let root = machine.engine.derive(memory, Rights::all(), 0, init, 4).expect("a free slot");
    let mut slots: Vec<Ref<Slot>> = std::vec![root];
    for index in 0..count {
        let source = slots[parent(index) as usize];
        let slot = machine.engine.derive(source, Rights::all(), 0, table, index).expect("a free slot");
        slots.push(slot);
    }
    take_elementary_steps();
    let mut steps = 1;
    while machine.engine.revoke_step(root, &machine) == Ok(Progress::Again) {
        steps += 1;
    }
    assert!(slots[1..].iter().all(|slot| slot.is_vacant()));
    assert!(root.first_child.get().is_none());
    (steps, take_elementary_steps())
}

#[test]
fn revocation_is_linear() {
    let mut random = Random::from_environment();
    for count in [1, 100, 10_000] {
        for (steps, elementary) in [
            revoke(count, |_| 0),
            revoke(count, |index| index),
            revoke(count, |index| index / 2),
            revoke(count, |index| random.below(index + 1)),
        ] {
            // Each is adopted at most once, and removed once.
            assert!(steps <= 2 * count + 1, "{steps} steps for {count} capabilities");
            assert!(elementary <= 4 * count + 4, "{elementary} elementary steps for {count}");
        }
    }
}
