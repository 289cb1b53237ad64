//! `shadow-smp`: all processors change the same page table at once, each its part and all by turns one entry, and flush.

use crate::instructions::read_cr3;
use crate::println;
use crate::shadow_bench::{MAPPED, build, invalidate, load_cr3, page, read, table, write};
use crate::smp::{self, wait_until};
use core::sync::atomic::{AtomicU32, Ordering};

/// How often each processor changes its part, and all change the common entry.
const ROUNDS: u32 = 500;
/// The page table, with the tables above it in front.
const TABLES: u64 = 64;
const PAGE_TABLE: u64 = TABLES + 3;
/// The entry that all processors use, and how many each has for itself.
const COMMON: u64 = 511;
const OWN: u64 = 32;
/// Every so often CR3 is loaded.
const BETWEEN_LOADS: u32 = 8;

/// The last round whose change has been made, and how many have seen it.
static CHANGED: AtomicU32 = AtomicU32::new(0);
static SEEN: AtomicU32 = AtomicU32::new(0);

/// Runs it on all processors.
pub fn run() {
    smp::start();
    println!("shadow-smp: {} processors", smp::count());
    let old = read_cr3() & !0xfff;
    let root = build(TABLES, old, 512, 0);
    for number in 0..OWN {
        // SAFETY: the page is memory that nobody uses, mapped at its address.
        unsafe { (page(number) as *mut u64).write_volatile(number) };
    }
    smp::on_all(&|processor| {
        load_cr3(root);
        for round in 0..ROUNDS {
            change_own(processor as u64, round);
            take_turns(processor as u32, round);
            if round.is_multiple_of(BETWEEN_LOADS) {
                load_cr3(root);
            }
        }
        load_cr3(old);
    });
    println!("shadow-smp: {ROUNDS} rounds, all translations were right");
}

/// Maps a page, then another in its place.
fn change_own(processor: u64, round: u32) {
    let entry = processor * OWN + u64::from(round) % OWN;
    for number in [u64::from(round) % OWN, u64::from(round + 1) % OWN] {
        write(table(PAGE_TABLE), entry, page(number) | MAPPED);
        invalidate(entry);
        assert_eq!(read(entry), number, "processor {processor}, round {round}");
    }
    write(table(PAGE_TABLE), entry, 0);
    invalidate(entry);
}

/// One processor changes the common entry; the others see it once they have been told and have flushed, half of the time by INVLPG.
fn take_turns(processor: u32, round: u32) {
    let count = smp::count() as u32;
    let number = u64::from(round) % OWN;
    if round % count == processor {
        wait_until("all processors to have seen the last change", || SEEN.load(Ordering::SeqCst) == round * count);
        write(table(PAGE_TABLE), COMMON, page(number) | MAPPED);
        CHANGED.store(round + 1, Ordering::SeqCst);
    } else {
        wait_until("a change", || CHANGED.load(Ordering::SeqCst) == round + 1);
    }
    if (round / count).is_multiple_of(2) {
        invalidate(COMMON);
    } else {
        load_cr3(read_cr3());
    }
    assert_eq!(read(COMMON), number, "processor {processor}, round {round}, common entry");
    SEEN.fetch_add(1, Ordering::SeqCst);
}
