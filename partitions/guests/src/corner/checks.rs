//! Counting checks, and saying which failed.

use super::run::{Event, Outcome, Run};
use crate::println;
use core::fmt;

/// The checks of a run of tests.
pub struct Checks {
    area: &'static str,
    count: u32,
    failed: u32,
}

impl Checks {
    /// None yet.
    pub const fn new() -> Self {
        Self { area: "", count: 0, failed: 0 }
    }

    /// The checks that follow are of this area.
    pub const fn area(&mut self, name: &'static str) {
        self.area = name;
    }

    /// How many checks there were, and how many failed.
    pub const fn result(&self) -> (u32, u32) {
        (self.count, self.failed)
    }

    fn note(&mut self, ok: bool, describe: impl FnOnce(&'static str)) {
        self.count += 1;
        if !ok {
            self.failed += 1;
            describe(self.area);
        }
    }

    /// Something is true.
    #[inline(never)]
    pub fn is(&mut self, what: &str, ok: bool) {
        self.note(ok, |area| println!("corner: FAILED {area}: {what}"));
    }

    /// Two values are equal.
    #[inline(never)]
    pub fn equal(&mut self, what: &str, found: u64, wanted: u64) {
        self.note(found == wanted, |area| println!("corner: FAILED {area}: {what}: {found:#x} instead of {wanted:#x}"));
    }

    /// The code came to its end, without any event.
    #[inline(never)]
    pub fn passes(&mut self, what: &str, run: Run) -> Outcome {
        let run = run.go();
        self.note(run.count == 0, |area| {
            println!("corner: FAILED {area}: {what}: {:x?} instead of nothing", Events(&run));
        });
        run
    }

    /// The first event is an exception with this vector and error code, at the code's mark.
    #[inline(never)]
    pub fn raises(&mut self, what: &str, run: Run, vector: u8, error: u32) -> Outcome {
        self.raises_at(what, run, 0, vector, error)
    }

    /// The same, at a distance from the mark.
    #[inline(never)]
    pub fn raises_at(&mut self, what: &str, run: Run, offset: i64, vector: u8, error: u32) -> Outcome {
        let run = run.go();
        let first = run.event(0);
        let found = (first.vector, first.error, first.offset);
        self.note(run.count > 0 && found == (vector, error, offset), |area| {
            println!(
                "corner: FAILED {area}: {what}: {} events, {:x?} instead of vector {vector} error {error:#x} at {offset}",
                run.count,
                Events(&run)
            );
        });
        run
    }

    /// The first event is a page fault with this error code and address, at the code's mark.
    #[inline(never)]
    pub fn page_fault(&mut self, what: &str, run: Run, error: u32, address: u64) -> Outcome {
        let run = self.raises(what, run, 14, error);
        let first = run.event(0);
        self.equal(what, first.cr2, address);
        run
    }

    /// Exactly these events happened: vector and distance from the mark.
    #[inline(never)]
    pub fn events(&mut self, what: &str, run: Run, wanted: &[(u8, i64)]) -> Outcome {
        let run = run.go();
        let same = run.events().map(|event: Event| (event.vector, event.offset)).eq(wanted.iter().copied());
        self.note(same, |area| {
            println!("corner: FAILED {area}: {what}: {:x?} instead of {wanted:x?}", Events(&run));
        });
        run
    }
}

/// The events of a run, as text.
struct Events<'a>(&'a Outcome);

impl fmt::Debug for Events<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.0.events()).finish()
    }
}
