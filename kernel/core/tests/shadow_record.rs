//! Every interleaving of a processor that edits a guest table and one that flushes its TLB: what the second knows to be
//! written, its shadow tables follow. Run with `RUSTFLAGS="--cfg loom" cargo test --release -p bulkhead-core --test
//! shadow_record`.
#![cfg(loom)]

use bulkhead_core::lock::TicketLock;
use bulkhead_core::shadow::record::{Changed, learn};
use bulkhead_core::sync::{AtomicU64, Cell, Ordering};
use loom::sync::Arc;
use loom::thread;

const ACCESSED_AND_DIRTY: u64 = 1 << 5 | 1 << 6;

/// A guest table of one word, which two processors have mapped and shadowed.
struct Guest {
    lock: TicketLock,
    table: AtomicU64,
    /// By which the processors tell each other what they have written.
    message: AtomicU64,
    /// The entry by which each maps the table.
    entries: [AtomicU64; 2],
    /// Under the lock: the shadow tables to be compared, and what they were made from.
    stale: [Cell<bool>; 2],
    sources: [Cell<u64>; 2],
}

impl Guest {
    fn new() -> Self {
        Self {
            lock: TicketLock::default(),
            table: AtomicU64::new(0),
            message: AtomicU64::new(0),
            entries: [AtomicU64::new(0), AtomicU64::new(0)],
            stale: [Cell::new(false), Cell::new(false)],
            sources: [Cell::new(0), Cell::new(0)],
        }
    }

    /// The guest writes to its table; `dirty` is what the processor's TLB holds.
    fn write(&self, number: usize, dirty: &mut bool, value: u64) {
        if !*dirty {
            self.entries[number].fetch_or(ACCESSED_AND_DIRTY, Ordering::AcqRel);
            *dirty = true;
        }
        self.table.store(value, Ordering::Release);
        self.message.store(value, Ordering::Release);
    }

    /// The processor flushes its TLB. Answers what its shadow table is made from then.
    fn flush(&self, number: usize, dirty: &mut bool) -> u64 {
        self.lock.acquire(|| {});
        for (owner, entry) in self.entries.iter().enumerate() {
            match learn(entry, owner == number) {
                Changed::Nobodys => {}
                Changed::This => self.stale[number].set(true),
                Changed::Everybodys => self.stale.iter().for_each(|stale| stale.set(true)),
            }
        }
        if self.stale[number].replace(false) {
            self.sources[number].set(self.table.load(Ordering::Acquire));
        }
        *dirty = false;
        let source = self.sources[number].get();
        self.lock.release();
        source
    }
}

#[test]
fn nothing_written_is_overlooked() {
    loom::model(|| {
        let guest = Arc::new(Guest::new());
        let writer = {
            let guest = guest.clone();
            thread::spawn(move || {
                let mut dirty = false;
                guest.write(1, &mut dirty, 1);
                // Without a trace.
                guest.write(1, &mut dirty, 2);
                assert_eq!(guest.flush(1, &mut dirty), 2);
                guest.write(1, &mut dirty, 3);
            })
        };
        let mut dirty = false;
        let known = guest.message.load(Ordering::Acquire);
        assert!(guest.flush(0, &mut dirty) >= known, "a change was overlooked");
        writer.join().unwrap();
        assert_eq!(guest.flush(0, &mut dirty), 3);
    });
}
