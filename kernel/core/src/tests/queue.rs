//! Queues against vectors.

use super::machine::{Ram, array};
use crate::phys::{KernelObject, Ref};
use crate::queue::{Linked, Links, List, Priority, ReadyQueue, Timed, Timer, TimerQueue};
use core::cell::Cell;
use proptest::prelude::*;
use std::collections::{BTreeSet, VecDeque};
use std::vec::Vec;

impl<T> Timer<T> {
    /// The deadline, while it is in a queue.
    fn deadline(&self) -> Option<u64> {
        self.is_armed().then(|| self.deadline.get())
    }
}

struct Waiting;
struct Ready;
struct Sleeping;

#[repr(C)]
struct Item {
    number: Cell<u64>,
    waiting: Links<Item>,
    ready: Links<Item>,
    timer: Timer<Item>,
}

// SAFETY: cells, valid when zero.
unsafe impl KernelObject for Item {}

/// A queue of each kind.
#[repr(C)]
struct Queues {
    list: List<Item, Waiting>,
    ready: ReadyQueue<Item, Ready>,
    timers: TimerQueue<Item, Sleeping>,
}

// SAFETY: queues, empty when zero.
unsafe impl KernelObject for Queues {}

impl Linked<Waiting> for Item {
    fn links(&self) -> &Links<Self> {
        &self.waiting
    }
}
impl Linked<Ready> for Item {
    fn links(&self) -> &Links<Self> {
        &self.ready
    }
}
impl Timed<Sleeping> for Item {
    fn timer(&self) -> &Timer<Self> {
        &self.timer
    }
}

const ITEMS: u64 = 24;

fn items(ram: &Ram) -> Vec<Ref<Item>> {
    let items = array::<Item>(ram, ITEMS);
    (0..ITEMS)
        .filter_map(|number| {
            let item = items.get(number)?;
            item.number.set(number);
            Some(item)
        })
        .collect()
}

fn queues(ram: &Ram) -> Ref<Queues> {
    array::<Queues>(ram, 1).get(0).expect("one")
}

fn number(item: Option<Ref<Item>>) -> Option<u64> {
    item.map(|item| item.number.get())
}

#[derive(Clone, Debug)]
enum Operation {
    Append,
    Prepend,
    Remove,
    Pop,
}

fn operation() -> impl Strategy<Value = (Operation, u64, u64)> {
    let kind = prop_oneof![
        3 => Just(Operation::Append),
        2 => Just(Operation::Prepend),
        2 => Just(Operation::Remove),
        2 => Just(Operation::Pop)
    ];
    (kind, 0..ITEMS, prop_oneof![0u64..64, Just(0u64), Just(63u64)])
}

proptest! {
    #[test]
    fn a_list_agrees_with_a_deque(operations in proptest::collection::vec(operation(), 1..200)) {
        let (ram, other_ram) = (Ram::new(1), Ram::new(1));
        let items = items(&ram);
        let list = &queues(&other_ram).list;
        let mut model: VecDeque<u64> = VecDeque::new();
        for (kind, chosen, _) in operations {
            let item = items[chosen as usize];
            match kind {
                Operation::Append => {
                    list.push_back(item);
                    if !model.contains(&chosen) {
                        model.push_back(chosen);
                    }
                }
                Operation::Prepend => {
                    list.push_front(item);
                    if !model.contains(&chosen) {
                        model.push_front(chosen);
                    }
                }
                Operation::Remove => {
                    list.remove(item);
                    model.retain(|&other| other != chosen);
                }
                Operation::Pop => prop_assert_eq!(number(list.pop_front()), model.pop_front()),
            }
            let mut found = Vec::new();
            let mut next = list.first();
            while let Some(item) = next {
                found.push(item.number.get());
                next = List::<Item, Waiting>::next(item);
            }
            prop_assert!(found.iter().eq(model.iter()));
            prop_assert_eq!(list.is_empty(), model.is_empty());
            for item in &items {
                prop_assert_eq!(item.waiting.is_linked(), model.contains(&item.number.get()));
            }
        }
    }

    #[test]
    fn the_ready_queue_agrees_with_64_deques(operations in proptest::collection::vec(operation(), 1..200)) {
        let (ram, other_ram) = (Ram::new(1), Ram::new(1));
        let items = items(&ram);
        let queue = &queues(&other_ram).ready;
        let mut model: Vec<VecDeque<u64>> = std::vec![VecDeque::new(); 64];
        for (kind, chosen, level) in operations {
            let item = items[chosen as usize];
            let priority = Priority::new(level).expect("below 64");
            let queued = model.iter().any(|list| list.contains(&chosen));
            match kind {
                Operation::Append => {
                    queue.push(item, priority, false);
                    if !queued {
                        model[level as usize].push_back(chosen);
                    }
                }
                Operation::Prepend => {
                    queue.push(item, priority, true);
                    if !queued {
                        model[level as usize].push_front(chosen);
                    }
                }
                Operation::Remove => {
                    queue.remove(item);
                    for list in &mut model {
                        list.retain(|&other| other != chosen);
                    }
                }
                Operation::Pop => {
                    let expected = model.iter_mut().rev().find_map(VecDeque::pop_front);
                    prop_assert_eq!(number(queue.pop()), expected);
                }
            }
            let highest = model.iter().rposition(|list| !list.is_empty());
            prop_assert_eq!(queue.highest().map(|priority| priority.number() as usize), highest);
        }
    }

    #[test]
    fn timers_agree_with_a_sorted_set(operations in proptest::collection::vec(operation(), 1..200)) {
        let (ram, other_ram) = (Ram::new(1), Ram::new(1));
        let items = items(&ram);
        let queue = &queues(&other_ram).timers;
        let mut model: BTreeSet<(u64, u64)> = BTreeSet::new();
        for (kind, chosen, deadline) in operations {
            let item = items[chosen as usize];
            match kind {
                Operation::Append | Operation::Prepend => {
                    queue.arm(item, deadline);
                    model.retain(|&(_, other)| other != chosen);
                    model.insert((deadline, chosen));
                }
                Operation::Remove => {
                    queue.disarm(item);
                    model.retain(|&(_, other)| other != chosen);
                }
                Operation::Pop => {
                    let popped = queue.pop_expired(deadline);
                    let earliest = model.first().map(|&(at, _)| at).filter(|&at| at <= deadline);
                    // Among equal deadlines any may come first.
                    prop_assert_eq!(popped.is_some(), earliest.is_some());
                    if let (Some(item), Some(at)) = (popped, earliest) {
                        prop_assert!(model.remove(&(at, item.number.get())));
                    }
                }
            }
            prop_assert_eq!(queue.earliest(), model.first().map(|&(at, _)| at));
            for item in &items {
                let expected = model.iter().find(|&&(_, other)| other == item.number.get());
                prop_assert_eq!(item.timer.deadline(), expected.map(|&(at, _)| at));
            }
        }
        // What is left comes out in order.
        let mut last = 0;
        while let Some(item) = queue.pop_expired(u64::MAX) {
            let number = item.number.get();
            let &(at, _) = model.iter().find(|&&(_, other)| other == number).expect("armed");
            prop_assert!(at >= last);
            last = at;
            model.retain(|&(_, other)| other != number);
        }
        prop_assert!(model.is_empty());
    }
}

#[test]
fn priorities_are_checked() {
    assert_eq!(Priority::new(63), Some(Priority::HIGHEST));
    assert_eq!(Priority::new(0), Some(Priority::default()));
    assert_eq!(Priority::new(64), None);
}
