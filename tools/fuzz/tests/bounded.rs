//! Each target for a bounded time, with inputs that are the same each time.

use bulkhead_fuzz::{Generator, TARGETS, bears};
use std::time::{Duration, Instant};

/// For each target.
const TIME: Duration = Duration::from_secs(3);

#[test]
fn every_target_bears_random_inputs() {
    for target in TARGETS {
        let (mut generator, mut count) = (Generator::new(1), 0);
        let end = Instant::now() + TIME;
        while Instant::now() < end {
            count += 1;
            assert!(bears(target, &generator.input()), "{}: input {count} of seed 1", target.0);
        }
        assert!(count > 100, "{}: {count} inputs", target.0);
    }
}
