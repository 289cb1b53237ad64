//! Processes that go on with another program, one after the other, between two checkpoints at which a monitor may count exits.

use crate::linux::{Checkpoints, Failure, Processors, execute, exit_status, start_process};

/// A program that ends at once, with the status 0.
const PROGRAM: &core::ffi::CStr = c"/bin/true";
/// Processes before the first checkpoint, and between the two.
const WARM_UP: u32 = 20;
const PROCESSES: u32 = 100;

/// Starts them, and returns how many were counted.
pub fn run(processors: &Processors) -> Result<u32, Failure> {
    let checkpoints = Checkpoints::permit()?;
    start(processors, WARM_UP)?;
    checkpoints.set(0);
    start(processors, PROCESSES)?;
    checkpoints.set(1);
    Ok(PROCESSES)
}

fn start(processors: &Processors, count: u32) -> Result<(), Failure> {
    const NOT_EXECUTED: u8 = 254;
    for _ in 0..count {
        let process = start_process(processors.nth(0), || match execute(PROGRAM) {
            Ok(never) => match never {},
            Err(_) => NOT_EXECUTED,
        })?;
        match exit_status(process)? {
            0 => {}
            status => return Err(Failure::wrong("exit status of a program:", status.into())),
        }
    }
    Ok(())
}
