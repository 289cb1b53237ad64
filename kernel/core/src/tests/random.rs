//! A deterministic source of random choices, with a seed that is printed when a test fails.

use std::eprintln;
use std::time::{SystemTime, UNIX_EPOCH};

/// Random choices (splitmix64).
pub struct Random {
    state: u64,
    seed: u64,
    /// Operations done so far, for the report.
    pub operation: u64,
}

impl Random {
    /// Choices from `BULKHEAD_SEED` if it is set, a new seed otherwise.
    pub fn from_environment() -> Self {
        let seed = number("BULKHEAD_SEED")
            .unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |time| time.as_nanos() as u64));
        Self { state: seed, seed, operation: 0 }
    }

    pub fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub fn choose<T: Copy>(&mut self, items: &[T]) -> Option<T> {
        if items.is_empty() { None } else { Some(items[self.below(items.len() as u64) as usize]) }
    }
}

impl Drop for Random {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("replay with BULKHEAD_SEED={} (failed at operation {})", self.seed, self.operation);
        }
    }
}

/// Operations of a campaign: `share` percent of `BULKHEAD_OPERATIONS`, which is a million unless set.
pub fn operations(share: u64) -> u64 {
    number("BULKHEAD_OPERATIONS").unwrap_or(1_000_000) / 100 * share
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}
