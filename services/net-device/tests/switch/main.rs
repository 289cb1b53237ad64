//! Guests on a switch: frames arrive where the policy allows, whole, and nowhere else.

mod card;
mod guest;
mod hostile;
mod uplink;
mod vlan;

use bulkhead_channel::Interrupts;
use bulkhead_net_device::*;
use bulkhead_virtio::GuestMemory;
use guest::*;
use proptest::prelude::*;

#[test]
fn a_frame_arrives_whole() {
    for features in [feature::VERSION_1, ALL, ALL | feature::EVENT_INDEX] {
        let mut world = world(2, both_ways(&[(0, 1)]), 0, features, 2048);
        for length in [14, 60, 61, 1514] {
            let frame = world.frame(0, world.guests[1].mac, length);
            assert!(world.guests[0].send(NONE, &frame), "the switch sleeps: it must be rung for");
            world.run();
            assert_eq!(world.guests[0].used(1).len(), 1);
            let received = world.guests[1].receive();
            assert_eq!(received.len(), 1, "{features:#x} {length}");
            assert_eq!(received[0].1, frame);
            assert_eq!(received[0].0[10..], [1, 0]);
            assert!(world.guests[1].monitor.take_interrupts().contains(Interrupts::queue(0)));
        }
    }
}

#[test]
fn a_train_of_segments_passes_between_guests_that_take_it() {
    let mut world = world(2, both_ways(&[(0, 1)]), 0, ALL, 4096);
    let frame = world.frame(0, world.guests[1].mac, 40_000);
    let header = Header { checksum: Some((34, 16)), segments: Some((1448, 66)) };
    world.guests[0].send(header.to_bytes(0), &frame);
    world.run();
    let received = world.guests[1].receive();
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].0, header.to_bytes(10));
    assert_eq!(received[0].1, frame);
    // Who takes none does not get what cannot be cut, but the open checksum of a plain frame filled in.
    let mut world = self::world(2, both_ways(&[(0, 1)]), 0, ALL, 4096);
    world.guests[1].monitor.reset();
    world.run();
    world.guests[1].available = [0; 2];
    world.guests[1].used = [0; 2];
    for area in [QUEUES[0] + 0x1000, QUEUES[0] + 0x2000, QUEUES[1] + 0x1000, QUEUES[1] + 0x2000] {
        world.guests[1].memory.write(area, &[0; 0x200]).unwrap();
    }
    world.guests[1].configure(feature::VERSION_1);
    world.guests[1].fill();
    world.guests[0].send(header.to_bytes(0), &frame);
    let plain = world.frame(0, world.guests[1].mac, 100);
    world.guests[0].send(Header { checksum: Some((34, 16)), segments: None }.to_bytes(0), &plain);
    world.run();
    let received = world.guests[1].receive();
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].0[..2], [0, 0]);
    assert_ne!(received[0].1, plain);
    assert_eq!(received[0].1[..50], plain[..50]);
    assert_eq!(world.switch.ports()[1].statistics().missed, 1);
    // What really is a train is cut for it.
    let mut train = world.frame(0, world.guests[1].mac, 54 + 3 * 1000 + 7);
    train[12..16].copy_from_slice(&[0x08, 0x00, 0x45, 0x00]);
    train[23] = 6;
    train[46] = 0x50;
    let header = Header { checksum: Some((34, 16)), segments: Some((1000, 54)) };
    world.guests[0].send(header.to_bytes(0), &train);
    world.run();
    let received = world.guests[1].receive();
    let lengths: Vec<_> = received.iter().map(|(_, frame)| frame.len()).collect();
    assert_eq!(lengths, [1054, 1054, 1054, 61]);
    let payload: Vec<u8> = received.iter().flat_map(|(_, frame)| frame[54..].to_vec()).collect();
    assert_eq!(payload, train[54..]);
}

#[test]
fn wrong_frames_are_dropped_and_counted() {
    let mut world = world(2, both_ways(&[(0, 1)]), 0, feature::VERSION_1, 2048);
    let (own, other) = (world.guests[0].mac, world.guests[1].mac);
    let good = world.frame(0, other, 60);
    let mut spoofed = good.clone();
    spoofed[11] = 9;
    let stranger = world.frame(0, Mac([2, 0, 0, 0, 0, 77]), 60);
    let to_oneself = world.frame(0, own, 60);
    let long = world.frame(0, other, 1519);
    let open_checksum = Header { checksum: Some((0, 0)), segments: None }.to_bytes(0);
    for (header, frame) in [
        (NONE, &spoofed),
        (NONE, &stranger),
        (NONE, &to_oneself),
        (NONE, &long),
        (open_checksum, &good),
        (NONE, &good[..13].to_vec()),
    ] {
        world.guests[0].send(header, frame);
        world.run();
    }
    let drops = world.switch.ports()[0].statistics().dropped;
    assert_eq!(drops, Drops { length: 2, header: 1, source: 1, tag: 0, destination: 2, receiver: 0 });
    assert_eq!(world.guests[0].used(1).len(), 6);
    assert!(world.guests[1].receive().is_empty());
    // A receiver without buffers loses its own frames.
    for _ in 0..SIZE + 4 {
        world.guests[0].send(NONE, &good);
        world.run();
    }
    assert_eq!(world.guests[1].receive().len(), usize::from(SIZE));
    assert_eq!(world.switch.ports()[0].statistics().dropped.receiver, 4);
}

#[test]
fn a_rate_is_kept() {
    let mut world = world(2, both_ways(&[(0, 1)]), 100_000, feature::VERSION_1, 2048);
    let frame = world.frame(0, world.guests[1].mac, 1000);
    let mut received = 0;
    for now in 0..3000 {
        world.time.0.set(now);
        if world.guests[0].available[1].wrapping_sub(world.guests[0].used[1]) < 4 {
            world.guests[0].send(NONE, &frame);
        }
        world.run();
        world.guests[0].used(1);
        received += world.guests[1].receive().len();
    }
    assert!((290..=301).contains(&received), "{received}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Frames go where addresses and policy say, and nowhere else.
    #[test]
    fn nobody_hears_what_is_not_for_him(
        rules in proptest::collection::vec((0usize..4, 0usize..4), 0..8),
        frames in proptest::collection::vec((0usize..4, 0usize..6, 14usize..1500), 1..40))
    {
        let mut policy = Policy::NONE;
        for (from, to) in &rules {
            policy.allow(*from, 1 << to);
        }
        let mut world = world(4, policy, 0, ALL, 2048);
        for (from, to, length) in frames {
            let mac = match to {
                0..4 => world.guests[to].mac,
                4 => Mac([0xff; 6]),
                _ => Mac([2, 9, 9, 9, 9, 9]),
            };
            let frame = world.frame(from, mac, length);
            world.guests[from].send(NONE, &frame);
            world.run();
            world.guests[from].used(1);
            for guest in 0..4 {
                let meant = (to == 4 || to == guest) && guest != from && rules.contains(&(from, guest));
                let received = world.guests[guest].receive();
                prop_assert_eq!(received.len(), usize::from(meant));
                prop_assert!(received.iter().all(|(_, bytes)| *bytes == frame));
            }
        }
    }

    /// A guest that writes anything into its queues stops itself at the most.
    #[test]
    fn hostile_queues_harm_nobody_else(writes in proptest::collection::vec((0u64..0x7000, any::<u64>()), 1..200)) {
        let mut world = world(3, both_ways(&[(0, 1), (1, 2)]), 0, ALL, 2048);
        for (at, value) in writes {
            world.guests[0].memory.write(at, &value.to_le_bytes()).unwrap();
            for _ in 0..4 {
                let _ = world.switch.work();
            }
            world.switch.take_signals(|_, _| {});
        }
        // What came of it is drained; then the others still talk.
        world.guests[1].receive();
        let frame = world.frame(1, world.guests[2].mac, 700);
        world.guests[1].send(NONE, &frame);
        for _ in 0..8 {
            let _ = world.switch.work();
        }
        let received = world.guests[2].receive();
        prop_assert_eq!(received.iter().filter(|(_, bytes)| *bytes == frame).count(), 1);
    }
}
