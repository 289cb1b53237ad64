//! Every interleaving of a sender and a receiver: no byte is lost or reordered, and no wake-up either.
#![cfg(loom)]

use bulkhead_channel::{AtomicU64, ByteReceiver, ByteSender, RING_MIN_WORDS};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

fn ring() -> Arc<Vec<AtomicU64>> {
    Arc::new((0..RING_MIN_WORDS).map(|_| AtomicU64::new(0)).collect())
}

#[test]
fn bytes_arrive_in_order_and_the_receiver_is_woken() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let words = ring();
        let signals = Arc::new(AtomicUsize::new(0));
        let (theirs, their_signals) = (words.clone(), signals.clone());
        let sender = thread::spawn(move || {
            let mut sender = ByteSender::attach(&theirs).unwrap();
            for part in [&[1, 2][..], &[3]] {
                let sent = sender.send(part);
                assert_eq!(sent.bytes, part.len());
                if sent.signal {
                    their_signals.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        let mut receiver = ByteReceiver::attach(&words).unwrap();
        let mut buffer = [0; 4];
        let mut signals_before = signals.load(Ordering::SeqCst);
        let mut got = receiver.receive(&mut buffer).bytes;
        sender.join().unwrap();
        // The receiver slept after a receive that found the ring empty: if there is more now, there must be a signal since.
        while got < 3 {
            let now = signals.load(Ordering::SeqCst);
            assert!(now > signals_before, "slept with {got} bytes and was not woken");
            signals_before = now;
            got += receiver.receive(&mut buffer[got..]).bytes;
        }
        assert_eq!(buffer[..3], [1, 2, 3]);
    });
}

#[test]
fn a_sender_that_filled_the_ring_is_woken() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let words = ring();
        let signals = Arc::new(AtomicUsize::new(0));
        let (theirs, their_signals) = (words.clone(), signals.clone());
        let filled = ByteSender::attach(&words).unwrap().send(&[9; 6]);
        assert_eq!(filled.bytes, 6);
        let receiver = thread::spawn(move || {
            let mut receiver = ByteReceiver::attach(&theirs).unwrap();
            if receiver.receive(&mut [0; 3]).signal {
                their_signals.fetch_add(1, Ordering::SeqCst);
            }
        });
        let mut sender = ByteSender::attach(&words).unwrap();
        let first = sender.send(&[7; 4]).bytes;
        receiver.join().unwrap();
        if first < 4 {
            assert_eq!(signals.load(Ordering::SeqCst), 1, "{first} bytes fitted and nobody woke the sender");
            assert_eq!(sender.send(&[7; 4][first..]).bytes, 4 - first);
        }
    });
}
