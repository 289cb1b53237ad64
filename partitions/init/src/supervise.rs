//! After the seal: starting partitions, and what init does when one of them faults or reports.

use crate::construct::{Built, Outcome};
use crate::dump;
use crate::end::{self, Verdict};
use crate::failure::Cause;
use crate::faults;
use crate::trace::Rings;
use crate::trial::{Trial, Watchdog};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use bulkhead_runtime::abi::{BootInfo, NO_DEADLINE};
use bulkhead_runtime::mapping::FaultPage;
use bulkhead_runtime::plan::{self, Fault, PartitionKind, Plan, Restart, StatusReport, layout};
use bulkhead_runtime::program::{CONSOLE, mask};
use bulkhead_runtime::status::{Status, TEXT_MAX};
use bulkhead_runtime::{events, println, time};

/// How a partition fares.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum State {
    /// The machine cannot run it.
    Refused(String),
    /// Not started yet.
    Built,
    /// It runs.
    Running,
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
    restarts: u32,
    trial: Trial,
    watchdog: Watchdog,
}

/// What init does after the seal.
pub struct Supervisor {
    plan: Plan<'static>,
    boot: &'static BootInfo,
    partitions: Vec<Supervised>,
    fault_page: Box<FaultPage>,
    rings: Rings,
}

impl Supervisor {
    /// Supervises what was built. `statuses`: by partition of the plan, init included.
    pub fn new(
        boot: &'static BootInfo,
        plan: Plan<'static>,
        outcomes: Vec<Outcome>,
        statuses: &[Option<Status<'static>>],
        rings: Rings,
    ) -> Self {
        let partitions = outcomes
            .into_iter()
            .map(|outcome| match outcome {
                Outcome::Built(built) => Supervised {
                    plan: built.plan,
                    state: if built.started { State::Running } else { State::Built },
                    status: statuses.get(built.plan.index).copied().flatten(),
                    trial: Trial::new(&built.plan),
                    watchdog: Watchdog::new(&built.plan),
                    built: Some(built),
                    restarts: 0,
                },
                Outcome::Refused(plan, failure) => Supervised {
                    plan,
                    state: State::Refused(alloc::format!("{failure}")),
                    status: None,
                    trial: Trial::new(&plan),
                    watchdog: Watchdog::new(&plan),
                    built: None,
                    restarts: 0,
                },
            })
            .collect();
        Self { plan, boot, partitions, fault_page: Box::default(), rings }
    }

    /// Starts all partitions, native ones (the services) before guests, and attends to them until the end.
    pub fn run(&mut self) {
        if self.plan.dumps_capabilities() {
            // Somebody has to read what is printed; nobody else runs yet.
            let console = own_console(&self.plan);
            for partition in self.partitions.iter_mut().filter(|partition| Some(partition.name()) == console) {
                partition.start();
            }
            // What contradicts itself now still does at the end, which is a failure then.
            let _ = dump::print("after the seal", &self.partitions);
        }
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
                Verdict::Ended(outcome) => {
                    self.write_trace();
                    let is_dumped = self.plan.dumps_capabilities();
                    let dumped = if is_dumped { dump::print("at the end", &self.partitions) } else { Ok(()) };
                    return end::finish(&outcome.and(dumped), &self.partitions);
                }
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

/// The partition that shows init's text.
fn own_console(plan: &Plan<'static>) -> Option<&'static str> {
    plan.partition(0)?.environment.channel(CONSOLE).map(|channel| channel.peer)
}

impl Supervisor {
    /// Has the trace written out, if there is one.
    fn write_trace(&mut self) {
        let Some((partition, _)) = self.plan.trace() else { return };
        let writer = self.partitions.iter().find(|one| one.plan.index == partition.index);
        self.rings.finish(writer.and_then(|writer| writer.built.as_ref()), writer.and_then(|writer| writer.status));
    }
}

impl Supervised {
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
        if !matches!(self.state, State::Running | State::Finished) {
            return None;
        }
        let watchdog = self.watchdog.deadline(now).filter(|_| self.state == State::Running);
        self.trial.deadline(started).into_iter().chain(watchdog).min()
    }

    /// Injects the fault for which it is time, and starts a partition anew that shows no sign of life.
    fn pass_time(&mut self, now: u64, started: u64, boot: &'static BootInfo) {
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
            Ok(()) => State::Running,
            Err(cause) => {
                println!("bulkhead: partition {} cannot be started: {cause:?}", self.name());
                State::Failed(String::from("it cannot be started"))
            }
        };
    }

    /// Looks what the partition signalled for.
    fn attend(&mut self, boot: &'static BootInfo, page: &mut FaultPage) {
        let Some(built) = &self.built else { return };
        if let Some(cause) = faults::report(built, page) {
            for thread in &built.threads {
                // A thread that has faulted, or was never started, is stopped already.
                let _ = thread.stop();
            }
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

    /// Starts the partition anew if the manifest says so; else it has failed for good.
    fn failed(&mut self, reason: String, boot: &'static BootInfo) {
        let anew = match self.plan.restart() {
            Restart::Never => false,
            Restart::Always => true,
            Restart::Limit(most) => self.restarts < most,
        };
        if !anew {
            println!("bulkhead: partition {} stays stopped: {reason}", self.name());
            self.stop();
            self.state = State::Failed(reason);
            return;
        }
        self.restarts = self.restarts.saturating_add(1);
        println!("bulkhead: partition {} is started anew ({})", self.name(), self.restarts);
        self.stop();
        let renewed = match &self.built {
            Some(built) => renew(built, self.status, boot, self.restarts),
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
