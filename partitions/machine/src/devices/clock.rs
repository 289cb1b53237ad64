//! Conversion between the time stamp counter, in which every model is told the time, and the clocks that devices count.

/// A device clock of a fixed frequency, derived from the time stamp counter by one multiplication.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Clock {
    /// Units of the device clock per TSC tick, as a fraction of 2^64.
    units_per_tick: u64,
}

impl Clock {
    /// A clock of `hertz`, where the TSC runs at `tsc_hertz`. A TSC that is not faster than the clock counts as just faster.
    pub const fn new(hertz: u64, tsc_hertz: u64) -> Self {
        let hertz = if hertz == 0 { 1 } else { hertz };
        let tsc_hertz = if tsc_hertz > hertz { tsc_hertz } else { hertz + 1 };
        // The quotient is below 2^64, since the divisor exceeds the dividend's upper half. Rounded up, so that a whole
        // second of ticks is a whole second of units; the excess is below one unit in 2^64 ticks.
        let units_per_tick = ((hertz as u128) << 64).div_ceil(tsc_hertz as u128);
        Self { units_per_tick: units_per_tick as u64 }
    }

    /// Whole units that pass within `ticks` of the TSC.
    pub const fn units(self, ticks: u64) -> u64 {
        ((ticks as u128 * self.units_per_tick as u128) >> 64) as u64
    }

    /// The least number of TSC ticks within which `units` pass; `u64::MAX` if that is beyond what the TSC counts.
    pub const fn ticks(self, units: u64) -> u64 {
        let ticks = ((units as u128) << 64).div_ceil(self.units_per_tick as u128);
        if ticks > u64::MAX as u128 { u64::MAX } else { ticks as u64 }
    }
}

/// The earlier of two moments, either of which may never come.
pub fn earlier(left: Option<u64>, right: Option<u64>) -> Option<u64> {
    match (left, right) {
        (Some(left), Some(right)) => Some(left.min(right)),
        (moment, None) | (None, moment) => moment,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_second_is_a_second() {
        for tsc in [50_000_000, 1_000_000_000, 2_999_999_999, 5_123_456_789] {
            let clock = Clock::new(1_193_182, tsc);
            assert_eq!(clock.units(tsc), 1_193_182);
            assert_eq!(clock.units(tsc * 3600), 1_193_182 * 3600);
        }
    }

    #[test]
    fn degenerate_frequencies_do_not_panic() {
        assert_eq!(Clock::new(0, 0).ticks(0), 0);
        assert!(Clock::new(u64::MAX / 2, 1).units(1000) < 1000);
    }

    proptest! {
        #[test]
        fn ticks_is_the_least_that_gives_the_units(units in 0u64..1 << 40, tsc in 8_000_000u64..6_000_000_000) {
            let clock = Clock::new(3_579_545, tsc);
            let ticks = clock.ticks(units);
            prop_assert!(clock.units(ticks) >= units);
            if ticks > 0 {
                prop_assert!(clock.units(ticks - 1) < units);
            }
        }
    }
}
