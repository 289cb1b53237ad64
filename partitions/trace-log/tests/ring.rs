//! A ring that is written while it is read, a word of either at a time in any order: what is read is what was written, in its order, and
//! what is missing is counted.

use std::cell::RefCell;
use std::sync::atomic::Ordering;

use bulkhead_abi::TraceRecord;
use bulkhead_trace_log::ring::{Item, Memory, Reader, WORDS};
use proptest::prelude::*;

/// The kernel's side, as `kernel/src/trace.rs` has it, in steps of a word.
struct Kernel {
    words: Vec<u64>,
    next: u64,
    step: usize,
    /// Words that it writes before each word that is read.
    pace: Vec<u8>,
    reads: usize,
    most: u64,
}

/// Record `number` has nothing but numbers that follow from it.
fn record(number: u64) -> [u64; WORDS] {
    core::array::from_fn(|word| number * 10 + word as u64)
}

impl Kernel {
    fn step(&mut self) {
        let places = (self.words.len() / WORDS) as u64;
        if self.next.is_multiple_of(places) {
            self.next += 1;
        }
        if self.next > self.most {
            return;
        }
        if self.step < WORDS {
            self.words[(self.next % places) as usize * WORDS + self.step] = record(self.next)[self.step];
            self.step += 1;
        } else {
            self.next += 1;
            self.words[0] = self.next;
            self.step = 0;
        }
    }
}

struct Ring(RefCell<Kernel>);

impl Memory for Ring {
    fn words(&self) -> usize {
        self.0.borrow().words.len()
    }

    fn load(&self, index: usize, _: Ordering) -> u64 {
        let mut kernel = self.0.borrow_mut();
        let steps = kernel.pace[kernel.reads % kernel.pace.len()];
        kernel.reads += 1;
        for _ in 0..steps {
            kernel.step();
        }
        kernel.words.get(index).copied().unwrap_or(0)
    }
}

proptest! {
    #[test]
    fn what_is_read_was_written(
        places in prop::sample::select(vec![2usize, 4, 8, 16]),
        pace in prop::collection::vec(prop_oneof![4 => 0u8..3, 1 => 0u8..40], 1..40),
        most in 1u64..300,
    ) {
        let kernel = Kernel { words: vec![0; places * WORDS], next: 1, step: 0, pace, reads: 0, most };
        let ring = Ring(RefCell::new(kernel));
        let mut reader = Reader::default();
        let (mut last, mut seen) = (0, 0);
        // With each read the kernel may write, so it comes to its end.
        for _ in 0..40 * most {
            match reader.read(&ring) {
                Some(Item::Record(found)) => {
                    let number = found.tsc / 10;
                    let words: [u64; WORDS] = zerocopy::transmute!(found);
                    prop_assert_eq!(words, record(number));
                    prop_assert!(number > last);
                    (last, seen) = (number, seen + 1);
                }
                Some(Item::Lost(count)) => seen += count,
                None => {}
            }
        }
        let kernel = ring.0.borrow();
        if kernel.pace.iter().any(|steps| *steps != 0) {
            let written = (1..kernel.next).filter(|number| !number.is_multiple_of(places as u64)).count() as u64;
            prop_assert_eq!(seen, written);
        }
    }
}

#[test]
fn a_head_that_makes_no_sense_is_survived() {
    for head in [0, 1, u64::MAX, u64::MAX - 1, 1 << 63] {
        let kernel = Kernel { words: vec![head; 4 * WORDS], next: 1, step: 0, pace: vec![0], reads: 0, most: 0 };
        let (ring, mut reader) = (Ring(RefCell::new(kernel)), Reader::default());
        for _ in 0..20 {
            let _ = reader.read(&ring);
        }
    }
    let none = Ring(RefCell::new(Kernel { words: vec![9; 3], next: 1, step: 0, pace: vec![0], reads: 0, most: 0 }));
    assert_eq!(Reader::default().read(&none), None);
    assert_eq!(size_of::<TraceRecord>(), WORDS * 8);
}
