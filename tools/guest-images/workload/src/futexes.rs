//! Threads, two on each processor, count under a lock that is made of a futex, and hand a baton round. A count that two
//! threads took at the same time is too small in the end; a wake-up that was lost ends in a wait that lasts too long.

use core::sync::atomic::{AtomicU32, Ordering};

use crate::linux::{Failure, Processors, futex_wait, futex_wake, start_thread, wait_for, yield_processor};

/// Threads on a processor.
const THREADS: usize = 2;
/// Times that each thread counts.
const COUNTS: u32 = 256;
/// Every so often a thread gives its processor away while it has the lock, so that others have to wait.
const YIELDS: u32 = 16;
/// Times that the baton goes round.
const LAPS: u32 = 64;

/// 0: free; 1: taken; 2: taken, and somebody may be waiting.
static LOCK: AtomicU32 = AtomicU32::new(0);
/// Counted by reading and writing, under the lock alone.
static COUNT: AtomicU32 = AtomicU32::new(0);
/// Times that the baton was handed on; the thread whose turn it is has this number modulo the threads.
static BATON: AtomicU32 = AtomicU32::new(0);
static RUNNERS: AtomicU32 = AtomicU32::new(0);

pub fn run(processors: &Processors) -> Result<u64, Failure> {
    let threads = processors.count() * THREADS;
    RUNNERS.store(threads as u32, Ordering::SeqCst);
    for number in 0..threads {
        start_thread(processors.nth(number), thread, number)?;
    }
    wait_for(threads)?;
    let (counted, expected) = (COUNT.load(Ordering::SeqCst), threads as u32 * COUNTS);
    if counted != expected {
        return Err(Failure::wrong("count", counted.into()));
    }
    let handed = BATON.load(Ordering::SeqCst);
    if handed != threads as u32 * LAPS {
        return Err(Failure::wrong("number of times that the baton was handed on:", handed.into()));
    }
    Ok(u64::from(counted) + u64::from(handed))
}

extern "C" fn thread(number: usize) -> u8 {
    u8::from(count().and_then(|()| run_laps(number as u32)).is_err())
}

fn count() -> Result<(), Failure> {
    for round in 0..COUNTS {
        lock()?;
        let count = COUNT.load(Ordering::Relaxed);
        if round % YIELDS == 0 {
            yield_processor();
        }
        COUNT.store(count + 1, Ordering::Relaxed);
        unlock()?;
    }
    Ok(())
}

fn lock() -> Result<(), Failure> {
    if LOCK.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok() {
        return Ok(());
    }
    while LOCK.swap(2, Ordering::Acquire) != 0 {
        futex_wait(&LOCK, 2)?;
    }
    Ok(())
}

fn unlock() -> Result<(), Failure> {
    if LOCK.swap(0, Ordering::Release) == 2 {
        futex_wake(&LOCK, 1)?;
    }
    Ok(())
}

fn run_laps(number: u32) -> Result<(), Failure> {
    let runners = RUNNERS.load(Ordering::SeqCst);
    for lap in 0..LAPS {
        let turn = lap * runners + number;
        loop {
            match BATON.load(Ordering::SeqCst) {
                baton if baton == turn => break,
                // Nobody else may have run for us.
                baton if baton > turn => return Err(Failure::wrong("baton", baton.into())),
                baton => futex_wait(&BATON, baton)?,
            }
        }
        BATON.store(turn + 1, Ordering::SeqCst);
        futex_wake(&BATON, runners)?;
    }
    Ok(())
}
