//! The virtqueue: what a correct driver may expect, and what a broken one gets.

mod common;
use common::*;

use bulkhead_channel::QueueConfiguration;
use bulkhead_virtio::*;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

fn segment(offset: u64, length: u32) -> Segment {
    Segment { address: DATA + offset, length }
}

fn queue(memory: &Memory, features: u64) -> Queue {
    Queue::new(configuration(), features, memory).unwrap()
}

/// Takes the chain that begins at descriptor 0 after `set_up`.
fn take(features: u64, set_up: impl FnOnce(&Memory)) -> Result<Option<Chain>, QueueError> {
    let memory = Memory::new(0x10000);
    set_up(&memory);
    Driver::default().make_available(&memory, 0);
    queue(&memory, features).take(&memory)
}

#[test]
fn a_chain_is_taken_and_given_back() {
    let memory = Memory::new(0x10000);
    let (mut queue, mut driver) = (queue(&memory, 0), Driver::default());
    assert_eq!(queue.take(&memory), Ok(None));
    memory.descriptor(DESCRIPTORS, 3, segment(0, 16), NEXT, 7);
    memory.descriptor(DESCRIPTORS, 7, segment(32, 512), NEXT | WRITE, 1);
    memory.descriptor(DESCRIPTORS, 1, segment(700, 1), WRITE, 0);
    driver.make_available(&memory, 3);
    let chain = queue.take(&memory).unwrap().unwrap();
    assert_eq!(chain.head(), 3);
    assert_eq!(chain.readable(), [segment(0, 16)]);
    assert_eq!(chain.writable(), [segment(32, 512), segment(700, 1)]);
    assert_eq!(queue.take(&memory), Ok(None));
    queue.give_back(&memory, 3, 513).unwrap();
    assert_eq!(driver.next_used(&memory), Some((3, 513)));
    assert_eq!(driver.next_used(&memory), None);
}

#[test]
fn indexes_wrap() {
    let memory = Memory::new(0x10000);
    let (mut queue, mut driver) = (queue(&memory, 0), Driver::default());
    memory.descriptor(DESCRIPTORS, 5, segment(0, 1), WRITE, 0);
    for round in 0..70_000_u32 {
        driver.make_available(&memory, 5);
        assert_eq!(queue.take(&memory).unwrap().unwrap().head(), 5);
        queue.give_back(&memory, 5, round).unwrap();
        assert_eq!(driver.next_used(&memory), Some((5, round)));
    }
}

#[test]
fn an_indirect_chain_is_followed() {
    let table = DATA + 0x1000;
    let set_up = |memory: &Memory| {
        memory.descriptor(DESCRIPTORS, 0, segment(0, 16), NEXT, 9);
        memory.descriptor(DESCRIPTORS, 9, Segment { address: table, length: 32 }, INDIRECT, 0);
        memory.descriptor(table, 0, segment(64, 512), NEXT | WRITE, 1);
        memory.descriptor(table, 1, segment(600, 1), WRITE, 0);
    };
    let chain = take(feature::INDIRECT_DESCRIPTORS, set_up).unwrap().unwrap();
    assert_eq!(chain.readable(), [segment(0, 16)]);
    assert_eq!(chain.writable(), [segment(64, 512), segment(600, 1)]);
    assert_eq!(take(0, set_up), Err(QueueError::Indirect));
}

#[test]
fn broken_chains_are_refused() {
    let refuse = |error, set_up: fn(&Memory)| assert_eq!(take(feature::INDIRECT_DESCRIPTORS, set_up), Err(error));
    refuse(QueueError::Loop, |memory| memory.descriptor(DESCRIPTORS, 0, segment(0, 8), NEXT, 0));
    refuse(QueueError::Loop, |memory| {
        memory.descriptor(DESCRIPTORS, 0, segment(0, 8), NEXT, 1);
        memory.descriptor(DESCRIPTORS, 1, segment(0, 8), NEXT, 0);
    });
    refuse(QueueError::DescriptorIndex, |memory| memory.descriptor(DESCRIPTORS, 0, segment(0, 8), NEXT, SIZE));
    refuse(QueueError::EmptyDescriptor, |memory| memory.descriptor(DESCRIPTORS, 0, segment(0, 0), 0, 0));
    refuse(QueueError::Order, |memory| {
        memory.descriptor(DESCRIPTORS, 0, segment(0, 8), NEXT | WRITE, 1);
        memory.descriptor(DESCRIPTORS, 1, segment(0, 8), 0, 0);
    });
    for (length, flags) in [(16, INDIRECT | NEXT), (15, INDIRECT), (0, INDIRECT), (17, INDIRECT)] {
        let set_up = |memory: &Memory| memory.descriptor(DESCRIPTORS, 0, segment(0, length), flags, 0);
        assert_eq!(take(feature::INDIRECT_DESCRIPTORS, set_up), Err(QueueError::Indirect));
    }
    // Nested, and the table that is its own entry.
    refuse(QueueError::Indirect, |memory| {
        memory.descriptor(DESCRIPTORS, 0, segment(0, 16), INDIRECT, 0);
        memory.descriptor(DATA, 0, segment(0, 16), INDIRECT, 0);
    });
    refuse(QueueError::Memory, |memory| {
        memory.descriptor(DESCRIPTORS, 0, Segment { address: u64::MAX - 15, length: 0xffff_fff0 }, INDIRECT, 0);
    });
    refuse(QueueError::TooLong, |memory| {
        memory.descriptor(DESCRIPTORS, 0, Segment { address: DATA, length: 16 * 300 }, INDIRECT, 0);
        for index in 0..300 {
            memory.descriptor(DATA, index, segment(0, 1), NEXT, index + 1);
        }
    });
}

#[test]
fn an_available_index_that_ran_ahead_is_refused() {
    let memory = Memory::new(0x10000);
    memory.set_u16(DRIVER + 2, SIZE + 1);
    assert_eq!(queue(&memory, 0).take(&memory), Err(QueueError::AvailableIndex));
    memory.set_u16(DRIVER + 2, u16::MAX);
    assert_eq!(queue(&memory, 0).take(&memory), Err(QueueError::AvailableIndex));
    memory.set_u16(DRIVER + 2, 1);
    memory.set_u16(DRIVER + 4, SIZE);
    assert_eq!(queue(&memory, 0).take(&memory), Err(QueueError::DescriptorIndex));
}

#[test]
fn a_queue_outside_the_memory_is_refused() {
    let memory = Memory::new(0x10000);
    for at in [
        QueueConfiguration { size: 0, ..configuration() },
        QueueConfiguration { descriptors: 0, ..configuration() },
        QueueConfiguration { driver: BASE + 0xffe0, ..configuration() },
        QueueConfiguration { device: u64::MAX - 3, ..configuration() },
    ] {
        assert_eq!(Queue::new(at, 0, &memory).err(), Some(QueueError::Memory));
    }
}

#[test]
fn flags_suppress_notifications() {
    let memory = Memory::new(0x10000);
    let (mut queue, mut driver) = (queue(&memory, 0), Driver::default());
    memory.descriptor(DESCRIPTORS, 0, segment(0, 1), WRITE, 0);
    assert_eq!(queue.wants_interrupt(&memory), Ok(false));
    queue.give_back(&memory, 0, 1).unwrap();
    assert_eq!(queue.wants_interrupt(&memory), Ok(true));
    assert_eq!(queue.wants_interrupt(&memory), Ok(false));
    memory.set_u16(DRIVER, 1);
    queue.give_back(&memory, 0, 1).unwrap();
    assert_eq!(queue.wants_interrupt(&memory), Ok(false));
    queue.suppress_doorbell(&memory).unwrap();
    assert_eq!(memory.u16(DEVICE), 1);
    assert_eq!(queue.request_doorbell(&memory), Ok(false));
    assert_eq!(memory.u16(DEVICE), 0);
    driver.make_available(&memory, 0);
    assert_eq!(queue.request_doorbell(&memory), Ok(true));
}

#[test]
fn event_indexes_suppress_notifications() {
    let memory = Memory::new(0x10000);
    let mut queue = queue(&memory, feature::EVENT_INDEX);
    let used_event = DRIVER + 4 + 2 * u64::from(SIZE);
    let available_event = DEVICE + 4 + 8 * u64::from(SIZE);
    // The driver wants an interrupt for the third chain.
    memory.set_u16(used_event, 2);
    for expected in [false, false, true, false] {
        queue.give_back(&memory, 0, 0).unwrap();
        assert_eq!(queue.wants_interrupt(&memory), Ok(expected));
    }
    // Several at once, the event among them, across the wrap of the index.
    memory.set_u16(used_event, 5);
    for _ in 0..3 {
        queue.give_back(&memory, 0, 0).unwrap();
    }
    assert_eq!(queue.wants_interrupt(&memory), Ok(true));
    memory.descriptor(DESCRIPTORS, 0, segment(0, 1), WRITE, 0);
    Driver::default().make_available(&memory, 0);
    queue.take(&memory).unwrap().unwrap();
    queue.request_doorbell(&memory).unwrap();
    assert_eq!(memory.u16(available_event), 1);
}

#[test]
fn ranges_across_physical_pieces_are_contained() {
    let memory = Memory::new(0x10000);
    assert!(memory.contains(BASE, 0x10000));
    assert!(memory.contains(BASE + CONTIGUOUS - 1, 2));
    assert!(!memory.contains(BASE, 0x10001));
    assert!(!memory.contains(BASE - 1, 2));
    assert!(!memory.contains(u64::MAX, 2));
}
