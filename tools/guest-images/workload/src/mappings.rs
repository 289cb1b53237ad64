//! A page is replaced by another one again and again, while threads on the other processors read it: after the kernel has
//! said that it is done, none of them may find the old page through a translation that its processor has kept.

use core::sync::atomic::{AtomicU32, Ordering};

use crate::linux::{Failure, Page, Processors, start_thread, wait_for, yield_processor};

/// Times that the page is replaced.
const ROUNDS: u32 = 48;

static PAGE: Page = Page::new();
/// The round whose page is there.
static ROUND: AtomicU32 = AtomicU32::new(0);
/// Readings of a round's page that found what they should.
static READINGS: AtomicU32 = AtomicU32::new(0);
/// Something else that was found, and 1; 0 as long as there was nothing.
static WRONG: AtomicU32 = AtomicU32::new(0);

pub fn run(processors: &Processors) -> Result<u64, Failure> {
    // On one processor the reader shares it with the writer.
    let readers = (processors.count() - 1).max(1);
    PAGE.replace()?;
    for reader in 0..readers {
        start_thread(processors.nth(reader + 1), read, 0)?;
    }
    for round in 1..=ROUNDS {
        PAGE.replace()?;
        if PAGE.load() != 0 {
            return Err(Failure::wrong("new page in round", round.into()));
        }
        PAGE.store(round);
        ROUND.store(round, Ordering::SeqCst);
        // They read without a pause, so that their processors use the translation until it is taken away.
        while READINGS.load(Ordering::SeqCst) < round * readers as u32 {
            if let Some(found) = WRONG.load(Ordering::SeqCst).checked_sub(1) {
                return Err(Failure::wrong("page: that of round", found.into()));
            }
            yield_processor();
        }
    }
    wait_for(readers)?;
    Ok(u64::from(ROUNDS) * readers as u64)
}

/// Reads every round's page once it is there.
extern "C" fn read(_: usize) -> u8 {
    let mut last = 0;
    while last < ROUNDS && WRONG.load(Ordering::SeqCst) == 0 {
        let round = ROUND.load(Ordering::SeqCst);
        let found = PAGE.load();
        if round == last {
            yield_processor();
            continue;
        }
        if found != round {
            WRONG.store(found.saturating_add(1), Ordering::SeqCst);
            return 1;
        }
        last = round;
        READINGS.fetch_add(1, Ordering::SeqCst);
    }
    0
}
