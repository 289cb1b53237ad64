//! The system's end: when it has come, what it was, and switching the machine off.

use crate::supervise::{State, Supervised};
use alloc::string::String;
use bulkhead_runtime::plan::{End, Plan};
use bulkhead_runtime::status::{COMMAND_SIGNAL, Command};
use bulkhead_runtime::{console, events, println, time};

/// Name of the device whose ports switch the machine off.
const POWER: &str = "power";
/// How long a system lives of which a needed partition was refused, in milliseconds: the others get to speak.
const REFUSED_LIFE: u64 = 10_000;
/// How long init waits at most until its last lines have been read, in milliseconds.
const PATIENCE: u64 = 2_000;

/// Whether the end has come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It has: well, or for this reason not.
    Ended(Result<(), String>),
    /// It has not, but will so many ticks after the start.
    After(u64),
    /// It depends on what partitions do.
    Open,
}

/// Compares the plan's end condition with how the partitions fare, `elapsed` ticks after the start.
pub fn verdict(plan: &Plan<'_>, partitions: &[Supervised], elapsed: u64) -> Verdict {
    let end = plan.end();
    let needed = |partition: &&Supervised| match end {
        End::Partition(index) => partition.plan.index == index,
        End::MustFinish | End::After(_) | End::Never => partition.plan.must_finish(),
    };
    let mut refused = None;
    let mut running = 0;
    let mut count = 0;
    for partition in partitions.iter().filter(needed) {
        count += 1;
        match &partition.state {
            State::Failed(reason) => {
                return Verdict::Ended(Err(alloc::format!("partition {}: {reason}", partition.name())));
            }
            State::Refused(reason) => refused = Some(reason.clone()),
            State::Built | State::Running | State::Pausing(_) => running += 1,
            State::Finished => {}
        }
    }
    if let (End::After(microseconds), None) = (end, &refused) {
        return timed(elapsed, time::microseconds(microseconds), Ok(()));
    }
    match (end, refused) {
        (End::Never, _) => Verdict::Open,
        (_, Some(reason)) if running == 0 => timed(elapsed, time::milliseconds(REFUSED_LIFE), Err(reason)),
        (_, Some(_)) => Verdict::Open,
        (_, None) if count != 0 && running == 0 => Verdict::Ended(Ok(())),
        (_, None) => Verdict::Open,
    }
}

fn timed(elapsed: u64, end: u64, outcome: Result<(), String>) -> Verdict {
    if elapsed >= end { Verdict::Ended(outcome) } else { Verdict::After(end) }
}

/// Says how it ended, and gives the console time to read it.
pub fn announce(outcome: &Result<(), String>) {
    match outcome {
        Ok(()) => println!("bulkhead: end: ok"),
        Err(reason) => println!("bulkhead: end: failed: {reason}"),
    }
    let patience = time::now().saturating_add(time::milliseconds(PATIENCE));
    while !console::is_drained() && time::now() < patience {
        events::rest(time::now().saturating_add(time::milliseconds(1)));
    }
}

/// Whether the partition has the ports that switch the machine off.
pub fn has_power(partition: &Supervised) -> bool {
    partition.plan.environment.ports().any(|ports| ports.name == POWER)
}

/// Asks the partition that has the power ports to switch the machine off. One that was started anew has to be asked again.
pub fn switch_off(partitions: &[Supervised]) {
    for partition in partitions.iter().filter(|one| has_power(one)) {
        if let (Some(status), Some(built)) = (partition.status(), &partition.built) {
            status.set_command(Command::PowerOff);
            // Init made the notification, and nobody can take it away.
            let _ = built.notification.signal(COMMAND_SIGNAL);
        }
    }
}
