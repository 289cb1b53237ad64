//! Every interleaving of the kernel that writes a ring and a reader of it: no record is taken for whole that is not, and those that are
//! missing are counted.
#![cfg(loom)]

use bulkhead_core::sync::AtomicU64;
use bulkhead_core::trace;
use bulkhead_trace_log::ring::{Item, Memory, Reader, WORDS};
use loom::sync::Arc;
use loom::thread;
use std::sync::atomic::Ordering;

/// Records `n` at place `n` modulo this number, but the head at place 0.
const PLACES: usize = 4;

struct Ring(Vec<AtomicU64>);

impl Memory for Ring {
    fn words(&self) -> usize {
        self.0.len()
    }

    fn load(&self, index: usize, order: Ordering) -> u64 {
        self.0.get(index).map_or(0, |word| word.load(order))
    }
}

/// Words that tell of which record they are.
fn record(number: u64) -> [u64; WORDS] {
    std::array::from_fn(|word| number * 10 + word as u64)
}

impl Ring {
    fn new() -> Arc<Self> {
        Arc::new(Self((0..PLACES * WORDS).map(|_| AtomicU64::new(0)).collect()))
    }

    /// Writes so many records behind those before `next`, as the kernel does; the number of the next one.
    fn write(&self, next: u64, count: usize) -> u64 {
        let mask = PLACES as u64 - 1;
        (0..count).fold(next, |next, _| {
            let number = trace::number(next, mask);
            let first = (number & mask) as usize * WORDS;
            let place = self.0[first..first + WORDS].first_chunk().unwrap();
            trace::write(&self.0[0], place, number, &record(number));
            number + 1
        })
    }
}

/// What a reader has come by.
#[derive(Default)]
struct Seen {
    reader: Reader,
    last: u64,
    records: u64,
}

impl Seen {
    /// Reads so many items, or fewer if there are no more.
    fn read(&mut self, ring: &Ring, most: usize) {
        for _ in 0..most {
            match self.reader.read(ring) {
                Some(Item::Record(found)) => {
                    let number = found.tsc / 10;
                    let words: [u64; WORDS] = zerocopy::transmute!(found);
                    assert_eq!(words, record(number), "of several records");
                    assert!(number > self.last, "{number} after {}", self.last);
                    (self.last, self.records) = (number, self.records + 1);
                }
                Some(Item::Lost(count)) => self.records += count,
                None => return,
            }
        }
    }
}

/// A ring with `before` records gets `during` ones while `reads` items are read; in the end all are accounted for.
fn check(before: usize, during: usize, reads: usize) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(move || {
        let ring = Ring::new();
        let next = ring.write(1, before);
        let kernel = {
            let ring = ring.clone();
            thread::spawn(move || ring.write(next, during))
        };
        let mut seen = Seen::default();
        seen.read(&ring, reads);
        kernel.join().unwrap();
        seen.read(&ring, usize::MAX);
        assert_eq!(seen.records, (before + during) as u64);
    });
}

#[test]
fn a_record_is_whole_when_the_head_tells_of_it() {
    check(0, 2, 2);
}

#[test]
fn an_overwritten_record_is_counted_not_read() {
    check(2, 3, 2);
}

#[test]
fn a_reader_that_is_passed_goes_on_behind() {
    check(3, 4, 3);
}
