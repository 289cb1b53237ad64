//! Guests' drivers and their ports: what one writes arrives at the other, whole, and hostile drivers harm nobody.

mod common;
mod line;

use bulkhead_channel::{Side, TextChannel};
use bulkhead_console_device::*;
use common::*;
use proptest::prelude::*;

#[test]
fn a_driver_learns_of_ports() {
    let (mut guest, _ends) = guest();
    assert_eq!(guest.console.queues(), 6);
    assert_eq!(guest.console.configuration()[..8], [0, 0, 0, 0, 2, 0, 0, 0]);
    guest.configure(feature::MULTIPORT);
    guest.offer_buffers(CONTROL_RECEIVE);
    guest.message(0, 0, 1);
    let served = guest.serve();
    assert_eq!(served.interrupts, 1 << CONTROL_RECEIVE | 1 << CONTROL_TRANSMIT);
    let message = |port: u8, what: u8| vec![port, 0, 0, 0, what, 0, 1, 0];
    assert_eq!(guest.received(CONTROL_RECEIVE), [message(0, 1), message(1, 1)]);
    guest.message(1, 3, 1);
    let _ = guest.serve();
    let name = [message(1, 7), b"second".to_vec()].concat();
    assert_eq!(guest.received(CONTROL_RECEIVE), [name, message(1, 6)]);
    // Ports that are not there, events that are none, a failure, and half a message.
    for (port, what, value) in [(2, 3, 1), (u32::MAX, 6, 1), (0, 99, 1), (0, 3, 0)] {
        guest.message(port, what, value);
    }
    guest.send(CONTROL_TRANSMIT, &[0, 0, 0, 0, 3, 0]);
    assert!(!guest.serve().broken);
    assert!(guest.received(CONTROL_RECEIVE).is_empty());
}

#[test]
fn bytes_go_both_ways() {
    let (mut guest, mut ends) = ready();
    guest.send(port_transmit(1), b"from the guest");
    let served = guest.serve();
    assert_eq!((served.signals, served.interrupts, served.more), (1 << 1, 1 << port_transmit(1), false));
    let mut buffer = [0; 100];
    assert_eq!(ends[1].receive(&mut buffer).bytes, 14);
    assert_eq!(&buffer[..14], b"from the guest");
    assert_eq!(ends[0].available(), 0);

    assert!(ends[0].send(b"to the guest").signal);
    // Without buffers the bytes stay in the ring.
    assert_eq!(guest.serve(), Served::default());
    guest.offer_buffers(0);
    assert_eq!(guest.serve().interrupts, 1);
    assert_eq!(guest.received(0), [b"to the guest"]);
}

#[test]
fn a_full_ring_holds_the_guest_back() {
    let (mut guest, mut ends) = ready();
    let text: Vec<u8> = (0..1000u32).map(|number| number as u8).collect();
    guest.send(1, &text);
    guest.send(1, b"behind it");
    // The ring has room for 128 bytes.
    let served = guest.serve();
    assert_eq!((served.signals, served.interrupts, served.more), (1, 0, false));
    let mut arrived: Vec<u8> = Vec::new();
    while arrived.len() < 1009 {
        let mut buffer = [0; 100];
        let transfer = ends[0].receive(&mut buffer);
        assert_ne!(transfer.bytes, 0, "after {} bytes", arrived.len());
        arrived.extend(&buffer[..transfer.bytes]);
        if transfer.signal {
            let _ = guest.serve();
        }
    }
    assert_eq!(arrived, [text.as_slice(), b"behind it"].concat());
    assert_eq!(guest.given_back(1), 2);
}

#[test]
fn a_closed_port_loses_nothing() {
    let (mut guest, mut ends) = ready();
    guest.offer_buffers(0);
    guest.message(0, 6, 0);
    let _ = guest.serve();
    let _ = ends[0].send(b"early");
    assert_eq!(guest.serve().interrupts, 0);
    assert!(guest.received(0).is_empty());
    guest.message(0, 6, 1);
    let _ = guest.serve();
    assert_eq!(guest.received(0), [b"early"]);
    // A reset closes all ports, and what is in the rings stays there.
    guest.send(1, b"before");
    let _ = guest.serve();
    let _ = ends[0].send(b"again");
    guest.console.reset();
    assert_eq!(guest.serve(), Served::default());
    let mut buffer = [0; 10];
    assert_eq!(ends[0].receive(&mut buffer).bytes, 6);
}

#[test]
fn a_driver_without_ports_has_one() {
    let (mut guest, mut ends) = guest();
    guest.configure(0);
    guest.send(1, b"plain");
    guest.send(port_transmit(1), b"not there");
    assert_eq!(guest.serve().signals, 1);
    let _ = ends[0].send(b"back");
    guest.offer_buffers(0);
    assert_eq!(guest.serve().interrupts, 1);
    assert_eq!(guest.received(0), [b"back"]);
    assert_eq!(ends[1].available(), 0);
}

/// A guest that talks to itself over one channel never ends; each call does, and asks for the next.
#[test]
fn work_is_bounded() {
    let words = words(1 << 13);
    let mut console = Console::new(PAUSE);
    console.add("long", TextChannel::attach(words, Side::First).unwrap());
    let mut guest = Guest::new(console);
    guest.configure(feature::MULTIPORT);
    let mut end = TextChannel::attach(words, Side::Second).unwrap();
    for _ in 0..10 {
        guest.send(1, &[7; 4000]);
    }
    let mut moved = 0;
    loop {
        let served = guest.serve();
        let mut buffer = vec![0; 1 << 16];
        let bytes = end.receive(&mut buffer).bytes;
        assert!(bytes <= BURST, "{bytes}");
        moved += bytes;
        if !served.more {
            break;
        }
    }
    assert_eq!(moved, 40_000);
}

#[test]
fn ports_have_an_end() {
    let mut console = Console::new(PAUSE);
    for _ in 0..MAX_PORTS {
        assert!(console.add("port", TextChannel::attach(words(64), Side::First).unwrap()));
    }
    assert!(!console.add("port", TextChannel::attach(words(64), Side::First).unwrap()));
    assert_eq!(usize::from(console.queues()), QUEUES);
}

#[test]
fn a_broken_queue_stops_the_device() {
    let (mut guest, mut ends) = ready();
    guest.send(1, b"good");
    let _ = guest.serve();
    guest.send_from(1, 1 << 40, 10);
    assert!(guest.serve().broken);
    guest.send(1, b"more");
    assert_eq!(guest.serve(), Served::default());
    assert_eq!(ends[0].available(), 4);
    // Queues outside of the memory, or at odd places.
    let mut queues = guest.queues();
    for wrong in [1 << 40, 0x1001] {
        queues[1].as_mut().unwrap().descriptors = wrong;
        assert!(guest.console.configure(feature::MULTIPORT, &queues, &guest.memory).is_err());
        assert_eq!(guest.serve(), Served::default());
    }
}

proptest! {
    /// Whatever two guests write and read, in whatever pieces, arrives as it was sent.
    #[test]
    fn streams_are_whole(steps in prop::collection::vec((0u8..4, 1usize..2000), 1..200)) {
        let words = words(200);
        let mut guests = [Side::First, Side::Second].map(|side| {
            let mut console = Console::new(PAUSE);
            console.add("pair", TextChannel::attach(words, side).unwrap());
            let mut guest = Guest::new(console);
            guest.configure(0);
            guest.offer_buffers(0);
            guest
        });
        let (mut next, mut expected) = ([0u8; 2], [0u8; 2]);
        let mut awake = [true; 2];
        for (what, length) in steps.into_iter().chain(std::iter::repeat_n((2, 1), 400)) {
            let from = usize::from(what & 1);
            if what < 2 && guests[from].can_send(1) {
                let text: Vec<u8> = (0..length).map(|_| { next[from] = next[from].wrapping_add(1); next[from] }).collect();
                guests[from].send(1, &text);
                awake[from] = true;
            }
            for side in 0..2 {
                if !std::mem::take(&mut awake[side]) {
                    continue;
                }
                let served = guests[side].serve();
                prop_assert!(!served.broken);
                awake[side] |= served.more;
                awake[1 - side] |= served.signals != 0;
                for buffer in guests[side].received(0) {
                    prop_assert!(!buffer.is_empty());
                    for byte in buffer {
                        expected[side] = expected[side].wrapping_add(1);
                        prop_assert_eq!(byte, expected[side]);
                    }
                    awake[side] = true;
                }
            }
        }
        prop_assert_eq!([expected[1], expected[0]], next);
    }

    #[test]
    fn no_driver_does_harm(writes in prop::collection::vec((0u64..0x9000, any::<u64>()), 0..100), seed in any::<u64>()) {
        let (mut guest, mut ends) = ready();
        guest.offer_buffers(0);
        for (place, value) in writes {
            guest.scribble(place, value);
            guest.scribble(place ^ seed & 0xff8, value & 0x0001_0001_0003_0003);
            let _ = ends[0].send(b"something");
            let _ = guest.serve();
            let _ = ends[0].receive(&mut [0; 64]);
        }
    }
}
