//! Processes, one on each processor at a time, find their parent's memory as it was, change every word of it, and tell what
//! came of it; the parent's own memory stays as it was, whatever they write to their copies.

use crate::{
    linux::{Failure, Processors, exit_status, start_process},
    mix::{digest, mix},
};

/// Words of memory: eight pages.
const WORDS: usize = 4096;
/// Times that every processor has a new process.
const ROUNDS: u64 = 8;
/// Results are exit statuses below this number; those above tell of failures.
const RESULTS: u64 = 200;

pub fn run(processors: &Processors) -> Result<u64, Failure> {
    let mut memory: [u64; WORDS] = core::array::from_fn(|word| word as u64);
    let untouched = memory;
    for round in 0..ROUNDS {
        let mut processes = [0; Processors::MAX];
        for (number, process) in processes.iter_mut().enumerate().take(processors.count()) {
            let seed = seed(round, number);
            *process = start_process(processors.nth(number), || result(&mut memory, seed))?;
        }
        for (number, process) in processes.into_iter().enumerate().take(processors.count()) {
            let mut copy = untouched;
            let expected = result(&mut copy, seed(round, number));
            let status = exit_status(process)?;
            if status != expected {
                return Err(Failure::wrong("result of a process:", status.into()));
            }
        }
        if memory != untouched {
            return Err(Failure::wrong("memory of the parent after round", round));
        }
    }
    Ok(ROUNDS * processors.count() as u64)
}

/// Tells the processes apart.
fn seed(round: u64, number: usize) -> u64 {
    round * Processors::MAX as u64 + number as u64
}

/// Changes the memory, and returns a number that tells what is in it then.
fn result(memory: &mut [u64; WORDS], seed: u64) -> u8 {
    for word in memory.iter_mut() {
        *word = mix(*word, seed);
    }
    (digest(memory.iter().copied()) % RESULTS) as u8
}
