//! A limit on how much a port may send: a token bucket.

/// Tokens are bytes. The bucket holds what comes in [`BURST_MILLISECONDS`], or a whole train of segments if that is more.
const BURST_MILLISECONDS: u64 = 20;
const MIN_BURST: u64 = crate::MAX_TRAIN as u64;

/// A port's limit.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    /// Bytes a second; 0 for no limit.
    rate: u64,
    /// Below 0: debts.
    tokens: i64,
    /// Milliseconds up to which tokens have been given.
    filled: u64,
}

impl Bucket {
    /// A limit of so many bytes a second, 0 for none.
    pub const fn new(rate: u64) -> Self {
        Self { rate, tokens: 0, filled: 0 }
    }

    fn burst(&self) -> i64 {
        i64::try_from((self.rate / 1000).saturating_mul(BURST_MILLISECONDS).max(MIN_BURST)).unwrap_or(i64::MAX)
    }

    /// Whether anything may be sent at time `now`, in milliseconds. What is sent is paid for afterwards, once its length is known.
    pub fn is_open(&mut self, now: u64) -> bool {
        if self.rate == 0 {
            return true;
        }
        let given = now.saturating_sub(self.filled).saturating_mul(self.rate) / 1000;
        if given != 0 {
            self.filled = now;
            let given = i64::try_from(given).unwrap_or(i64::MAX);
            self.tokens = self.tokens.saturating_add(given).min(self.burst());
        }
        self.tokens > 0
    }

    /// Pays for so many bytes.
    pub fn pay(&mut self, bytes: usize) {
        self.tokens = self.tokens.saturating_sub_unsigned(bytes as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_rate_in_the_long_run() {
        let mut bucket = Bucket::new(1_000_000);
        let mut sent = 0;
        for now in 0..10_000 {
            while bucket.is_open(now) {
                bucket.pay(1500);
                sent += 1500;
            }
        }
        // Ten seconds, and a last frame.
        assert!((9_900_000..10_010_000).contains(&sent), "{sent}");
        let mut open = Bucket::new(0);
        assert!(open.is_open(0));
    }
}
