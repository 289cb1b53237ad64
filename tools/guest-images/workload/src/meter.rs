//! What operations cost: instructions that the machine would not have executed without them.
//!
//! A process of the lowest class counts whenever nothing else wants the processor, by a loop of known length. So what an operation
//! costs is the time that it takes, in ticks of a time-stamp counter that counts instructions, less what that process executed
//! meanwhile.

use crate::{
    linux::{Failure, LOOP_INSTRUCTIONS, Processors, SharedCounter, become_idle, start_process, stop_process, ticks},
    println,
};

/// The process that counts.
pub struct Meter {
    idle: SharedCounter,
    process: usize,
}

impl Meter {
    /// Starts it on the first processor, which must be the only one.
    pub fn start(processors: &Processors) -> Result<Self, Failure> {
        let idle = SharedCounter::new()?;
        let process = start_process(processors.nth(0), || match become_idle() {
            Ok(()) => idle.count_for_ever(),
            Err(_) => 1,
        })?;
        Ok(Self { idle, process })
    }

    /// Does the operation once for each sample, with the sample's number, and notes what it cost.
    pub fn measure(
        &self,
        samples: &mut [u64],
        mut operation: impl FnMut(usize) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        for (number, sample) in samples.iter_mut().enumerate() {
            let (start, counted) = (ticks(), self.idle.value());
            operation(number)?;
            let elapsed = ticks().wrapping_sub(start);
            let idle = self.idle.value().wrapping_sub(counted).wrapping_mul(LOOP_INSTRUCTIONS);
            *sample = elapsed.saturating_sub(idle);
        }
        Ok(())
    }

    /// Ends it.
    pub fn stop(self) -> Result<(), Failure> {
        stop_process(self.process)
    }
}

/// Prints a figure as `bulkhead bench` reads it.
pub fn print(name: &str, samples: &mut [u64]) {
    samples.sort_unstable();
    let at =
        |per_cent: usize| samples.get((samples.len() * per_cent / 100).min(samples.len() - 1)).copied().unwrap_or(0);
    println!(
        "{{\"name\": \"{name}\", \"unit\": \"instructions\", \"n\": {}, \"min\": {}, \"median\": {}, \"p95\": {}}}",
        samples.len(),
        at(0),
        at(50),
        at(95)
    );
}
