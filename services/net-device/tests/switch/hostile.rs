//! Guests and monitors that want the switch's time for themselves.

use crate::guest::*;
use bulkhead_channel::{AtomicU64, Configuration, MonitorSide};
use bulkhead_doubles::{FlatMemory, Time, Watched};
use bulkhead_net_device::*;
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
