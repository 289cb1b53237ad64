//! How late windows began.

use alloc::vec::Vec;

/// Ticks by which windows began late.
pub struct Lateness {
    ticks: Vec<u64>,
}

impl Lateness {
    /// With room for so many windows, if there is that much memory.
    pub fn new(windows: usize) -> Option<Self> {
        let mut ticks = Vec::new();
        ticks.try_reserve_exact(windows).ok()?;
        Some(Self { ticks })
    }

    /// Adds a window, as long as there is room.
    pub fn add(&mut self, ticks: u64) {
        if self.ticks.len() < self.ticks.capacity() {
            self.ticks.push(ticks);
        }
    }

    /// The least, the median, that which 99.9 % do not exceed, and the most.
    pub fn figures(mut self) -> [u64; 4] {
        self.ticks.sort_unstable();
        let last = self.ticks.len().saturating_sub(1);
        let at = |index: usize| self.ticks.get(index.min(last)).copied().unwrap_or(0);
        [at(0), at(last / 2), at((self.ticks.len() * 999).div_ceil(1000).saturating_sub(1)), at(last)]
    }
}
