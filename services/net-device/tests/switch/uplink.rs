//! The outside: what goes there, and what comes from there.

use crate::card::{Card, sum};
use crate::guest::*;
use bulkhead_channel::Interrupts;
use bulkhead_net_device::*;
use proptest::prelude::*;

const STRANGER: Mac = Mac([2, 9, 9, 9, 9, 9]);
const EVERYBODY: Mac = Mac([0xff; 6]);

/// Two guests, of which the second does not reach the uplink, nor it the second; they reach each other.
fn two(card: &Card, features: u64) -> World {
    let policy = both_ways(&[(0, 1), (0, 2)]);
    Ports { vlans: &[0, 0], policy, rate: 0, features, room: 2048, card: Some(card.clone()) }.world()
}

pub fn frame(destination: Mac, source: Mac, behind: &[u8]) -> Vec<u8> {
    [&destination.0, &source.0, behind].concat()
}

/// UDP over IPv4 whose checksum is open, and the same with it filled in, from byte 34 on, at 6 behind it.
pub fn open_checksum(world: &World, from: usize, to: Mac, payload: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut open = world.frame(from, to, 42);
    open.extend(payload);
    let pseudo = sum(&[open[26..34].to_vec(), vec![0, 17], (8 + payload.len() as u16).to_be_bytes().to_vec()].concat());
    open[40..42].copy_from_slice(&pseudo.to_be_bytes());
    let mut filled = open.clone();
    let value = match !sum(&open[34..]) {
        0 => 0xffff,
        value => value,
    };
    filled[40..42].copy_from_slice(&value.to_be_bytes());
    (open, filled)
}

pub const OPEN: Header = Header { checksum: Some((34, 6)), segments: None };

#[test]
fn strangers_are_outside_and_guests_inside() {
    let card = Card::new(true, true);
    let mut world = two(&card, ALL);
    assert!(card.0.promiscuous.get(), "frames to guests' addresses arrive");
    let [red, blue] = [0, 1].map(|guest| world.guests[guest].mac);
    let sending =
        [(0, STRANGER, true, false), (0, blue, false, true), (0, EVERYBODY, true, true), (1, STRANGER, false, false)];
    for (from, to, outside, inside) in sending {
        let frame = world.frame(from, to, 100);
        world.send(from, &frame);
        assert_eq!(card.sent().contains(&frame), outside, "{from} {to:?}");
        assert_eq!(world.received()[1].contains(&frame), inside, "{from} {to:?}");
    }
    assert_eq!(world.switch.ports()[1].statistics().dropped.destination, 1);
    let arriving =
        [(red, STRANGER, true), (blue, STRANGER, false), (EVERYBODY, STRANGER, true), (STRANGER, STRANGER, false)];
    for (to, from, passes) in arriving {
        let frame = frame(to, from, &[8, 0, 1, 2, 3]);
        card.arrive(&frame);
        world.run();
        assert_eq!(world.received(), [if passes { vec![frame] } else { vec![] }, vec![]], "{to:?}");
    }
    let statistics = world.switch.uplink().unwrap().statistics();
    assert_eq!((statistics.sent, statistics.received, statistics.dropped.destination), (2, 2, 2));
    assert!(card.sent().is_empty(), "nothing goes back out");
}

#[test]
fn nobody_outside_has_a_guests_address() {
    let card = Card::new(true, true);
    let mut world = two(&card, ALL);
    let [red, blue] = [0, 1].map(|guest| world.guests[guest].mac);
    for source in [red, blue, EVERYBODY] {
        card.arrive(&frame(red, source, &[8, 0]));
    }
    card.arrive(&[2; 13]);
    card.arrive(&vec![2; 80_000]);
    world.run();
    assert_eq!(world.received(), [vec![], Vec::<Vec<u8>>::new()]);
    let dropped = world.switch.uplink().unwrap().statistics().dropped;
    assert_eq!(dropped, Drops { source: 3, length: 2, ..Drops::default() });
}

#[test]
fn checksums_are_filled_in_by_whoever_can() {
    for card_fills in [true, false] {
        let card = Card::new(card_fills, false);
        let mut world = two(&card, ALL);
        // The other guest hears it, too, with or without the checksum.
        let (open, filled) = open_checksum(&world, 0, EVERYBODY, b"payload");
        world.guests[0].send(OPEN.to_bytes(0), &open);
        world.run();
        assert_eq!(card.sent().concat(), filled);
        assert_eq!(card.0.offload.get().checksum.is_some(), card_fills);
        let (header, frame) = world.guests[1].receive().remove(0);
        assert_eq!(
            (header, frame),
            if card_fills { (OPEN.to_bytes(1), open) } else { (Header::default().to_bytes(1), filled) }
        );
    }
}

#[test]
fn trains_go_to_cards_that_cut_them() {
    for cuts in [true, false] {
        let card = Card::new(true, cuts);
        let mut world = two(&card, ALL);
        let train = world.frame(0, STRANGER, 10_000);
        let header = Header { checksum: Some((34, 16)), segments: Some((1448, 66)) };
        world.guests[0].send(header.to_bytes(0), &train);
        world.run();
        assert_eq!(card.sent().len(), usize::from(cuts));
        assert_eq!(card.0.offload.get().segment, cuts.then_some(1448));
        let missed = world.switch.uplink().unwrap().statistics().missed;
        assert_eq!((missed, world.switch.ports()[0].statistics().dropped.receiver), if cuts { (0, 0) } else { (1, 1) });
    }
}

#[test]
fn guests_that_reach_it_see_its_link() {
    let card = Card::new(true, true);
    let mut world = two(&card, ALL);
    let link = |world: &World, guest: usize| {
        let guest = &world.guests[guest].monitor;
        let changed = guest.take_interrupts().contains(Interrupts::CONFIGURATION);
        (guest.description().unwrap().unwrap().1.configuration[6], changed)
    };
    assert_eq!([link(&world, 0), link(&world, 1)], [(1, false), (1, false)]);
    for up in [false, true] {
        card.0.link.set(up);
        world.switch.on_interrupt();
        assert_eq!([link(&world, 0), link(&world, 1)], [(u8::from(up), true), (1, false)]);
        world.switch.on_interrupt();
        assert_eq!(link(&world, 0), (u8::from(up), false), "told once");
    }
}

#[test]
fn a_card_without_a_link_at_the_start() {
    let card = Card::new(true, true);
    card.0.link.set(false);
    let world = two(&card, ALL);
    let link = |guest: usize| world.guests[guest].monitor.description().unwrap().unwrap().1.configuration[6];
    assert_eq!([link(0), link(1)], [0, 1]);
}

#[test]
fn there_is_no_number_behind_the_last() {
    let policy = Policy::NONE;
    let mut world = Ports { vlans: &[0; MAX_PORTS], policy, rate: 0, features: ALL, room: 2048, card: None }.world();
    let card: &'static mut Card = Box::leak(Box::new(Card::new(true, true)));
    assert_eq!(world.switch.set_uplink(Uplink::new(card)), Err(TooManyPorts));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever comes from outside, it reaches whom the policy allows, and nobody else.
    #[test]
    fn anything_may_come_from_outside(frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 1..20)) {
        let card = Card::new(true, true);
        let mut world = two(&card, ALL);
        for mut frame in frames {
            // Some of them to guests.
            if frame.len() > 6 && frame[0] & 2 == 0 {
                let guest = frame[5] & 1;
                frame[..6].copy_from_slice(&[2, 0, 0, 0, 0, guest]);
            }
            card.arrive(&frame);
            world.run();
            prop_assert!(card.sent().is_empty());
            let received = world.received();
            prop_assert!(received[1].is_empty());
        }
    }
}
