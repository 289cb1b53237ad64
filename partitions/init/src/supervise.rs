//! After the seal: starting partitions, and what init does when one of them faults or reports.

use crate::construct::{Built, Outcome};
use crate::end::{self, Verdict};
use crate::failure::Cause;
use crate::faults;
use crate::trial::{Trial, Watchdog};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use bulkhead_init::{Decision, Restarts, Waits};
use bulkhead_runtime::abi::{BootInfo, NO_DEADLINE};
use bulkhead_runtime::mapping::FaultPage;
use bulkhead_runtime::plan::{self, Fault, LONGEST_BACKOFF_US, PartitionKind, Plan, StatusReport, layout};
use bulkhead_runtime::program::mask;
use bulkhead_runtime::status::{Status, TEXT_MAX};
use bulkhead_runtime::{events, println, time};

/// How long a partition must have lived for its backoff to begin anew, in milliseconds.
const STEADY_LIFE: u64 = 10_000;
/// Least time between two starts of a partition, in milliseconds.
const STARTS_APART: u64 = 10;

/// How a partition fares.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum State {
    /// The machine cannot run it.
    Refused(String),
    /// Not started yet.
    Built,
    /// It runs.
    Running,
    /// It has failed, and is started anew at this time.
    Pausing(u64),
    /// It has reported that its work is done. It may still run, and can still crash.
    Finished,
    /// It has failed, and is not started anew.
    Failed(String),
}

/// A partition under supervision.
#[derive(Debug)]
pub struct Supervised {
    /// What the plan says.
    pub plan: plan::Partition<'static>,
    /// How it fares.
    pub state: State,
    /// What it consists of; none if it was refused.
    pub built: Option<Built>,
    status: Option<Status<'static>>,
    restarts: Restarts,
    trial: Trial,
    watchdog: Watchdog,
}

/// What init does after the seal.
pub struct Supervisor {
    plan: Plan<'static>,
    boot: &'static BootInfo,
    partitions: Vec<Supervised>,
    fault_page: Box<FaultPage>,
}

impl Supervisor {
    /// Supervises what was built. `statuses`: by partition of the plan, init included.
    pub fn new(
        boot: &'static BootInfo,
        plan: Plan<'static>,
        outcomes: Vec<Outcome>,
        statuses: &[Option<Status<'static>>],
    ) -> Self {
        let partitions = outcomes
            .into_iter()
            .map(|outcome| match outcome {
                Outcome::Built(built) => {
                    let state = if built.started { State::Running } else { State::Built };
                    let status = statuses.get(built.plan.index).copied().flatten();
                    Supervised::new(built.plan, state, status, Some(built))
                }
                Outcome::Refused(plan, failure) => {
                    Supervised::new(plan, State::Refused(alloc::format!("{failure}")), None, None)
                }
            })
            .collect();
        Self { plan, boot, partitions, fault_page: Box::default() }
    }

    /// Starts all partitions, native ones (the services) before guests, and attends to them until the end.
    pub fn run(&mut self) {
        for kind in [PartitionKind::Native, PartitionKind::Guest] {
            for partition in &mut self.partitions {
                if partition.plan.kind() == kind && partition.state == State::Built {
                    partition.start();
                }
            }
        }
        let started = time::now();
        loop {
            let verdict = end::verdict(&self.plan, &self.partitions, time::now().saturating_sub(started));
            let deadline = match verdict {
                Verdict::Ended(outcome) => return end::finish(&outcome, &self.partitions),
                Verdict::After(ticks) => started.saturating_add(ticks),
                Verdict::Open => NO_DEADLINE,
            };
            let now = time::now();
            let timed = self.partitions.iter().filter_map(|partition| partition.deadline(now, started)).min();
            let bits = events::wait(deadline.min(timed.unwrap_or(NO_DEADLINE)));
            for partition in &mut self.partitions {
                if bits & mask(partition.plan.record.init_bit) != 0 {
                    partition.attend(self.boot, &mut self.fault_page);
                }
                partition.pass_time(time::now(), started, self.boot);
            }
        }
    }
}

impl Supervised {
    fn new(
        plan: plan::Partition<'static>,
        state: State,
        status: Option<Status<'static>>,
        built: Option<Built>,
    ) -> Self {
        let waits = Waits {
            backoff: time::microseconds(plan.record.backoff_us),
            longest: time::microseconds(LONGEST_BACKOFF_US),
            steady: time::milliseconds(STEADY_LIFE),
            apart: time::milliseconds(STARTS_APART),
        };
        let restarts = Restarts::new(plan.restart(), waits);
        Self { plan, state, built, status, restarts, trial: Trial::new(&plan), watchdog: Watchdog::new(&plan) }
    }

    /// Name.
    pub fn name(&self) -> &'static str {
        self.plan.name()
    }

    /// Its status page.
    pub fn status(&self) -> Option<Status<'static>> {
        self.status
    }

    /// When [`Supervised::pass_time`] has something to do, at the latest.
    fn deadline(&self, now: u64, started: u64) -> Option<u64> {
        if let State::Pausing(until) = self.state {
            return Some(until);
        }
        if !matches!(self.state, State::Running | State::Finished) {
            return None;
        }
        let watchdog = self.watchdog.deadline(now).filter(|_| self.state == State::Running);
        self.trial.deadline(started).into_iter().chain(watchdog).min()
    }

    /// Starts the partition anew, or injects the fault, for which it is time; and deals with one that shows no sign of life.
    fn pass_time(&mut self, now: u64, started: u64, boot: &'static BootInfo) {
        if let State::Pausing(until) = self.state
            && until <= now
        {
            self.start_anew(boot);
        }
        if !matches!(self.state, State::Running | State::Finished) {
            return;
        }
        if let Some((fault, count, of)) = self.trial.due(now, started) {
            match fault {
                Fault::Kill => {
                    println!("bulkhead: partition {} is killed ({count} of {of})", self.name());
                    return self.failed(String::from("it was killed"), boot);
                }
                Fault::Hang => {
                    println!("bulkhead: partition {} is made to hang ({count} of {of})", self.name());
                    self.stop();
                }
                Fault::None => {}
            }
        }
        // Whose work is done owes no sign of life.
        let Some(status) = self.status.filter(|_| self.state == State::Running) else { return };
        if self.watchdog.has_expired(status.life(), now) {
            println!("bulkhead: partition {} shows no sign of life", self.name());
            self.failed(String::from("it shows no sign of life"), boot);
        }
    }

    fn start(&mut self) {
        self.watchdog.rearm();
        let started = match &self.built {
            Some(built) => start_first_thread(built),
            None => return,
        };
        self.state = match started {
            Ok(()) => {
                self.restarts.start(time::now());
                State::Running
            }
            Err(cause) => {
                println!("bulkhead: partition {} cannot be started: {cause:?}", self.name());
                State::Failed(String::from("it cannot be started"))
            }
        };
    }

    /// Looks what the partition signalled for.
    fn attend(&mut self, boot: &'static BootInfo, page: &mut FaultPage) {
        let Some(built) = &self.built else { return };
        if !matches!(self.state, State::Running | State::Finished) {
            // It is stopped: what it signalled for is known, or too late.
            return;
        }
        if let Some(cause) = faults::report(built, page) {
            return self.failed(cause, boot);
        }
        if self.state != State::Running {
            return;
        }
        let Some(status) = self.status else { return };
        let Some((report, code)) = status.report() else {
            return self.failed(String::from("its report is none"), boot);
        };
        let mut buffer = [0; TEXT_MAX];
        let text = String::from(status.text(&mut buffer));
        match report {
            StatusReport::Running => {}
            StatusReport::Finished => {
                println!("bulkhead: partition {} has finished: {text} (code {code})", self.name());
                self.state = State::Finished;
            }
            StatusReport::Failed => {
                println!("bulkhead: partition {} has failed: {text} (code {code})", self.name());
                self.failed(text, boot);
            }
            StatusReport::Restart => {
                println!("bulkhead: partition {} asks to be started anew: {text}", self.name());
                self.failed(String::from("it asked to be started anew"), boot);
            }
        }
    }

    /// Has the partition started anew, at once or after a pause, if the manifest says so; else it has failed for good.
    fn failed(&mut self, reason: String, boot: &'static BootInfo) {
        self.stop();
        let now = time::now();
        match self.restarts.fail(now) {
            Decision::Never => {
                println!("bulkhead: partition {} stays stopped: {reason}", self.name());
                self.state = State::Failed(reason);
            }
            Decision::Again { at, .. } if at <= now => self.start_anew(boot),
            Decision::Again { number, at } => {
                let pause = time::to_microseconds(at - now).div_ceil(1000);
                println!("bulkhead: partition {} pauses for {pause} ms before restart {number}", self.name());
                self.state = State::Pausing(at);
            }
        }
    }

    /// Renews the stopped partition, and starts it.
    fn start_anew(&mut self, boot: &'static BootInfo) {
        let number = self.restarts.count();
        println!("bulkhead: partition {} is started anew ({number})", self.name());
        let renewed = match &self.built {
            Some(built) => renew(built, self.status, boot, number),
            None => return,
        };
        match renewed {
            Ok(()) => self.start(),
            Err(cause) => {
                println!("bulkhead: partition {} cannot be renewed: {cause:?}", self.name());
                self.state = State::Failed(String::from("it cannot be renewed"));
            }
        }
    }

    fn stop(&self) {
        for thread in self.built.iter().flat_map(|built| &built.threads) {
            // A thread that has faulted, or was never started, is stopped already.
            let _ = thread.stop();
        }
    }
}

/// Sets the first thread's registers and starts it.
pub fn start_first_thread(built: &Built) -> Result<(), Cause> {
    let none = Cause::Contradiction("a partition without a thread");
    let (Some(thread), Some(record)) = (built.threads.first(), built.plan.threads().first()) else {
        return Err(none);
    };
    let start = || {
        thread.set_registers(built.image.entry, record.stack_top, layout::ENVIRONMENT)?;
        thread.start()
    };
    start().map_err(Cause::Kernel)
}

/// Makes a stopped partition as it was at first: program loaded, private memory zeroed, nothing reported. Its kernel objects
/// stay, and so do the channels that it shares with others.
fn renew(built: &Built, status: Option<Status<'_>>, boot: &'static BootInfo, generation: u32) -> Result<(), Cause> {
    for (memory, length) in &built.private {
        memory.zero(0, *length).map_err(Cause::Kernel)?;
    }
    built.reload()?;
    built.write_environment(boot, u64::from(generation))?;
    if let Some(status) = status {
        status.clear();
    }
    Ok(())
}
