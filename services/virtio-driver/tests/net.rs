//! The driver of a network card against one in memory.

mod common;

use bulkhead_driver::{Checksum, MAX_FRAME, Nic, Offload, TransmitError};
use bulkhead_virtio_driver::VirtioNet;
use common::{Bus, Fault, WINDOW};
use proptest::prelude::*;
use std::collections::VecDeque;

const HEADER: usize = 12;
const LARGEST: usize = 65_549;

type Net = VirtioNet<'static, Bus, Bus>;

fn start(bus: &Bus) -> Net {
    VirtioNet::start(bus.clone(), WINDOW, &bus.structures(), bus.clone(), &mut bus.dma()).unwrap()
}

fn frame(bytes: usize, seed: u8) -> Vec<u8> {
    (0..bytes).map(|index| (index as u8).wrapping_mul(7).wrapping_add(seed)).collect()
}

fn receive(card: &mut Net) -> Option<Vec<u8>> {
    let mut frame = None;
    let any = card.receive(&mut |bytes, received| {
        assert!(!received.checksum_valid);
        assert!(frame.replace(bytes.to_vec()).is_none());
    });
    assert_eq!(any, frame.is_some());
    frame
}

fn segmented(bytes: u16) -> Offload {
    Offload { checksum: Some(Checksum { start: 34, offset: 16 }), segment: Some(bytes), header: 54 }
}

#[test]
fn frames_are_sent_with_their_headers() {
    let bus = Bus::net(1500);
    let mut card = start(&bus);
    card.transmit(&frame(60, 1), Offload::default()).unwrap();
    let checksum = Offload { checksum: Some(Checksum { start: 34, offset: 16 }), ..Offload::default() };
    card.transmit(&frame(MAX_FRAME, 2), checksum).unwrap();
    card.transmit(&frame(LARGEST, 3), segmented(1460)).unwrap();
    card.transmit(&frame(100, 4), segmented(20)).unwrap();
    let sent = bus.0.borrow().sent.clone();
    let expected: [(usize, u8, [u8; HEADER]); 4] = [
        (60, 1, [0; HEADER]),
        (MAX_FRAME, 2, [1, 0, 0, 0, 0, 0, 34, 0, 16, 0, 0, 0]),
        (LARGEST, 3, [1, 1, 54, 0, 0xb4, 5, 34, 0, 16, 0, 0, 0]),
        (100, 4, [1, 1, 54, 0, 20, 0, 34, 0, 16, 0, 0, 0]),
    ];
    for (sent, (bytes, seed, header)) in sent.iter().zip(expected) {
        assert_eq!(sent[..HEADER], header);
        assert_eq!(sent[HEADER..], frame(bytes, seed));
    }
    let statistics = card.statistics();
    assert_eq!((statistics.sent, statistics.sent_bytes), (4, (60 + MAX_FRAME + LARGEST + 100) as u64));
}

#[test]
fn wrong_frames_are_refused() {
    let bus = Bus::net(1400);
    let mut card = start(&bus);
    let plain = Offload::default();
    let checksum = |start, offset| Offload { checksum: Some(Checksum { start, offset }), ..plain };
    let refused = [
        (13, plain, TransmitError::Size),
        (0, plain, TransmitError::Size),
        (1419, plain, TransmitError::Size),
        (LARGEST + 1, segmented(1000), TransmitError::Size),
        (60, checksum(50, 9), TransmitError::Unsupported),
        (60, checksum(u16::MAX, u16::MAX), TransmitError::Unsupported),
        (60, Offload { segment: Some(10), header: 54, ..plain }, TransmitError::Unsupported),
        (60, segmented(0), TransmitError::Unsupported),
        (60, Offload { header: 61, ..segmented(10) }, TransmitError::Unsupported),
        (60, Offload { header: 14, ..segmented(10) }, TransmitError::Unsupported),
    ];
    for (bytes, offload, error) in refused {
        assert_eq!(card.transmit(&frame(bytes, 0), offload), Err(error), "{bytes} {offload:?}");
    }
    assert!(bus.0.borrow().sent.is_empty());
    card.transmit(&frame(14, 0), plain).unwrap();
    card.transmit(&frame(1418, 0), plain).unwrap();
    bus.0.borrow_mut().offered &= !1;
    let mut card = start(&bus);
    assert_eq!(card.transmit(&frame(60, 0), checksum(34, 16)), Err(TransmitError::Unsupported));
    bus.0.borrow_mut().offered |= 1;
    bus.0.borrow_mut().offered &= !(1 << 11);
    let mut card = start(&bus);
    assert_eq!(card.transmit(&frame(60, 0), segmented(10)), Err(TransmitError::Unsupported));
    card.transmit(&frame(60, 0), checksum(34, 16)).unwrap();
}

#[test]
fn a_full_ring_says_when_there_is_room() {
    let bus = Bus::net(1500);
    let mut card = start(&bus);
    bus.0.borrow_mut().at_once = false;
    for seed in 0..64 {
        card.transmit(&frame(100, seed), Offload::default()).unwrap();
    }
    // Buffers of their own.
    for seed in 64..72 {
        card.transmit(&frame(3000, seed), segmented(1000)).unwrap();
    }
    let before = bus.0.borrow().interrupts;
    bus.0.borrow_mut().send(0);
    assert_eq!(bus.0.borrow().interrupts, before, "nobody waits");
    card.transmit(&frame(100, 72), Offload::default()).unwrap();
    assert_eq!(card.transmit(&frame(100, 73), Offload::default()), Err(TransmitError::Full));
    assert_eq!(card.transmit(&frame(3000, 73), segmented(1000)), Err(TransmitError::Full));
    bus.0.borrow_mut().send(5);
    assert_eq!(bus.0.borrow().interrupts, before + 1);
    assert!(!card.on_interrupt());
    card.transmit(&frame(100, 73), Offload::default()).unwrap();
    while !bus.0.borrow().pending.is_empty() {
        bus.0.borrow_mut().send(0);
    }
    assert_eq!(bus.0.borrow().interrupts, before + 1, "nobody waits again");
    let mut seeds: Vec<u8> = bus.0.borrow().sent.iter().map(|sent| sent[HEADER]).collect();
    seeds.sort_unstable();
    assert_eq!(seeds, (0..74).collect::<Vec<_>>());
}

#[test]
fn a_short_queue_is_full_earlier() {
    let bus = Bus::net(1500);
    bus.0.borrow_mut().most_entries = 4;
    let mut card = start(&bus);
    bus.0.borrow_mut().at_once = false;
    for _ in 0..4 {
        card.transmit(&frame(100, 0), Offload::default()).unwrap();
    }
    assert_eq!(card.transmit(&frame(100, 0), Offload::default()), Err(TransmitError::Full));
    bus.0.borrow_mut().send(0);
    card.transmit(&frame(100, 0), Offload::default()).unwrap();
    for round in 0..20 {
        assert!((0..4).all(|seed| bus.0.borrow_mut().deliver(&frame(60, seed))), "{round}");
        assert!(!bus.0.borrow_mut().deliver(&frame(60, 0)));
        for seed in 0..4 {
            assert_eq!(receive(&mut card), Some(frame(60, seed)));
        }
        assert_eq!(receive(&mut card), None);
    }
}

#[test]
fn a_card_that_sends_nothing_for_long_is_lost() {
    let bus = Bus::net(1500);
    let mut card = start(&bus);
    bus.0.borrow_mut().fault = Fault::Silent;
    for _ in 0..64 {
        card.transmit(&frame(100, 0), Offload::default()).unwrap();
    }
    assert_eq!(card.transmit(&frame(100, 0), Offload::default()), Err(TransmitError::Full));
    bus.0.borrow_mut().now += 9_000;
    assert_eq!(card.transmit(&frame(100, 0), Offload::default()), Err(TransmitError::Full));
    bus.0.borrow_mut().now += 1_001;
    assert_eq!(card.transmit(&frame(100, 0), Offload::default()), Err(TransmitError::Dead));
    assert!(card.is_dead() && !bus.0.borrow().is_going());
    assert!(!card.link().up && receive(&mut card).is_none() && !card.on_interrupt());
}

#[test]
fn frames_are_received_over_and_over() {
    let bus = Bus::net(1500);
    let mut card = start(&bus);
    for round in 0..10 {
        let mut count = 0;
        while bus.0.borrow_mut().deliver(&frame(60 + 20 * usize::from(count), count)) {
            count += 1;
        }
        assert_eq!(count, 64, "{round}");
        assert!(!card.on_interrupt());
        for seed in 0..64 {
            assert_eq!(receive(&mut card), Some(frame(60 + 20 * usize::from(seed), seed)));
        }
        assert_eq!(receive(&mut card), None);
    }
    let statistics = card.statistics();
    assert_eq!((statistics.received, statistics.errors), (640, 0));
    assert!(bus.0.borrow_mut().deliver(&frame(MAX_FRAME, 9)));
    assert_eq!(receive(&mut card), Some(frame(MAX_FRAME, 9)));
}

#[test]
fn the_counts_of_the_rings_wrap() {
    let bus = Bus::net(1500);
    let mut card = start(&bus);
    for round in 0..66_000 {
        let frame = frame(14, round as u8);
        assert!(bus.0.borrow_mut().deliver(&frame));
        assert_eq!(receive(&mut card).as_ref(), Some(&frame));
        card.transmit(&frame, Offload::default()).unwrap();
        assert_eq!(bus.0.borrow_mut().sent.pop().unwrap()[HEADER..], frame);
        assert!(receive(&mut card).is_none());
    }
    assert!(!card.is_dead());
}

#[test]
fn short_frames_are_errors_and_long_ones_the_end() {
    let bus = Bus::net(1500);
    let mut card = start(&bus);
    for length in [0, 1, 11, 12, 25] {
        bus.0.borrow_mut().fault = Fault::Length(length);
        bus.0.borrow_mut().deliver(&frame(60, 0));
    }
    bus.0.borrow_mut().fault = Fault::Length(26);
    bus.0.borrow_mut().deliver(&frame(60, 3));
    assert_eq!(receive(&mut card), Some(frame(14, 3)));
    assert_eq!(card.statistics().errors, 5);
    for fault in [
        Fault::Length(12 + 1518 + 1),
        Fault::Length(u32::MAX),
        Fault::Number(64),
        Fault::Number(u32::MAX),
        Fault::Ahead(80),
    ] {
        let bus = Bus::net(1500);
        let mut card = start(&bus);
        bus.0.borrow_mut().fault = fault;
        bus.0.borrow_mut().deliver(&frame(60, 0));
        assert_eq!(receive(&mut card), None, "{fault:?}");
        assert!(card.is_dead() && !bus.0.borrow().is_going());
        assert_eq!(card.transmit(&frame(60, 0), Offload::default()), Err(TransmitError::Dead));
    }
    for fault in [Fault::Length(1), Fault::Number(99), Fault::Twice, Fault::Ahead(500)] {
        let bus = Bus::net(1500);
        let mut card = start(&bus);
        bus.0.borrow_mut().fault = fault;
        card.transmit(&frame(60, 0), Offload::default()).unwrap();
        assert!(card.on_interrupt(), "the link is lost");
        assert!(card.is_dead() && !bus.0.borrow().is_going(), "{fault:?}");
    }
}

#[test]
fn the_link_is_watched() {
    let bus = Bus::net(1500);
    let mut card = start(&bus);
    assert!(card.link().up && card.link().full_duplex && !card.on_interrupt());
    bus.0.borrow_mut().configuration[6] = 0;
    assert!(card.on_interrupt() && !card.link().up && !card.on_interrupt());
    bus.0.borrow_mut().configuration[6] = 1;
    bus.0.borrow_mut().deliver(&frame(60, 0));
    assert!(card.on_interrupt() && card.link().up);
    card.set_promiscuous(true);
    assert!(!card.is_dead());
    for fault in [Fault::Gone, Fault::Failed] {
        let bus = Bus::net(1500);
        let mut card = start(&bus);
        bus.0.borrow_mut().fault = fault;
        assert!(card.on_interrupt() && card.is_dead() && !card.link().up);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Frames go both ways in any order of events, none is lost or changed.
    #[test]
    fn frames_arrive(steps in proptest::collection::vec((0u8..6, 14usize..1519, any::<u8>(), any::<usize>()), 1..400),
        entries in 1u32..9)
    {
        let bus = Bus::net(1500);
        bus.0.borrow_mut().most_entries = 1 << entries;
        let mut card = start(&bus);
        bus.0.borrow_mut().at_once = false;
        let (mut sent, mut delivered) = (Vec::new(), VecDeque::new());
        for (kind, bytes, seed, pick) in steps {
            match kind {
                0 | 1 => {
                    let large = seed % 8 == 0;
                    let frame = frame(if large { 40 * bytes } else { bytes }, seed);
                    let offload = if large { segmented(1000) } else { Offload::default() };
                    match card.transmit(&frame, offload) {
                        Ok(()) => sent.push(frame),
                        Err(error) => prop_assert!(error == TransmitError::Full || frame.len() <= 54 || frame.len() > LARGEST),
                    }
                }
                2 => {
                    let waiting = bus.0.borrow().pending.len();
                    if waiting > 0 {
                        bus.0.borrow_mut().send(pick % waiting);
                    }
                }
                3 => {
                    if bus.0.borrow_mut().deliver(&frame(bytes, seed)) {
                        delivered.push_back(frame(bytes, seed));
                    }
                }
                4 => prop_assert_eq!(receive(&mut card), delivered.pop_front()),
                _ => prop_assert!(!card.on_interrupt()),
            }
        }
        while let Some(expected) = delivered.pop_front() {
            prop_assert_eq!(receive(&mut card), Some(expected));
        }
        while !bus.0.borrow().pending.is_empty() {
            bus.0.borrow_mut().send(0);
        }
        let mut arrived: Vec<_> = bus.0.borrow().sent.iter().map(|sent| sent[HEADER..].to_vec()).collect();
        arrived.sort_unstable();
        sent.sort_unstable();
        prop_assert_eq!(arrived, sent);
        prop_assert!(!card.is_dead());
    }

    /// Whatever the device writes to its rings: calls end, and frames are never longer than they may be.
    #[test]
    fn hostile_rings_do_no_harm(
        steps in proptest::collection::vec((0usize..2, 0u64..1032, prop_oneof![0u32..130, any::<u32>()], 0u32..2000), 1..200))
    {
        let bus = Bus::net(1500);
        let mut card = start(&bus);
        bus.0.borrow_mut().at_once = false;
        for (queue, place, number, length) in steps {
            if !bus.0.borrow().is_going() {
                prop_assert!(card.is_dead());
                break;
            }
            if place % 2 == 0 {
                bus.0.borrow_mut().complete(queue, number, length);
            } else {
                let ring = bus.0.borrow().queues[queue].device;
                bus.0.borrow_mut().store(ring + place, &number.to_le_bytes());
            }
            let _ = card.transmit(&frame(60, 0), Offload::default());
            card.on_interrupt();
            for _ in 0..200 {
                if !card.receive(&mut |bytes, _| assert!((14..=MAX_FRAME).contains(&bytes.len()))) {
                    break;
                }
            }
        }
    }
}
