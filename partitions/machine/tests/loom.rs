//! Every interleaving of processors that post in a mailbox and the thread that it belongs to: nothing is lost, nothing comes
//! twice, and a thread that sleeps on something that has arrived is woken. The same for posted interrupts.
#![cfg(loom)]

use bulkhead_machine::mailbox::{Events, Mailbox, Whereabouts};
use bulkhead_machine::posted::Posted;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use loom::thread;

/// What the receiver of a run got.
#[derive(Default)]
struct Got {
    vectors: Vec<u8>,
    nmis: usize,
}

fn take(mailbox: &Mailbox, got: &mut Got) {
    let events = mailbox.take();
    if events.contains(Events::VECTORS) {
        mailbox.take_vectors(|vector, _| got.vectors.push(vector));
    }
    got.nmis += usize::from(events.contains(Events::NMI));
}

#[test]
fn two_senders_and_a_thread_that_sleeps() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(4);
    model.check(|| {
        let mailbox = Arc::new(Mailbox::default());
        let wakes = Arc::new(AtomicUsize::new(0));
        let send = |act: fn(&Mailbox) -> bool| {
            let (mailbox, wakes) = (mailbox.clone(), wakes.clone());
            thread::spawn(move || {
                if act(&mailbox) {
                    wakes.fetch_add(1, Ordering::SeqCst);
                }
            })
        };
        let senders = [send(|mailbox| mailbox.request(0x41, false)), send(|mailbox| mailbox.post(Events::NMI))];
        let mut got = Got::default();
        take(&mailbox, &mut got);
        let asleep = mailbox.sleep();
        for sender in senders {
            sender.join().unwrap();
        }
        let woken = wakes.load(Ordering::SeqCst);
        let missing = got.vectors.is_empty() || got.nmis == 0;
        assert_eq!(woken, usize::from(asleep && missing), "woken once, if it slept while something came");
        take(&mailbox, &mut got);
        assert_eq!(got.vectors, [0x41]);
        assert_eq!(got.nmis, 1);
        assert!(mailbox.sleep());
    });
}

#[test]
fn init_and_start_up_keep_their_order() {
    loom::model(|| {
        let mailbox = Arc::new(Mailbox::default());
        let theirs = mailbox.clone();
        let sender = thread::spawn(move || {
            theirs.initialise();
            theirs.start_up(0x9a);
        });
        let first = mailbox.take();
        sender.join().unwrap();
        let second = mailbox.take();
        let inits = [first, second].map(|events| events.contains(Events::INIT));
        assert_eq!(inits.iter().filter(|init| **init).count(), 1);
        let starts = [first, second].map(Events::startup);
        assert!(starts == [Some(0x9a), None] || starts == [None, Some(0x9a)]);
        assert!(starts[0].is_none() || inits[0], "not before its INIT");
    });
}

#[test]
fn a_vector_requested_again_while_it_is_taken_is_seen() {
    loom::model(|| {
        let mailbox = Arc::new(Mailbox::default());
        mailbox.request(0x30, true);
        let theirs = mailbox.clone();
        let sender = thread::spawn(move || theirs.request(0x30, true));
        let mut got = Got::default();
        take(&mailbox, &mut got);
        let slept = mailbox.sleep();
        let woke = sender.join().unwrap();
        take(&mailbox, &mut got);
        assert!((1..=2).contains(&got.vectors.len()));
        assert!(!slept || woke || got.vectors.len() == 1);
    });
}

/// A virtual-APIC page, as far as its posted-interrupt descriptor goes.
fn page() -> &'static [AtomicU32] {
    Box::leak((0..1024).map(|_| AtomicU32::new(0)).collect())
}

/// Posts a vector as the interconnect does. What has to be done to the receiver's thread.
fn post(mailbox: &Mailbox, posted: &Posted, vector: u8) -> Option<Whereabouts> {
    if !posted.request(vector) {
        return None;
    }
    match mailbox.whereabouts() {
        Whereabouts::Awake => None,
        Whereabouts::Asleep => mailbox.post(Events::POSTED).then_some(Whereabouts::Asleep),
        Whereabouts::InGuest => Some(Whereabouts::InGuest),
    }
}

/// What a receiver that is about to be away misses, it is told of.
fn posted_reaches(away: fn(&Mailbox) -> bool, told: Whereabouts) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(4);
    model.check(move || {
        let (mailbox, page) = (Arc::new(Mailbox::default()), page());
        let send = |vector| {
            let (mailbox, posted) = (mailbox.clone(), Posted::new(page));
            thread::spawn(move || post(&mailbox, &posted, vector))
        };
        let senders = [send(0x41), send(0xfb)];
        let posted = Posted::new(page);
        assert!(away(&mailbox), "nothing else is sent");
        // The kernel's look before it enters the guest, or the monitor's before it sleeps.
        let mut vectors: Vec<u8> = Vec::new();
        if posted.is_outstanding() {
            vectors.extend(posted.take());
        }
        let answers = senders.map(|sender| sender.join().unwrap());
        if vectors.len() < 2 {
            assert!(answers.contains(&Some(told)), "{vectors:x?} {answers:?}");
        }
        vectors.extend(posted.take());
        vectors.sort_unstable();
        assert_eq!(vectors, [0x41, 0xfb]);
    });
}

#[test]
fn posted_interrupts_reach_a_guest_that_is_entered() {
    posted_reaches(Mailbox::enter_guest, Whereabouts::InGuest);
}

#[test]
fn posted_interrupts_reach_a_thread_that_goes_to_sleep() {
    posted_reaches(Mailbox::sleep, Whereabouts::Asleep);
}
