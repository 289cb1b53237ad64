//! Waiting for signs of life.
//!
//! After half of its time without a sign a thread is asked for one, and has the other half from then on. So whoever could not run
//! because init could not, as on a machine that was held up as a whole, is not taken for dead.

use alloc::vec;
use alloc::vec::Vec;

/// Waits for the signs of one thread. Times are in ticks.
#[derive(Clone, Copy, Debug)]
pub struct Watchdog {
    /// That may lie between two signs; 0 for no watchdog.
    period: u64,
    /// The last sign, and when it was seen; nothing before the first look.
    seen: Option<(u32, u64)>,
    /// When it was asked for another one.
    asked: Option<u64>,
}

/// What a look at the sign says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Look {
    /// Nothing is to be done.
    Well,
    /// It is time to ask for a sign.
    Ask,
    /// There was none for too long.
    Expired,
}

impl Watchdog {
    /// That of a thread which shows a sign at least this often; 0 for never.
    pub const fn new(period: u64) -> Self {
        Self { period, seen: None, asked: None }
    }

    /// It is started: it has all its time.
    pub const fn rearm(&mut self) {
        self.seen = None;
        self.asked = None;
    }

    const fn half(&self) -> u64 {
        self.period.div_ceil(2)
    }

    /// When to look, at the latest.
    pub fn deadline(&self, now: u64) -> Option<u64> {
        let from = self.asked.or(self.seen.map(|(_, at)| at)).unwrap_or(now);
        (self.period != 0).then(|| from.saturating_add(self.half()))
    }

    /// Looks at the sign.
    pub fn look(&mut self, sign: u32, now: u64) -> Look {
        if self.period == 0 {
            return Look::Well;
        }
        let half = self.half();
        match (self.seen, self.asked) {
            (Some((last, _)), Some(asked)) if last == sign => {
                if now >= asked.saturating_add(half) {
                    Look::Expired
                } else {
                    Look::Well
                }
            }
            (Some((last, at)), None) if last == sign => {
                if now < at.saturating_add(half) {
                    return Look::Well;
                }
                self.asked = Some(now);
                Look::Ask
            }
            _ => {
                self.seen = Some((sign, now));
                self.asked = None;
                Look::Well
            }
        }
    }
}

/// Waits for the signs of all threads of one partition: each of them has to show its own.
#[derive(Clone, Debug)]
pub struct Watchdogs(Vec<Watchdog>);

impl Watchdogs {
    /// Those of a partition with so many threads, each of which shows a sign at least this often; 0 for never.
    pub fn new(period: u64, threads: usize) -> Self {
        Self(vec![Watchdog::new(period); threads])
    }

    /// The partition is started.
    pub fn rearm(&mut self) {
        self.0.iter_mut().for_each(Watchdog::rearm);
    }

    /// When to look, at the latest.
    pub fn deadline(&self, now: u64) -> Option<u64> {
        self.0.iter().filter_map(|one| one.deadline(now)).min()
    }

    /// Looks at each thread's sign, and asks those for another one for which it is time. The thread that has shown none for too long, if
    /// there is one. A further thread with sign 0 was not started by the first one yet, and owes none.
    pub fn look(&mut self, now: u64, sign: impl Fn(usize) -> u32, mut ask: impl FnMut(usize)) -> Option<usize> {
        for (thread, watchdog) in self.0.iter_mut().enumerate() {
            let sign = sign(thread);
            if thread != 0 && sign == 0 {
                continue;
            }
            match watchdog.look(sign, now) {
                Look::Well => {}
                Look::Ask => ask(thread),
                Look::Expired => return Some(thread),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;

    #[test]
    fn who_shows_signs_is_well() {
        let mut watchdog = Watchdog::new(100);
        for time in 0..50u32 {
            assert_eq!(watchdog.look(time, u64::from(time) * 40), Look::Well);
        }
        assert_eq!(watchdog.deadline(1_970), Some(49 * 40 + 50));
    }

    #[test]
    fn who_shows_none_is_asked_and_then_given_up() {
        let mut watchdog = Watchdog::new(100);
        assert_eq!(watchdog.look(7, 0), Look::Well);
        assert_eq!(watchdog.look(7, 49), Look::Well);
        assert_eq!(watchdog.look(7, 50), Look::Ask);
        assert_eq!(watchdog.look(7, 51), Look::Well);
        assert_eq!(watchdog.deadline(51), Some(100));
        assert_eq!(watchdog.look(7, 99), Look::Well);
        assert_eq!(watchdog.look(7, 100), Look::Expired);
        watchdog.rearm();
        assert_eq!(watchdog.look(7, 300), Look::Well);
    }

    #[test]
    fn who_answers_is_well_again() {
        let mut watchdog = Watchdog::new(100);
        watchdog.look(7, 0);
        assert_eq!(watchdog.look(7, 60), Look::Ask);
        assert_eq!(watchdog.look(8, 70), Look::Well);
        assert_eq!(watchdog.look(8, 119), Look::Well);
        assert_eq!(watchdog.look(8, 120), Look::Ask);
    }

    #[test]
    fn a_machine_that_was_held_up_kills_nobody() {
        let mut watchdog = Watchdog::new(100);
        watchdog.look(7, 0);
        assert_eq!(watchdog.look(7, 5_000), Look::Ask);
        assert_eq!(watchdog.look(7, 5_049), Look::Well);
        assert_eq!(watchdog.look(8, 5_050), Look::Well);
    }

    /// Three threads: one that is well, one that was not started, one that hangs from 130 on.
    #[test]
    fn each_thread_shows_its_own_signs() {
        let mut watchdogs = Watchdogs::new(100, 3);
        let mut asked = BTreeSet::new();
        for now in (0..).step_by(10) {
            let sign = |thread| match thread {
                0 => now as u32,
                1 => 0,
                _ => now.min(130) as u32 + 1,
            };
            if let Some(thread) = watchdogs.look(now, sign, |thread| asked.extend([(thread, now)])) {
                assert_eq!((thread, now), (2, 230));
                break;
            }
            assert!(watchdogs.deadline(now).is_some_and(|deadline| deadline <= now + 50));
        }
        assert_eq!(asked, BTreeSet::from([(2, 180)]));
        watchdogs.rearm();
        assert_eq!(watchdogs.look(500, |_| 1, |_| {}), None);
    }

    #[test]
    fn none_waits_for_nothing() {
        let mut watchdog = Watchdog::new(0);
        assert_eq!((watchdog.look(1, 0), watchdog.look(1, u64::MAX)), (Look::Well, Look::Well));
        assert_eq!(watchdog.deadline(5), None);
    }
}
