//! The driver against a card in memory.

mod common;
use common::*;

use bulkhead_driver::{Checksum, Link, MAX_FRAME, Nic, NicStatistics, Offload, TransmitError};
use bulkhead_e1000::{E1000, MEMORY_BYTES, Model, Unusable};
use proptest::prelude::*;

type TestCard = E1000<'static, Bus>;
const MODELS: [Model; 2] = [Model::I82540Em, Model::I82574L];
const PLAIN: Offload = Offload { checksum: None, segment: None, header: 0 };

fn start_with(bus: &Bus) -> Result<TestCard, Unusable> {
    let model = bus.0.borrow().model;
    E1000::start(model, bus.clone(), bus, &mut bus.dma())
}

fn started(model: Model) -> (Bus, TestCard) {
    let bus = Bus::new(model);
    let card = start_with(&bus).unwrap();
    (bus, card)
}

fn frame(to: [u8; 6], length: usize, seed: usize) -> Vec<u8> {
    let mut frame: Vec<u8> = (0..length).map(|index| (index * 7 + seed) as u8).collect();
    frame[..6].copy_from_slice(&to);
    frame
}

/// All frames that are there.
fn receive(card: &mut TestCard) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while card.receive(&mut |frame, received| {
        assert!(!received.checksum_valid);
        frames.push(frame.to_vec());
    }) {}
    frames
}

#[test]
fn models_are_known_by_their_identifiers() {
    assert_eq!(Model::of(0x100e_8086), Some(Model::I82540Em));
    assert_eq!(Model::of(0x10d3_8086), Some(Model::I82574L));
    assert_eq!(Model::of(0x1000_1af4), None);
    assert_eq!(Model::of(0x8086_100e), None);
}

#[test]
fn a_card_is_started_with_the_address_of_registers_or_eeprom() {
    for model in MODELS {
        for (loads_address, keeps_registers) in [(true, false), (false, false), (false, true)] {
            let bus = Bus::new(model);
            (bus.0.borrow_mut().loads_address, bus.0.borrow_mut().keeps_registers) = (loads_address, keeps_registers);
            let card = start_with(&bus).unwrap();
            let information = *card.information();
            assert_eq!((information.mac, information.mtu, information.queues), (MAC, 1500, 1));
            assert!(information.transmit_checksum && !information.receive_checksum);
            assert_eq!(information.segmentation, model == Model::I82540Em);
            assert_eq!(card.link(), Link { up: true, speed: 1000, full_duplex: true });
            let model = bus.0.borrow();
            assert_eq!((model.register(0x5400), model.register(0x5404)), (0x1200_5452, 0x8000_5634));
            assert_eq!((model.register(0x5208), model.register(0x540c)), (0, 0), "no groups, no other addresses");
            let of_queues = if model.model == Model::I82574L { 1 << 20 | 1 << 24 } else { 0 };
            assert_eq!((model.register(0) & 0x0c00_0064, model.register(0xd0)), (0x60, 0xd4 | of_queues));
            assert_eq!((model.register(0x100), model.receive_descriptors()), (0x0400_8002, 63));
        }
    }
}

#[test]
fn cards_that_cannot_be_used_are_refused() {
    let refuse = |error, change: fn(&mut Card)| {
        for model in MODELS {
            let bus = Bus::new(model);
            change(&mut bus.0.borrow_mut());
            assert_eq!(start_with(&bus).err(), Some(error));
            let card = bus.0.borrow();
            assert!(card.fault == Fault::Gone || card.register(0x100) == 0 && card.register(0xd0) == 0);
        }
    };
    refuse(Unusable::Absent, |card| card.fault = Fault::Gone);
    refuse(Unusable::Timeout, |card| card.fault = Fault::NeverReset);
    refuse(Unusable::Address, |card| (card.fault, card.loads_address) = (Fault::SilentEeprom, false));
    for eeprom in [[0; 3], [0xffff; 3], [0x5453, 0, 1]] {
        let bus = Bus::new(Model::I82540Em);
        bus.0.borrow_mut().eeprom = eeprom;
        assert_eq!(start_with(&bus).err(), Some(Unusable::Address));
    }
    let bus = Bus::new(Model::I82540Em);
    let mut less = bus.dma().part(8, MEMORY_BYTES - 8).unwrap();
    assert_eq!(E1000::start(Model::I82540Em, bus.clone(), &bus, &mut less).err(), Some(Unusable::Memory));
}

#[test]
fn frames_go_around_both_rings() {
    for model in MODELS {
        let (bus, mut card) = started(model);
        let mut bytes = 0;
        for seed in 0..500 {
            let length = 14 + seed * 37 % (MAX_FRAME - 13);
            let frame = frame(MAC, length, seed);
            bytes += length as u64;
            card.transmit(&frame, PLAIN).unwrap();
            let sent = bus.sent().pop_front().unwrap();
            assert_eq!(sent[..length], frame);
            assert!(sent.len() == length.max(60) && sent[length..].iter().all(|byte| *byte == 0), "padded by zeroes");
            assert!(bus.0.borrow_mut().receive(&frame));
            assert!(bus.0.borrow().interrupts());
            assert!(!card.on_interrupt());
            assert!(!bus.0.borrow().interrupts());
            assert_eq!(receive(&mut card), [frame]);
        }
        let counts =
            NicStatistics { sent: 500, sent_bytes: bytes, received: 500, received_bytes: bytes, ..Default::default() };
        assert_eq!(card.statistics(), counts);
    }
}

#[test]
fn a_full_receive_ring_loses_frames_and_goes_on() {
    let (bus, mut card) = started(Model::I82540Em);
    for round in 0..5 {
        let frames: Vec<_> = (0..70).map(|seed| frame(ALL, 100 + seed, seed + round)).collect();
        let taken = frames.iter().filter(|frame| bus.0.borrow_mut().receive(frame)).count();
        assert_eq!(taken, 63);
        card.on_interrupt();
        bus.0.borrow_mut().releases = 0;
        assert_eq!(receive(&mut card), frames[..63]);
        assert_eq!(bus.0.borrow().releases, 4, "descriptors are given back many at a time");
        assert_eq!((bus.0.borrow().receive_descriptors(), card.statistics().missed), (63, 7 * (round as u64 + 1)));
    }
}

#[test]
fn a_full_transmit_ring_refuses_and_goes_on() {
    let (bus, mut card) = started(Model::I82574L);
    bus.0.borrow_mut().at_once = false;
    for seed in 0..128 {
        card.transmit(&frame(OTHER, 80, seed), PLAIN).unwrap();
    }
    let more = frame(OTHER, 90, 128);
    assert_eq!(card.transmit(&more, PLAIN), Err(TransmitError::Full));
    bus.0.borrow_mut().send(2);
    assert!(bus.0.borrow().interrupts());
    card.on_interrupt();
    assert_eq!(card.statistics().sent, 2);
    card.transmit(&more, PLAIN).unwrap();
    card.transmit(&more, PLAIN).unwrap();
    assert_eq!(card.transmit(&more, PLAIN), Err(TransmitError::Full));
    bus.0.borrow_mut().send(usize::MAX);
    card.on_interrupt();
    let sent = bus.sent();
    assert_eq!((sent.len(), card.statistics().sent), (130, 130));
    for (seed, sent) in sent.iter().take(128).enumerate() {
        assert_eq!(*sent, frame(OTHER, 80, seed));
    }
}

/// Nobody waits for a frame to have been sent, unless another one was refused.
#[test]
fn only_a_full_transmit_ring_has_the_card_interrupt_for_what_it_sent() {
    for model in MODELS {
        let (bus, mut card) = started(model);
        for round in 0..3 {
            bus.0.borrow_mut().at_once = true;
            for seed in 0..200 {
                card.transmit(&frame(OTHER, 80, seed), PLAIN).unwrap();
                assert!(!bus.0.borrow().interrupts());
            }
            bus.0.borrow_mut().at_once = false;
            let taken = (0..200).take_while(|seed| card.transmit(&frame(OTHER, 80, *seed), PLAIN).is_ok()).count();
            assert_eq!(taken, 128);
            // What was sent before counts, too: it may be what there was no room for.
            card.on_interrupt();
            assert!(!bus.0.borrow().interrupts());
            bus.0.borrow_mut().send(1);
            assert!(bus.0.borrow().interrupts());
            card.on_interrupt();
            assert!(!bus.0.borrow().interrupts());
            bus.0.borrow_mut().send(usize::MAX);
            assert!(!bus.0.borrow().interrupts());
            card.on_interrupt();
            assert_eq!(card.statistics().sent, 328 * (round + 1));
        }
    }
}

#[test]
fn collisions_are_no_success() {
    let (bus, mut card) = started(Model::I82540Em);
    for (status, sent) in [(0b0011, 0), (0b0101, 0), (0b0001, 1)] {
        bus.0.borrow_mut().sent_status = status;
        card.transmit(&frame(OTHER, 60, 0), PLAIN).unwrap();
        card.on_interrupt();
        assert_eq!(card.statistics().sent, sent);
    }
}

#[test]
fn wrong_frames_are_refused() {
    let (bus, mut card) = started(Model::I82540Em);
    for length in [0, 13, MAX_FRAME + 1, 70_000] {
        assert_eq!(card.transmit(&vec![0; length], PLAIN), Err(TransmitError::Size));
    }
    let mut refuse = |start, offset, length| {
        let offload = Offload { checksum: Some(Checksum { start, offset }), ..PLAIN };
        assert_eq!(card.transmit(&frame(OTHER, length, 0), offload), Err(TransmitError::Unsupported));
    };
    refuse(13, 6, 100);
    refuse(34, 2, 100);
    refuse(34, 6, 41);
    refuse(84, 16, 101);
    refuse(240, 16, 600);
    refuse(256, 6, 600);
    refuse(u16::MAX, 16, 600);
    assert!(bus.sent().is_empty());
}

#[test]
fn checksums_are_filled_in() {
    for model in MODELS {
        let (bus, mut card) = started(model);
        for seed in 0..300 {
            let (start, offset) = [(34, 16), (34, 6), (54, 16), (239, 16), (38, 6)][seed % 5];
            let frame = frame(OTHER, 257 + seed * 4 % 1200, seed);
            let checksum = Some(Checksum { start: start as u16, offset: offset as u16 });
            card.transmit(&frame, Offload { checksum, ..PLAIN }).unwrap();
            let sent = bus.sent().pop_front().unwrap();
            let place = start + offset;
            assert_eq!((&sent[..place], &sent[place + 2..]), (&frame[..place], &frame[place + 2..]));
            assert_eq!(sent[place..place + 2], (!self::checksum(&frame[start..])).to_be_bytes());
            // A frame without a checksum is not touched by the context before it.
            card.transmit(&frame, PLAIN).unwrap();
            assert_eq!(bus.sent(), [frame]);
        }
        card.on_interrupt();
        assert_eq!(card.statistics().sent, 600);
    }
}

/// A TCP train: an IPv4 header with `options` words of options, then TCP with as many.
fn train(options: usize, payload: usize) -> Vec<u8> {
    let header = 20 + 4 * options;
    let mut train = frame(OTHER, 14 + 2 * header + payload, payload);
    train[12..14].copy_from_slice(&[8, 0]);
    train[14] = 0x40 | (header / 4) as u8;
    let length = (train.len() - 14) as u16;
    train[16..18].copy_from_slice(&length.to_be_bytes());
    train[18..20].copy_from_slice(&[0x12, 0x34]);
    train[23] = 6;
    let tcp = 14 + header;
    train[tcp + 4..tcp + 8].copy_from_slice(&[0, 0xff, 0xff, 0]);
    train[tcp + 12] = ((header / 4) << 4) as u8;
    train
}

fn cut(options: usize, size: u16) -> Offload {
    // What is said of the headers is not to be believed.
    Offload { checksum: Some(Checksum { start: 34 + 4 * options as u16, offset: 16 }), segment: Some(size), header: 1 }
}

#[test]
fn trains_are_cut_into_segments() {
    let (_, mut other) = started(Model::I82574L);
    assert_eq!(other.transmit(&train(0, 5000), cut(0, 1460)), Err(TransmitError::Unsupported));
    let (bus, mut card) = started(Model::I82540Em);
    let cases = [(0, 65_495, 1460), (3, 65_471, 1436), (10, 1, 1380), (0, 2920, 1460), (3, 1970, 100), (1, 4000, 536)];
    for (options, payload, size) in cases.into_iter().cycle().take(30) {
        let (train, tcp) = (train(options, payload), 34 + 4 * options);
        let header = tcp + 20 + 4 * options;
        card.transmit(&train, cut(options, size as u16)).unwrap();
        let sent = bus.sent();
        assert_eq!(sent.len(), payload.div_ceil(size));
        let mut back = Vec::new();
        for (number, segment) in sent.iter().enumerate() {
            let length = segment.len() as u16;
            assert!(segment.len() <= header + size);
            assert_eq!(segment[16..18], (length - 14).to_be_bytes());
            assert_eq!(segment[tcp + 4..tcp + 8], (0xff_ff00 + (number * size) as u32).to_be_bytes());
            assert_eq!(checksum(&segment[14..tcp]), 0xffff);
            let pseudo = [&segment[26..34], &[0, 6], &(length - tcp as u16).to_be_bytes()].concat();
            assert_eq!(checksum(&[&pseudo, &segment[tcp..]].concat()), 0xffff);
            back.extend_from_slice(&segment[header..]);
        }
        assert_eq!(back, train[header..]);
        // The frame behind it, and the one behind that, are as they were.
        for seed in 0..2 {
            card.transmit(&frame(OTHER, 100, seed), PLAIN).unwrap();
            assert_eq!(bus.sent(), [frame(OTHER, 100, seed)]);
        }
    }
    card.on_interrupt();
    assert_eq!(card.statistics().sent, 90);
}

#[test]
fn trains_take_buffers() {
    let (bus, mut card) = started(Model::I82540Em);
    let (train, offload) = (train(0, 65_495), cut(0, 1460));
    for _ in 0..5 {
        bus.0.borrow_mut().at_once = false;
        let taken = (0..10).take_while(|_| card.transmit(&train, offload).is_ok()).count();
        assert_eq!(taken, 3, "32 buffers and some bytes each, of 128");
        assert_eq!(card.transmit(&train, offload), Err(TransmitError::Full));
        bus.0.borrow_mut().send(usize::MAX);
        assert!(bus.0.borrow().interrupts());
        card.on_interrupt();
        assert_eq!(bus.sent().len(), 3 * 45);
    }
}

#[test]
fn wrong_trains_are_refused() {
    let (bus, mut card) = started(Model::I82540Em);
    let mut refuse = |change: fn(&mut Vec<u8>, &mut Offload)| {
        let (mut train, mut offload) = (train(3, 5000), cut(3, 1440));
        change(&mut train, &mut offload);
        assert_eq!(card.transmit(&train, offload), Err(TransmitError::Unsupported));
    };
    refuse(|_, offload| offload.checksum = None);
    refuse(|_, offload| offload.segment = Some(0));
    refuse(|_, offload| offload.segment = Some(1441));
    refuse(|_, offload| offload.checksum = Some(Checksum { start: 46, offset: 6 }));
    refuse(|_, offload| offload.checksum = Some(Checksum { start: 34, offset: 16 }));
    refuse(|_, offload| offload.checksum = Some(Checksum { start: 47, offset: 16 }));
    refuse(|_, offload| offload.checksum = Some(Checksum { start: 3, offset: 16 }));
    refuse(|_, offload| offload.checksum = Some(Checksum { start: u16::MAX, offset: 16 }));
    refuse(|train, _| train[12] = 0x86);
    refuse(|train, _| train[14] = 0x68);
    refuse(|train, _| train[23] = 17);
    refuse(|train, _| train[46 + 12] = 0x40);
    refuse(|train, _| train.truncate(46 + 32));
    refuse(|train, _| train.truncate(20));
    assert_eq!(card.transmit(&vec![0; 65_550], cut(0, 1460)), Err(TransmitError::Size));
    assert!(bus.sent().is_empty());
    card.transmit(&train(3, 5000), cut(3, 1440)).unwrap();
}

#[test]
fn contexts_take_descriptors() {
    let (bus, mut card) = started(Model::I82540Em);
    let offload = Offload { checksum: Some(Checksum { start: 34, offset: 6 }), ..PLAIN };
    for _ in 0..3 {
        bus.0.borrow_mut().at_once = false;
        let taken = (0..200).take_while(|seed| card.transmit(&frame(OTHER, 60, *seed), offload).is_ok()).count();
        assert_eq!(taken, 127, "255 descriptors");
        card.transmit(&frame(OTHER, 60, 0), PLAIN).unwrap();
        assert_eq!(card.transmit(&frame(OTHER, 60, 0), PLAIN), Err(TransmitError::Full));
        bus.0.borrow_mut().send(usize::MAX);
        card.on_interrupt();
        assert_eq!(bus.sent().len(), 128);
    }
}

#[test]
fn only_a_promiscuous_card_receives_frames_to_others() {
    let (bus, mut card) = started(Model::I82574L);
    let group = [0x33, 0x33, 0, 0, 0, 1];
    let frames = [MAC, ALL, OTHER, group].map(|to| frame(to, 64, 0));
    let mut heard = |promiscuous| {
        card.set_promiscuous(promiscuous);
        for frame in &frames {
            bus.0.borrow_mut().receive(frame);
        }
        receive(&mut card)
    };
    assert_eq!(heard(false), frames[..2]);
    assert_eq!(heard(true), frames);
    assert_eq!(heard(false), frames[..2]);
}

#[test]
fn the_link_changes() {
    let (bus, mut card) = started(Model::I82540Em);
    let mut change = |status, link| {
        bus.0.borrow_mut().registers.insert(8, status);
        bus.0.borrow_mut().causes |= 1 << 2;
        assert!(bus.0.borrow().interrupts() && card.on_interrupt());
        assert_eq!(card.link(), link);
        assert!(!card.on_interrupt());
    };
    change(0x80, Link::default());
    change(0x02, Link { up: true, speed: 10, full_duplex: false });
    change(0x43, Link { up: true, speed: 100, full_duplex: true });
    change(0xc3, Link { up: true, speed: 1000, full_duplex: true });
}

#[test]
fn a_card_that_is_gone_is_dead() {
    let (bus, mut card) = started(Model::I82574L);
    bus.0.borrow_mut().receive(&frame(MAC, 64, 0));
    bus.0.borrow_mut().fault = Fault::Gone;
    assert_eq!(card.link(), Link::default());
    assert!(!card.is_dead() && card.on_interrupt() && card.is_dead());
    assert!(!card.on_interrupt() && receive(&mut card).is_empty());
    assert_eq!((card.transmit(&frame(MAC, 64, 0), PLAIN), card.link()), (Err(TransmitError::Dead), Link::default()));
    card.set_promiscuous(true);
}

#[test]
fn what_the_card_writes_is_not_believed() {
    let (bus, mut card) = started(Model::I82540Em);
    let fill = |length, status, errors| assert!(bus.0.borrow_mut().fill(&[0x11; 1600], length, status, errors));
    // Too long, too short, damaged.
    for length in [u16::MAX, 2049, 2048, MAX_FRAME as u16 + 1, 13, 0] {
        fill(length, 3, 0);
    }
    for errors in [1, 2, 4, 0x10, 0x80] {
        fill(100, 3, errors);
    }
    assert!(receive(&mut card).is_empty());
    assert_eq!(card.statistics().errors, 11);
    // A frame over three buffers is one error, and no piece of it is handed out.
    for (status, length) in [(1, 2048), (1, 2048), (3, 100), (3, 200)] {
        fill(length, status, 0);
    }
    assert_eq!(receive(&mut card), [vec![0x11; 200]]);
    assert_eq!(card.statistics().errors, 12);
    // Wrong checksums within the frame are not the card's matter.
    fill(300, 3, 0x60);
    assert_eq!(receive(&mut card).len(), 1);
    assert_eq!((bus.0.borrow().receive_descriptors(), card.statistics().received), (63, 2));
}

#[derive(Clone, Debug)]
enum Step {
    Fill(u16, u8, u8),
    Receive(u8),
    Transmit(usize, bool),
    Send(usize),
    Spoil(u64),
    Interrupt(u32, u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (prop_oneof![0..2100u16, any::<u16>()], prop_oneof![30 => any::<u8>().prop_map(|status| status | 1), 1 => any::<u8>()], prop_oneof![Just(0), any::<u8>()])
            .prop_map(|(length, status, errors)| Step::Fill(length, status, errors)),
        2 => (0..70u8).prop_map(Step::Receive),
        3 => (0..1600usize, any::<bool>()).prop_map(|(length, checksum)| Step::Transmit(length, checksum)),
        2 => (0..100usize).prop_map(Step::Send),
        1 => any::<u64>().prop_map(Step::Spoil),
        1 => (any::<u32>(), any::<u32>()).prop_map(|(causes, status)| Step::Interrupt(causes, status)),
    ]
}

proptest! {
    #[test]
    fn a_hostile_card_gets_no_panic_and_no_bytes_outside_a_frame(steps in prop::collection::vec(step(), 1..300)) {
        let (bus, mut card) = started(Model::I82540Em);
        // A spoiled descriptor of a frame that is still to be sent would be the test's own mistake.
        bus.0.borrow_mut().at_once = false;
        let mut spoiled = false;
        for step in steps {
            match step {
                Step::Fill(length, status, errors) => {
                    bus.0.borrow_mut().fill(&[0x11; 2048], length, status, errors);
                }
                Step::Receive(count) => {
                    for _ in 0..count {
                        card.receive(&mut |frame, _| {
                            assert!((14..=MAX_FRAME).contains(&frame.len()));
                            assert!(frame.iter().all(|byte| *byte == 0x11));
                        });
                    }
                }
                Step::Transmit(length, checksum) => {
                    let _ = card.transmit(&train(0, length + 1), cut(0, 1000));
                    let checksum = checksum.then_some(Checksum { start: 34, offset: 16 });
                    let _ = card.transmit(&vec![0x22; length], Offload { checksum, ..PLAIN });
                }
                Step::Send(count) if !spoiled => bus.0.borrow_mut().send(count),
                Step::Send(_) => {}
                Step::Spoil(word) => {
                    bus.0.borrow_mut().spoil_sent(word);
                    spoiled = true;
                }
                Step::Interrupt(causes, status) => {
                    bus.0.borrow_mut().causes = causes;
                    bus.0.borrow_mut().registers.insert(8, status);
                    card.on_interrupt();
                    card.link();
                }
            }
        }
    }
}
