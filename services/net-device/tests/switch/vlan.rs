//! VLANs: who is in another hears nothing, and nobody gets into another.

use crate::card::Card;
use crate::guest::*;
use crate::uplink::{OPEN, frame, open_checksum};
use bulkhead_net_device::*;
use proptest::prelude::*;

const STRANGER: Mac = Mac([2, 9, 9, 9, 9, 9]);
const EVERYBODY: Mac = Mac([0xff; 6]);
/// VLANs of five guests.
const VLANS: [u16; 5] = [5, 5, 6, 0, 0];
/// Number of the uplink.
const OUTSIDE: usize = VLANS.len();

/// Five guests; everybody may talk to everybody, and to the outside.
fn five(card: &Card) -> World {
    let mut policy = Policy::NONE;
    (0..=OUTSIDE).for_each(|port| policy.allow(port, !0));
    Ports { vlans: &VLANS, policy, rate: 0, features: ALL, room: 2048, card: Some(card.clone()) }.world()
}

/// The frame with a tag of such a type and contents behind its addresses.
fn tagged(frame: &[u8], kind: u16, control: u16) -> Vec<u8> {
    [&frame[..12], &kind.to_be_bytes(), &control.to_be_bytes(), &frame[12..]].concat()
}

/// The frame as it leaves a guest's port to the outside.
fn on_the_wire(from: usize, frame: &[u8]) -> Vec<u8> {
    if VLANS[from] == 0 { frame.to_vec() } else { tagged(frame, 0x8100, VLANS[from]) }
}

#[test]
fn frames_stay_in_their_vlan() {
    let card = Card::new(true, true);
    let mut world = five(&card);
    for (from, own) in VLANS.into_iter().enumerate() {
        for to in 0..=VLANS.len() {
            let mac = world.guests.get(to).map_or(EVERYBODY, |guest| guest.mac);
            let frame = world.frame(from, mac, 100);
            world.send(from, &frame);
            for (guest, received) in world.received().into_iter().enumerate() {
                let meant = guest != from && (mac == EVERYBODY || guest == to) && VLANS[guest] == own;
                assert_eq!(received, if meant { vec![frame.clone()] } else { vec![] }, "{from} {to} {guest}");
            }
            let outside = if mac == EVERYBODY { vec![on_the_wire(from, &frame)] } else { vec![] };
            assert_eq!(card.sent(), outside, "{from} {to}");
        }
    }
    assert_eq!(world.switch.ports()[2].statistics().dropped.destination, 5);
}

#[test]
fn the_policy_holds_within_a_vlan() {
    let policy = both_ways(&[(0, 1)]);
    let mut world = Ports { vlans: &[7; 3], policy, rate: 0, features: ALL, room: 2048, card: None }.world();
    let frame = world.frame(0, EVERYBODY, 60);
    world.send(0, &frame);
    assert_eq!(world.received(), [vec![], vec![frame], vec![]]);
}

#[test]
fn tags_from_outside_say_the_vlan() {
    let card = Card::new(true, true);
    let mut world = five(&card);
    let untagged = frame(EVERYBODY, STRANGER, &[8, 0, 1, 2, 3]);
    let cases: [(Vec<u8>, &[usize]); 9] = [
        (untagged.clone(), &[3, 4]),
        (tagged(&untagged, 0x8100, 5), &[0, 1]),
        (tagged(&untagged, 0x8100, 0xf006), &[2]),
        (tagged(&untagged, 0x8100, 0xe000), &[3, 4]),
        (tagged(&untagged, 0x8100, 7), &[]),
        (tagged(&untagged, 0x8100, 0xfff), &[]),
        (tagged(&untagged, 0x88a8, 5), &[]),
        (tagged(&tagged(&untagged, 0x8100, 5), 0x8100, 6), &[]),
        (tagged(&tagged(&untagged, 0x8100, 5), 0x8100, 0), &[]),
    ];
    for (arriving, hear) in cases {
        card.arrive(&arriving);
        world.run();
        for (guest, received) in world.received().into_iter().enumerate() {
            let expected = if hear.contains(&guest) { vec![untagged.clone()] } else { vec![] };
            assert_eq!(received, expected, "{arriving:02x?} {guest}");
        }
    }
    let dropped = world.switch.uplink().unwrap().statistics().dropped;
    assert_eq!(dropped, Drops { tag: 4, destination: 1, ..Drops::default() });
    // To one guest, and to one that is in another VLAN.
    for (to, vlan, hears) in [(1, 5, true), (1, 6, false), (3, 5, false), (1, 0, false)] {
        let frame = frame(world.guests[to].mac, STRANGER, &[8, 0, 9]);
        card.arrive(&tagged(&frame, 0x8100, vlan));
        world.run();
        assert_eq!(world.received().concat(), if hears { vec![frame] } else { vec![] });
    }
}

#[test]
fn nobody_hops_into_another_vlan() {
    let card = Card::new(true, true);
    let mut world = five(&card);
    for kind in [0x8100, 0x88a8] {
        // From a VLAN no tag comes at all, not even its own.
        for (to, vlan) in [(EVERYBODY, 6), (STRANGER, 5), (world.guests[1].mac, 5), (world.guests[2].mac, 0)] {
            let frame = tagged(&world.frame(0, to, 60), kind, vlan);
            world.send(0, &frame);
            assert!(world.received().concat().is_empty() && card.sent().is_empty());
        }
        // From outside all VLANs it goes to others there, but not out.
        for to in [EVERYBODY, world.guests[4].mac, STRANGER] {
            let frame = tagged(&world.frame(3, to, 60), kind, 5);
            world.send(3, &frame);
            let heard = if to == STRANGER { vec![] } else { vec![frame] };
            assert_eq!(world.received(), [vec![], vec![], vec![], vec![], heard]);
            assert!(card.sent().is_empty());
        }
    }
    assert_eq!(world.switch.ports()[0].statistics().dropped, Drops { tag: 8, ..Drops::default() });
    let hopper = world.switch.ports()[3].statistics();
    assert_eq!((hopper.dropped, hopper.sent), (Drops { tag: 4, ..Drops::default() }, 4));
    assert_eq!(world.switch.uplink().unwrap().statistics().received, 0);
}

#[test]
fn checksums_are_right_behind_the_tag() {
    for card_fills in [true, false] {
        for payload in [&b"odd"[..], b"even", &[0xff; 1472]] {
            let card = Card::new(card_fills, false);
            let mut world = five(&card);
            let (open, filled) = open_checksum(&world, 0, EVERYBODY, payload);
            world.guests[0].send(OPEN.to_bytes(0), &open);
            world.run();
            assert_eq!(card.sent(), [tagged(&filled, 0x8100, 5)]);
            assert_eq!(card.0.offload.get().checksum.is_some(), card_fills);
            // Who hears it in the same VLAN has it as it was.
            assert_eq!(world.guests[1].receive(), [(OPEN.to_bytes(1), open)]);
        }
    }
}

/// A checksum of the Ethernet header would cover the tag, or be one: no protocol has one.
#[test]
fn checksums_begin_behind_the_header() {
    let card = Card::new(true, false);
    let mut world = five(&card);
    let frame = world.frame(0, STRANGER, 60);
    for (start, passes) in [(0, false), (13, false), (14, true)] {
        let header = Header { checksum: Some((start, 6)), segments: None };
        world.guests[0].send(header.to_bytes(0), &frame);
        world.run();
        assert_eq!(card.sent().len(), usize::from(passes));
    }
    assert_eq!(world.switch.ports()[0].statistics().dropped.header, 2);
}

#[test]
fn what_cannot_be_tagged_does_not_leave() {
    let card = Card::new(true, true);
    let mut world = five(&card);
    for (length, passes) in [(14, true), (1514, true), (1515, false), (1518, false)] {
        let frame = world.frame(0, STRANGER, length);
        world.send(0, &frame);
        assert_eq!(card.sent(), if passes { vec![on_the_wire(0, &frame)] } else { vec![] });
    }
    // Not even a train that is no longer than a frame.
    for length in [10_000, 1000] {
        let train = world.frame(0, STRANGER, length);
        let header = Header { checksum: Some((34, 16)), segments: Some((100, 66)) };
        world.guests[0].send(header.to_bytes(0), &train);
        world.run();
        assert!(card.sent().is_empty());
    }
    assert_eq!(world.switch.uplink().unwrap().statistics().missed, 4);
    assert_eq!(world.switch.ports()[0].statistics().dropped.receiver, 4);
}

/// Any bytes behind the addresses, many of them tags.
fn behind() -> impl Strategy<Value = Vec<u8>> {
    let tag = prop::sample::select(vec![
        vec![0x81, 0],
        vec![0x88, 0xa8],
        vec![0, 5],
        vec![0, 6],
        vec![0x2f, 0xff],
        vec![8, 0],
    ]);
    (proptest::collection::vec(tag, 0..6), proptest::collection::vec(any::<u8>(), 0..40))
        .prop_map(|(tags, rest)| [tags.concat(), rest].concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever guests and the outside send, it stays in its VLAN, and leaves with no tag but that.
    #[test]
    fn vlans_are_apart(
        policy in any::<[u16; OUTSIDE + 1]>(),
        sent in proptest::collection::vec((0..=OUTSIDE, 0..7usize, behind(), any::<[u8; 4]>()), 1..30))
    {
        let card = Card::new(true, true);
        let mut rules = Policy::NONE;
        policy.iter().enumerate().for_each(|(from, to)| rules.allow(from, *to));
        let mut world = Ports { vlans: &VLANS, policy: rules, rate: 0, features: ALL, room: 2048, card: Some(card.clone()) }.world();
        let is_tagged = |bytes: &[u8]| matches!(bytes, [0x81, 0x00, ..] | [0x88, 0xa8, ..]);
        for (from, to, behind, [flags, start, offset, _]) in sent {
            let destination = match to {
                0..5 => world.guests[to].mac,
                5 => EVERYBODY,
                _ => STRANGER,
            };
            let source = world.guests.get(from).map_or(STRANGER, |guest| guest.mac);
            let bytes = frame(destination, source, &behind);
            let vlan = if from == OUTSIDE {
                card.arrive(&bytes);
                match behind[..] {
                    [0x81, 0, high, low, ..] => u16::from_be_bytes([high, low]) & 0xfff,
                    _ => 0,
                }
            } else {
                let checksum = (flags & 1 != 0).then_some((start.into(), offset.into()));
                world.guests[from].send(Header { checksum, segments: None }.to_bytes(0), &bytes);
                VLANS[from]
            };
            world.run();
            if from != OUTSIDE {
                world.guests[from].used(1);
            }
            for (guest, received) in world.received().into_iter().enumerate() {
                let allowed = guest != from && (to == 5 || to == guest) && VLANS[guest] == vlan && rules.allows(from, guest);
                prop_assert!(received.is_empty() || allowed, "{from} to {guest}");
                prop_assert!(received.len() <= 1);
                let tags = received.iter().filter(|frame| is_tagged(&frame[12..])).count();
                prop_assert!(tags == 0 || (from != OUTSIDE && vlan == 0), "a tag reached a guest");
            }
            for frame in card.sent() {
                prop_assert!(from != OUTSIDE && to >= 5 && rules.allows(from, OUTSIDE));
                let rest = if vlan == 0 { &frame[12..] } else { &frame[16..] };
                prop_assert!(!is_tagged(rest));
                prop_assert!(vlan == 0 || frame[12..16] == [0x81, 0, 0, vlan as u8]);
            }
        }
    }
}
