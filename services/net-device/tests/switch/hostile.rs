//! Guests and monitors that want the switch's time for themselves.

use crate::guest::*;
use bulkhead_channel::{AtomicU64, Configuration, MonitorSide};
use bulkhead_doubles::{FlatMemory, Time, Watched};
use bulkhead_net_device::*;
use bulkhead_virtio::GuestMemory;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;

fn words() -> &'static [AtomicU64] {
    Box::leak((0..512).map(|_| AtomicU64::new(0)).collect())
}

#[test]
fn a_monitor_that_commands_without_end_has_no_more_than_its_turn() {
    let words = words();
    // Its next command comes while the last one is obeyed: there is no memory for the queues.
    let watch = || {
        let given = words[24].fetch_add(1, Relaxed);
        assert!(given as u32 <= 4, "the switch does nothing but obey");
    };
    let memory = Watched { memory: FlatMemory::new(0, 0), watch };
    let offer = CardOffer { mac: Mac([2, 0, 0, 0, 0, 1]), mtu: 1500, checksum: false, segmentation: false, link: true };
    let mut switch = Switch::new(Time::default(), Policy::NONE, vec![0; MAX_TRAIN].leak());
    switch.add(Port::publish(words, memory, offer, 0).unwrap()).unwrap();
    let mut choice = Configuration { features: feature::VERSION_1, ..Default::default() };
    for queue in 0..2 {
        choice.queues[queue] = Some(Guest::place(queue));
    }
    MonitorSide::attach(words).unwrap().configure(&choice);
    let _ = switch.work();
    // The reset that the monitor begins with was given up for it.
    assert_eq!(words[8].load(Relaxed) as u32, 2, "one command is answered");
}

#[test]
fn who_sends_trains_has_no_more_of_the_switch_than_who_sends_frames() {
    let mut world = world(3, both_ways(&[(0, 2), (1, 2)]), 0, ALL, BUFFER_BYTES as u32);
    let receiver = world.guests[2].mac;
    let train = world.frame(0, receiver, 60_000);
    let header = Header { checksum: Some((34, 16)), segments: Some((1448, 66)) };
    for _ in 0..3 {
        world.guests[0].send(header.to_bytes(0), &train);
    }
    let frame = world.frame(1, receiver, 100);
    world.guests[1].send(NONE, &frame);
    world.run();
    let lengths: Vec<_> = world.guests[2].receive().iter().map(|(_, frame)| frame.len()).collect();
    assert_eq!(lengths, [60_000, 100, 60_000, 60_000]);
}

#[test]
fn a_receiver_of_many_small_buffers_costs_no_more_than_one_long_chain() {
    const FEATURES: u64 = feature::VERSION_1 | feature::MERGED_BUFFERS | feature::INDIRECT_DESCRIPTORS;
    let uses = Rc::new(Cell::new(0));
    let mut switch = Switch::new(Time::default(), both_ways(&[(0, 1)]), vec![0; MAX_TRAIN].leak());
    let mut guests = [0, 1].map(|number| {
        let (words, memory, uses) = (words(), FlatMemory::new(MEMORY, 0), uses.clone());
        let mac = Mac([2, 0, 0, 0, 0, number]);
        let offer = CardOffer { mac, mtu: 1500, checksum: false, segmentation: false, link: true };
        let watched = Watched { memory: memory.clone(), watch: move || uses.set(uses.get() + 1) };
        switch.add(Port::publish(words, watched, offer, 0).unwrap()).unwrap();
        let monitor = MonitorSide::attach(words).unwrap();
        let (available, used) = ([0; 2], [0; 2]);
        let mut guest = Guest { monitor, memory, mac, available, used, features: 0, room: 0 };
        guest.configure(FEATURES);
        guest
    });
    // Each buffer is a table of 90 descriptors of a byte: all of them are too few for a frame.
    for index in 0..90u64 {
        let value = u128::from(BUFFERS[0] + index) | 1 << 64 | 3 << 96 | u128::from(index + 1) << 112;
        let value = if index == 89 { value & !(1 << 96) } else { value };
        guests[1].memory.write(0x8000 + 16 * index, &value.to_le_bytes()).unwrap();
    }
    for index in 0..SIZE {
        guests[1].descriptor(0, index, 0x8000, 16 * 90, 4, 0);
        guests[1].offer(0, index);
    }
    while switch.work() {}
    let mut frame = guests[1].mac.0.to_vec();
    frame.extend(guests[0].mac.0);
    frame.extend([0; 1500]);
    guests[0].send(NONE, &frame);
    uses.set(0);
    while switch.work() {}
    assert_eq!(switch.ports()[1].statistics().missed, 1);
    assert!(uses.get() < 600, "{} uses of memory", uses.get());
}
