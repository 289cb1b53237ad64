//! Questions and their answers, counted and printed.

use crate::raw::Answer;
use crate::{Score, score};
use bulkhead_runtime::abi::Error;
use bulkhead_runtime::channel::AtomicU64;
use bulkhead_runtime::{Program, println};
use core::fmt::Arguments;
use core::sync::atomic::Ordering;

/// Asks, and keeps the score.
pub struct Prober {
    calls: &'static AtomicU64,
    faults: &'static AtomicU64,
    failures: &'static AtomicU64,
}

impl Prober {
    /// Goes on with the score that is in the channel.
    pub fn new(program: &Program) -> Option<Self> {
        let word = |word| score(program, word);
        Some(Self { calls: word(Score::Calls)?, faults: word(Score::Faults)?, failures: word(Score::Failures)? })
    }

    /// How many questions were asked.
    pub fn asked(&self) -> u64 {
        self.calls.load(Ordering::Relaxed) + self.faults()
    }

    /// How many faults were asked for.
    pub fn faults(&self) -> u64 {
        self.faults.load(Ordering::Relaxed)
    }

    /// How many questions were not refused as they must be.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    fn has_failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// A system call that must have been refused, for this reason.
    pub fn refused(&self, asked: Arguments<'_>, expected: Error, answer: Answer) {
        let number = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        match answer {
            Err(error) if error == expected => println!("probe {number}: {asked}: refused, {error:?}"),
            Err(error) => {
                self.has_failed();
                println!("probe {number}: {asked}: NOT as it must be, {error:?} instead of {expected:?}");
            }
            Ok(_) => {
                self.has_failed();
                println!("probe {number}: {asked}: NOT refused");
            }
        }
    }

    /// What a question needs must work.
    pub fn prepared(&self, what: &str, answer: Answer) -> bool {
        if let Err(error) = answer {
            self.has_failed();
            println!("{what}: {error:?}");
        }
        answer.is_ok()
    }

    /// Says what will be tried, and that it must end with one of these exceptions (for a page fault alone, at this address). Is noted
    /// before, since the program does not survive it.
    pub fn about_to_fault(&self, asked: Arguments<'_>, vectors: &[u64], address: u64) {
        self.faults.fetch_add(1, Ordering::Relaxed);
        println!("probe {}: {asked}: ends with vector {vectors:?} at {address:#x}", self.asked());
    }

    /// It has survived it.
    pub fn has_survived(&self) {
        self.has_failed();
        println!("probe {}: NOT refused", self.asked());
    }
}
