//! The byte ring against a model, and against a peer that scribbles over the whole memory.
#![cfg(not(loom))]

use bulkhead_channel::*;
use proptest::prelude::*;
use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;

fn memory(words: usize) -> Vec<AtomicU64> {
    (0..words).map(|_| AtomicU64::new(0)).collect()
}

#[derive(Clone, Debug)]
enum Step {
    Send(Vec<u8>),
    Receive(usize),
    /// The other partition of a side was restarted.
    ReattachSender,
    ReattachReceiver,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => proptest::collection::vec(any::<u8>(), 0..80).prop_map(Step::Send),
        4 => (0usize..80).prop_map(Step::Receive),
        1 => Just(Step::ReattachSender),
        1 => Just(Step::ReattachReceiver),
    ]
}

/// A note outlives its sender, and is in nobody's way.
#[test]
fn a_sender_leaves_a_note() {
    let words = memory(RING_MIN_WORDS);
    let sender = ByteSender::attach(&words).unwrap();
    assert_eq!(sender.note(), 0);
    sender.set_note(u64::MAX);
    let mut sender = ByteSender::attach(&words).unwrap();
    assert_eq!((sender.note(), sender.sent(), sender.space()), (u64::MAX, 0, 8));
    let _ = sender.send(&[1, 2, 3]);
    let mut receiver = ByteReceiver::attach(&words).unwrap();
    let mut bytes = [0; 8];
    assert_eq!((receiver.receive(&mut bytes).bytes, receiver.received(), sender.sent()), (3, 3, 3));
    assert_eq!(bytes, [1, 2, 3, 0, 0, 0, 0, 0]);
}

proptest! {
    #[test]
    fn behaves_like_a_bounded_queue(extra in 0usize..7, start in prop_oneof![Just(0u64), Just(u64::MAX - 100)], steps in
        proptest::collection::vec(step(), 1..200))
    {
        let words = memory(RING_MIN_WORDS + extra);
        // The wrap of the free-running counts is seamless only if the capacity divides 2^64; nobody sends that much.
        let start = if (RING_MIN_WORDS + extra - 16).is_power_of_two() { start } else { 0 };
        words[0].store(start, Relaxed);
        words[8].store(start, Relaxed);
        let mut sender = ByteSender::attach(&words).unwrap();
        let mut receiver = ByteReceiver::attach(&words).unwrap();
        let capacity = sender.capacity();
        let mut model = VecDeque::new();
        for step in steps {
            match step {
                Step::Send(bytes) => {
                    let empty = model.is_empty();
                    let sent = sender.send(&bytes);
                    prop_assert_eq!(sent.bytes, bytes.len().min(capacity - model.len()));
                    prop_assert_eq!(sent.signal, empty && sent.bytes > 0);
                    model.extend(&bytes[..sent.bytes]);
                }
                Step::Receive(length) => {
                    let full = model.len() == capacity;
                    let mut buffer = vec![0; length];
                    prop_assert_eq!(receiver.peek(&mut buffer), length.min(model.len()));
                    prop_assert!(buffer.iter().zip(&model).all(|(seen, next)| seen == next));
                    buffer.fill(0);
                    let received = receiver.receive(&mut buffer);
                    prop_assert_eq!(received.bytes, length.min(model.len()));
                    prop_assert_eq!(received.signal, full && received.bytes > 0);
                    for byte in &buffer[..received.bytes] {
                        prop_assert_eq!(Some(*byte), model.pop_front());
                    }
                }
                Step::ReattachSender => sender = ByteSender::attach(&words).unwrap(),
                Step::ReattachReceiver => receiver = ByteReceiver::attach(&words).unwrap(),
            }
            prop_assert_eq!(receiver.available(), model.len());
            prop_assert_eq!(sender.space(), capacity - model.len());
        }
    }

    #[test]
    fn survives_a_peer_that_writes_anything(words_count in RING_MIN_WORDS..40usize,
        attacks in proptest::collection::vec((0usize..40, prop_oneof![any::<u64>(), 0u64..200]), 1..200))
    {
        let words = memory(words_count);
        let mut sender = ByteSender::attach(&words).unwrap();
        let mut receiver = ByteReceiver::attach(&words).unwrap();
        for (index, value) in attacks {
            if let Some(word) = words.get(index) {
                word.store(value, Relaxed);
            }
            let sent = sender.send(&[1; 33]);
            prop_assert!(sent.bytes <= 33);
            prop_assert!(sender.space() <= sender.capacity());
            let mut buffer = [0; 50];
            prop_assert!(receiver.receive(&mut buffer).bytes <= 50);
            prop_assert!(receiver.available() <= sender.capacity());
        }
        // Once the peer behaves again, so does the channel: at the latest after one side has started over.
        let mut buffer = [0; 1024];
        for _ in 0..3 {
            while receiver.receive(&mut buffer).bytes > 0 {}
            let _ = sender.send(b"?");
        }
        while receiver.receive(&mut buffer).bytes > 0 {}
        let _ = sender.space();
        prop_assert_eq!(sender.send(b"hello").bytes, 5);
        prop_assert_eq!(receiver.receive(&mut buffer).bytes, 5);
        prop_assert_eq!(&buffer[..5], b"hello");
    }
}

#[test]
fn the_two_sides_of_a_text_channel_hear_each_other() {
    let words = memory(512);
    let mut first = TextChannel::attach(&words, Side::First).unwrap();
    let mut second = TextChannel::attach(&words, Side::Second).unwrap();
    assert_eq!(first.send(b"ping"), Transfer { bytes: 4, signal: true });
    assert_eq!(second.send(b"pong"), Transfer { bytes: 4, signal: true });
    let mut buffer = [0; 8];
    assert_eq!(second.receive(&mut buffer).bytes, 4);
    assert_eq!(&buffer[..4], b"ping");
    assert_eq!(first.receive(&mut buffer).bytes, 4);
    assert_eq!(&buffer[..4], b"pong");
}

#[test]
fn memory_that_is_too_small_is_refused() {
    let words = memory(TEXT_MIN_WORDS - 1);
    assert_eq!(
        TextChannel::attach(&words, Side::First).err(),
        Some(TooSmall { needed: TEXT_MIN_WORDS, given: TEXT_MIN_WORDS - 1 })
    );
    assert!(ByteSender::attach(&words[..16]).is_err());
}
