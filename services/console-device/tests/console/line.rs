//! Who is at the other end of a port goes and comes: the driver learns of each end, behind the bytes before it, and of each beginning,
//! before the bytes behind it.

use crate::common::*;
use bulkhead_channel::TextChannel;
use bulkhead_console_device::*;
use proptest::prelude::*;
use std::sync::atomic::Ordering;

/// A message that the other end of a port is open, or that it is not.
fn open(port: u8, value: u8) -> Vec<u8> {
    vec![port, 0, 0, 0, 6, 0, value, 0]
}

#[test]
fn an_end_is_told_and_then_a_beginning() {
    let (mut guest, _ends) = ready();
    guest.console.cut(1);
    assert_eq!(guest.serve().interrupts, 1 << CONTROL_RECEIVE);
    assert_eq!(guest.received(CONTROL_RECEIVE), [open(1, 0)]);
    // Nobody is there yet.
    guest.now += 5 * PAUSE;
    assert_eq!(guest.serve(), Served::default());
    guest.console.connect(1);
    let _ = guest.serve();
    assert_eq!(guest.received(CONTROL_RECEIVE), [open(1, 1)]);
}

#[test]
fn a_port_stays_closed_for_a_while() {
    let (mut guest, _ends) = ready();
    guest.console.cut(0);
    guest.console.connect(0);
    assert_eq!(guest.serve().again, Some(PAUSE));
    guest.now += PAUSE - 1;
    assert_eq!(guest.serve().again, Some(PAUSE));
    assert_eq!(guest.received(CONTROL_RECEIVE), [open(0, 0)]);
    guest.now += 1;
    assert_eq!(guest.serve().again, None);
    assert_eq!(guest.received(CONTROL_RECEIVE), [open(0, 1)]);
}

#[test]
fn nobody_is_there_at_first() {
    let (mut guest, _ends) = guest();
    guest.console.cut(0);
    guest.configure(feature::MULTIPORT);
    guest.offer_buffers(CONTROL_RECEIVE);
    guest.message(0, 3, 1);
    let _ = guest.serve();
    let name = [&[0, 0, 0, 0, 7, 0, 1, 0], b"first".as_slice()].concat();
    assert_eq!(guest.received(CONTROL_RECEIVE), [name]);
    guest.console.connect(0);
    let _ = guest.serve();
    assert_eq!(guest.received(CONTROL_RECEIVE), [open(0, 1)]);
}

/// A driver that gives no buffer learns later that there was an end, however often, and how it is now.
#[test]
fn ends_wait_for_buffers() {
    let (mut guest, _ends) = ready();
    let mut told = 0;
    for _ in 0..1000 {
        guest.console.cut(0);
        let _ = guest.serve();
        guest.console.connect(0);
        guest.now += PAUSE;
        assert!(!guest.serve().broken);
        told = guest.given_back(CONTROL_RECEIVE);
    }
    // All buffers are used up, by messages in turn.
    let messages = guest.received(CONTROL_RECEIVE);
    assert_eq!(guest.given_back(CONTROL_RECEIVE), told);
    for (index, message) in messages.iter().enumerate() {
        assert_eq!(*message, open(0, index as u8 % 2));
    }
    assert_eq!(messages.last(), Some(&open(0, 1)));
    let _ = guest.serve();
    assert_eq!(guest.received(CONTROL_RECEIVE), [open(0, 0)]);
    guest.now += PAUSE;
    let _ = guest.serve();
    assert_eq!(guest.received(CONTROL_RECEIVE), [open(0, 1)]);
    assert_eq!(guest.serve(), Served::default());
}

#[test]
fn the_end_comes_behind_what_was_sent_before() {
    let (mut guest, mut ends) = ready();
    let _ = ends[0].send(b"last words");
    guest.console.cut(0);
    // The guest reads nothing yet: neither comes.
    assert_eq!(guest.serve(), Served::default());
    // The next life sends, too.
    guest.console.connect(0);
    let _ = ends[0].send(b"first words");
    guest.offer_buffers(0);
    let _ = guest.serve();
    assert_eq!(guest.received(0), [b"last words"]);
    assert_eq!(guest.received(CONTROL_RECEIVE), [open(0, 0)]);
    let _ = guest.serve();
    assert!(guest.received(0).is_empty());
    guest.now += PAUSE;
    assert!(guest.serve().more);
    assert_eq!(guest.received(CONTROL_RECEIVE), [open(0, 1)]);
    let _ = guest.serve();
    assert_eq!(guest.received(0), [b"first words"]);
}

/// A ring whose bytes are taken back does not keep the end from the guest.
#[test]
fn bytes_that_are_taken_back_hide_no_end() {
    let (mut guest, mut ends, words) = ready_over(64);
    let _ = ends[0].send(b"never read");
    guest.console.cut(0);
    let _ = guest.serve();
    assert!(guest.received(CONTROL_RECEIVE).is_empty());
    // The count of bytes that it has sent.
    words[0][32].store(0, Ordering::Relaxed);
    let _ = guest.serve();
    assert_eq!(guest.received(CONTROL_RECEIVE), [open(0, 0)]);
}

#[test]
fn a_closed_port_keeps_what_the_one_before_sent() {
    let (mut guest, mut ends) = ready();
    guest.offer_buffers(0);
    guest.message(0, 6, 0);
    let _ = ends[0].send(b"early, ");
    guest.console.cut(0);
    let _ = guest.serve();
    assert_eq!(guest.received(CONTROL_RECEIVE), [open(0, 0)]);
    assert!(guest.received(0).is_empty());
    // Whoever opens it now reads what there is, then the end.
    guest.message(0, 6, 1);
    let _ = guest.serve();
    assert_eq!(guest.received(0), [b"early, "]);
}

#[test]
fn what_is_written_to_nobody_is_given_back() {
    let (mut guest, mut ends) = ready();
    // The ring has room for 128 bytes.
    guest.send(1, &[1; 200]);
    guest.send(1, &[2; 10]);
    let _ = guest.serve();
    assert_eq!(guest.given_back(1), 0);
    guest.console.cut(0);
    let served = guest.serve();
    assert_eq!((guest.given_back(1), served.interrupts >> 1 & 1), (2, 1));
    guest.send(1, &[3; 10]);
    guest.console.connect(0);
    guest.now += PAUSE;
    let _ = guest.serve();
    assert_eq!(guest.given_back(1), 3);
    guest.send(1, &[4; 10]);
    let _ = guest.serve();
    // The next life finds what had got into the ring, and what was written to it.
    let mut buffer = [0; 300];
    assert_eq!(ends[0].receive(&mut buffer).bytes, 128);
    let _ = guest.serve();
    assert_eq!(&buffer[..128], &[1; 128]);
    assert_eq!(ends[0].receive(&mut buffer).bytes, 10);
    assert_eq!(&buffer[..10], &[4; 10]);
}

/// A driver without messages cannot be told, and loses nothing.
#[test]
fn a_driver_without_messages_notices_nothing() {
    let (mut guest, mut ends) = guest();
    guest.configure(0);
    guest.offer_buffers(0);
    let _ = ends[0].send(b"one, ");
    guest.console.cut(0);
    guest.send(1, b"to whomever");
    let _ = guest.serve();
    guest.console.connect(0);
    let _ = ends[0].send(b"two");
    let _ = guest.serve();
    assert_eq!(guest.received(0), [b"one, ".as_slice(), b"two"]);
    assert_eq!(ends[0].available(), 11);
}

/// What happens next.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Somebody sends so many bytes, if there is somebody.
    Send(u8),
    /// Whoever is there goes.
    Cut,
    /// Somebody comes.
    Connect,
    /// Time passes.
    Wait(u64),
    /// The guest looks at its messages, and gives the buffers back.
    Messages,
    /// The guest reads, and gives the buffers back.
    Read,
    /// The guest opens or closes the port.
    Open(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1u8..30).prop_map(Step::Send),
        2 => Just(Step::Cut),
        2 => Just(Step::Connect),
        2 => (1..2 * PAUSE).prop_map(Step::Wait),
        2 => Just(Step::Messages),
        2 => Just(Step::Read),
        1 => any::<bool>().prop_map(Step::Open),
    ]
}

/// A port, who is at its other end, and what the guest knows of it.
struct Run {
    guest: Guest,
    end: TextChannel<'static>,
    /// The life at the other end, which is all that it sends.
    life: u8,
    is_up: bool,
    /// What was sent and has not arrived.
    under_way: std::collections::VecDeque<u8>,
    told: u16,
    /// Messages that it got before, in which that was 1.
    before: u16,
    /// Lives that have ended, and ends that the guest was told of; whether one has ended of which it is still to be told.
    ends: u32,
    ends_told: u32,
    has_ended: bool,
}

impl Run {
    fn messages(&mut self) {
        for message in self.guest.received(CONTROL_RECEIVE) {
            let value = u16::from(message[6]);
            assert_eq!((message[4], value), (6, 1 - self.told), "messages come in turn");
            self.told = value;
            self.ends_told += u32::from(value == 0);
            assert!(self.ends_told <= self.ends, "an end that was none");
            self.has_ended &= value == 1;
        }
    }

    fn read(&mut self) {
        for byte in self.guest.received(0).concat() {
            assert_eq!(Some(byte), self.under_way.pop_front(), "bytes in order");
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Send(count) if self.is_up => {
                let bytes = vec![self.life; usize::from(count)];
                let sent = self.end.send(&bytes).bytes;
                self.under_way.extend(&bytes[..sent]);
            }
            Step::Send(_) => {}
            Step::Cut => {
                self.guest.console.cut(0);
                self.ends += u32::from(self.is_up);
                // Messages come in turn, so that their number says what the last one was.
                let is_known = self.guest.given_back(CONTROL_RECEIVE).wrapping_sub(self.before).is_multiple_of(2);
                self.has_ended |= self.is_up && is_known;
                self.is_up = false;
            }
            Step::Connect => {
                self.life = self.life.wrapping_add(u8::from(!self.is_up));
                self.is_up = true;
                self.guest.console.connect(0);
            }
            Step::Wait(time) => self.guest.now += time,
            Step::Messages => self.messages(),
            Step::Read => self.read(),
            Step::Open(is_open) if self.guest.can_send(CONTROL_TRANSMIT) => {
                self.guest.message(0, 6, is_open.into());
            }
            Step::Open(_) => {}
        }
        let served = self.guest.serve();
        assert!(!served.broken);
        if served.more {
            let _ = self.guest.serve();
        }
    }
}

proptest! {
    /// Whatever happens, the guest gets all bytes, and is told of ends and beginnings in turn, the last of which is how it is.
    #[test]
    fn no_end_and_no_byte_is_lost(steps in prop::collection::vec(step(), 1..300)) {
        let (mut guest, [end, _], _) = ready_over(200);
        guest.offer_buffers(0);
        let before = guest.given_back(CONTROL_RECEIVE);
        let mut run = Run {
            guest,
            end,
            life: 0,
            is_up: true,
            under_way: Default::default(),
            told: 1,
            before,
            ends: 0,
            ends_told: 0,
            has_ended: false,
        };
        for step in steps {
            run.take(step);
        }
        let was_due = run.has_ended && run.told == 1;
        let before = run.ends_told;
        run.take(Step::Open(true));
        for _ in 0..40 {
            for step in [Step::Read, Step::Messages, Step::Wait(PAUSE)] {
                run.take(step);
            }
        }
        prop_assert_eq!((run.told == 1, run.under_way.len()), (run.is_up, 0));
        prop_assert!(!was_due || run.ends_told > before, "an end was never told");
    }
}
