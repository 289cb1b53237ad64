//! When a partition that has failed is started anew.
//!
//! The first wait is the manifest's backoff. Each further one is twice as long, up to [`Waits::longest`], until the partition has once
//! lived for [`Waits::steady`]: then the next wait is the first one again. The limit counts all restarts, however long the partition
//! lived in between. Whatever the manifest says, two starts are at least [`Waits::apart`] apart, and ten times as long as init took to
//! make the partition ready, so that a program that crashes at once costs init a bounded share of its CPU.

use bulkhead_plan::Restart;

/// Two starts are apart by this many times what making ready for the first of them took.
const SHARE: u64 = 10;

/// Times, all in the same unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Waits {
    /// Before the first restart; 0 for none.
    pub backoff: u64,
    /// Before any restart, at most.
    pub longest: u64,
    /// How long a partition must have lived to be as good as new.
    pub steady: u64,
    /// Between two starts, at least.
    pub apart: u64,
}

/// What is done about a failure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    /// It is started anew, for the `number`-th time, at this time.
    Again {
        /// Counted from 1.
        number: u32,
        /// When.
        at: u64,
    },
    /// It stays stopped.
    Never,
}

/// How often a partition has been started, and when.
#[derive(Clone, Copy, Debug)]
pub struct Restarts {
    policy: Restart,
    waits: Waits,
    /// The wait before the next restart.
    next: u64,
    count: u32,
    started: u64,
    /// No start before.
    earliest: u64,
}

impl Restarts {
    /// Those of a partition that was not started yet.
    pub const fn new(policy: Restart, waits: Waits) -> Self {
        Self { policy, waits, next: waits.backoff, count: 0, started: 0, earliest: 0 }
    }

    /// It was started now, after it was made ready since `begun`.
    pub fn start(&mut self, begun: u64, now: u64) {
        self.started = now;
        let pause = now.saturating_sub(begun).saturating_mul(SHARE).max(self.waits.apart);
        self.earliest = now.saturating_add(pause);
    }

    /// It has failed now.
    pub fn fail(&mut self, now: u64) -> Decision {
        let again = match self.policy {
            Restart::Never => false,
            Restart::Always => true,
            Restart::Limit(most) => self.count < most,
        };
        if !again {
            return Decision::Never;
        }
        let Waits { backoff, longest, steady, .. } = self.waits;
        if now.saturating_sub(self.started) >= steady {
            self.next = backoff;
        }
        let wait = self.next.min(longest);
        self.next = wait.saturating_mul(2).min(longest);
        self.count = self.count.saturating_add(1);
        let at = now.saturating_add(wait).max(self.earliest);
        Decision::Again { number: self.count, at }
    }

    /// How often it has been started anew, a restart that is decided included: its generation.
    pub const fn count(&self) -> u32 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAITS: Waits = Waits { backoff: 100, longest: 1_000, steady: 5_000, apart: 10 };

    /// Lets it fail after it has lived so long each time; the waits.
    fn waits<const N: usize>(restarts: &mut Restarts, lives: [u64; N]) -> [Option<u64>; N] {
        let mut now = 1_000_000;
        restarts.start(now, now);
        lives.map(|life| {
            now += life;
            match restarts.fail(now) {
                Decision::Again { at, .. } => {
                    let wait = at - now;
                    now = at;
                    restarts.start(now, now);
                    Some(wait)
                }
                Decision::Never => None,
            }
        })
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        let mut restarts = Restarts::new(Restart::Always, WAITS);
        let expected = [100, 200, 400, 800, 1_000, 1_000, 1_000].map(Some);
        assert_eq!(waits(&mut restarts, [20; 7]), expected);
        assert_eq!(restarts.count(), 7);
    }

    #[test]
    fn a_steady_life_makes_the_next_wait_the_first_one() {
        let mut restarts = Restarts::new(Restart::Always, WAITS);
        let expected = [100, 200, 400, 100, 200].map(Some);
        assert_eq!(waits(&mut restarts, [20, 20, 4_999, 5_000, 20]), expected);
    }

    #[test]
    fn the_limit_counts_all_restarts() {
        let mut restarts = Restarts::new(Restart::Limit(3), WAITS);
        assert_eq!(waits(&mut restarts, [20, 9_000, 20, 9_000, 20]), [Some(100), Some(100), Some(200), None, None]);
        assert_eq!(restarts.count(), 3);
        assert_eq!(Restarts::new(Restart::Never, WAITS).fail(7), Decision::Never);
    }

    #[test]
    fn without_backoff_starts_are_apart_nevertheless() {
        let mut restarts = Restarts::new(Restart::Always, Waits { backoff: 0, ..WAITS });
        assert_eq!(waits(&mut restarts, [0, 3, 10, 11]), [Some(10), Some(7), Some(0), Some(0)]);
    }

    #[test]
    fn who_takes_long_to_be_made_ready_is_made_ready_seldom() {
        let mut restarts = Restarts::new(Restart::Always, Waits { backoff: 0, ..WAITS });
        restarts.start(1_000, 1_300);
        assert_eq!(restarts.fail(1_301), Decision::Again { number: 1, at: 4_300 });
        // One that has lived so long anyway waits no longer.
        restarts.start(4_300, 4_600);
        assert_eq!(restarts.fail(8_000), Decision::Again { number: 2, at: 8_000 });
    }

    #[test]
    fn times_at_the_end_of_the_clock_do_not_overflow() {
        let mut restarts = Restarts::new(Restart::Always, Waits { longest: u64::MAX, backoff: u64::MAX, ..WAITS });
        restarts.start(u64::MAX, u64::MAX);
        for number in 1..4 {
            assert_eq!(restarts.fail(u64::MAX), Decision::Again { number, at: u64::MAX });
        }
    }
}
