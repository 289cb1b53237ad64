//! After the seal: starting partitions, and what init does when one of them faults or reports.

use crate::construct::{Built, Construction, Outcome};
use crate::dump;
use crate::end::{self, Verdict};
use crate::failure::Cause;
use crate::faults;
use crate::trace::Rings;
use crate::trial::Trial;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use bulkhead_init::{Decision, Link, Restarts, Waits, Watchdogs, links, on_one_line};
use bulkhead_runtime::abi::{BootInfo, NO_DEADLINE};
use bulkhead_runtime::channel::{ABSENT, FAILED, generation};
use bulkhead_runtime::mapping::FaultPage;
use bulkhead_runtime::object::{Capability, Endpoint};
use bulkhead_runtime::plan::{self, Fault, LONGEST_BACKOFF_US, PartitionKind, Plan, StatusReport, layout};
use bulkhead_runtime::program::{CONSOLE, mask};
use bulkhead_runtime::status::{COMMAND_SIGNAL, Status, TEXT_MAX};
use bulkhead_runtime::{events, println, time};

/// How long a partition must have lived for its backoff to begin anew, in milliseconds.
const STEADY_LIFE: u64 = 10_000;
/// Least time between two starts of a partition, in milliseconds.
const STARTS_APART: u64 = 10;
/// Time between two requests to switch the machine off, in milliseconds.
const ASKS_APART: u64 = 100;
/// Least time between two looks for nothing, in milliseconds: partitions that signal without need take no more of init's time.
const LOOKS_APART: u64 = 1;

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
    watchdogs: Watchdogs,
    /// It has failed, or was refused, and its peers do not know yet.
    is_news: bool,
    /// The word that its peers know.
    told: u32,
}

/// What init does after the seal.
pub struct Supervisor {
    plan: Plan<'static>,
    boot: &'static BootInfo,
    partitions: Vec<Supervised>,
    links: Vec<Link>,
    /// By the plan's order; those whose server has failed for good are gone.
    endpoints: Vec<Endpoint>,
    fault_page: Box<FaultPage>,
    rings: Rings,
}

impl Supervisor {
    /// Supervises what was built.
    pub fn new(
        boot: &'static BootInfo,
        plan: Plan<'static>,
        outcomes: Vec<Outcome>,
        construction: Construction<'_>,
        rings: Rings,
    ) -> Self {
        let Construction { statuses, endpoints, .. } = construction;
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
        let links = links(&plan, COMMAND_SIGNAL);
        Self { plan, boot, partitions, links, endpoints, fault_page: Box::default(), rings }
    }

    /// Starts all partitions, native ones (the services) before guests, and attends to them until the end.
    pub fn run(&mut self) {
        if self.plan.dumps_capabilities() {
            // Somebody has to read what is printed; nobody else runs yet.
            let console = own_console(&self.plan);
            for partition in self.partitions.iter_mut().filter(|partition| Some(partition.name()) == console) {
                partition.start(time::now());
            }
            // What contradicts itself now still does at the end, which is a failure then.
            let _ = dump::print("after the seal", &self.partitions);
        }
        self.spread_news();
        for kind in [PartitionKind::Native, PartitionKind::Guest] {
            for partition in &mut self.partitions {
                if partition.plan.kind() == kind && partition.state == State::Built {
                    partition.start(time::now());
                }
            }
        }
        self.spread_news();
        let started = time::now();
        let mut last_in_vain = 0;
        let mut has_ended = false;
        loop {
            let deadline = if has_ended {
                end::switch_off(&self.partitions);
                time::now().saturating_add(time::milliseconds(ASKS_APART))
            } else {
                match end::verdict(&self.plan, &self.partitions, time::now().saturating_sub(started)) {
                    Verdict::Ended(outcome) => {
                        self.write_trace();
                        let is_dumped = self.plan.dumps_capabilities();
                        let dumped = if is_dumped { dump::print("at the end", &self.partitions) } else { Ok(()) };
                        end::announce(&outcome.and(dumped));
                        // From here on only whoever switches the machine off is attended to: it may fail, too.
                        self.partitions.retain(end::has_power);
                        has_ended = true;
                        continue;
                    }
                    Verdict::After(ticks) => started.saturating_add(ticks),
                    Verdict::Open => NO_DEADLINE,
                }
            };
            let now = time::now();
            let timed = self.partitions.iter().filter_map(|partition| partition.deadline(now, started)).min();
            let bits = events::wait(deadline.min(timed.unwrap_or(NO_DEADLINE)));
            let mut in_vain = bits != 0;
            for partition in &mut self.partitions {
                if bits & mask(partition.plan.record.init_bit) != 0 {
                    in_vain &= !partition.attend(&mut self.fault_page);
                }
                partition.pass_time(time::now(), started, self.boot);
            }
            self.spread_news();
            if in_vain {
                // Whoever signals.
                events::rest(last_in_vain + time::milliseconds(LOOKS_APART));
                last_in_vain = time::now();
            }
        }
    }

    /// Tells the peers of partitions that have failed, are there again, or have ended, and whoever waits for their answers.
    fn spread_news(&mut self) {
        for index in 0..self.partitions.len() {
            let Some(subject) = self.partitions.get_mut(index) else { continue };
            let (number, word) = (subject.plan.index, subject.life());
            let has_failed = core::mem::take(&mut subject.is_news);
            if core::mem::replace(&mut subject.told, word) == word && !has_failed {
                continue;
            }
            for link in self.links.iter().filter(|link| link.of == number) {
                if let Some(peer) = self.partitions.iter().find(|one| one.plan.index == link.to) {
                    peer.learn(number, word, link.bits);
                }
            }
            if !has_failed {
                continue;
            }
            // What it wrote over what init had told it is not for its next life.
            for link in self.links.iter().filter(|link| link.to == number) {
                let peer = self.partitions.iter().find(|one| one.plan.index == link.of);
                let status = self.partitions.get(index).and_then(Supervised::status);
                if let (Some(peer), Some(status)) = (peer, status) {
                    status.set_life_of(link.of as u32, peer.life());
                }
            }
            // Peers know before their calls end.
            if let Some(subject) = self.partitions.get(index) {
                subject.dismiss_callers();
            }
            if word & FAILED != 0 {
                self.close_endpoints(number);
            }
        }
    }

    /// Destroys the endpoints of a server that stays stopped: who waits in them for it, or calls it, gets an error.
    fn close_endpoints(&self, server: usize) {
        for (record, endpoint) in self.plan.endpoints().iter().zip(&self.endpoints) {
            if record.server as usize == server && endpoint.revoke().and_then(|()| endpoint.delete()).is_err() {
                println!("bulkhead: endpoint {} is closed already", record.name.as_str());
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
        let watchdogs = Watchdogs::new(time::microseconds(plan.record.watchdog_us), plan.threads().len());
        // Whoever is refused will never be there.
        let is_news = matches!(state, State::Refused(_));
        Self { plan, state, built, status, restarts, trial: Trial::new(&plan), watchdogs, is_news, told: 0 }
    }

    /// Name.
    pub fn name(&self) -> &'static str {
        self.plan.name()
    }

    /// Its status page.
    pub fn status(&self) -> Option<Status<'static>> {
        self.status
    }

    /// The word that tells its peers in which life it is.
    fn life(&self) -> u32 {
        let flag = match self.state {
            State::Failed(_) | State::Refused(_) => FAILED,
            State::Pausing(_) => ABSENT,
            State::Finished if self.plan.kind() == PartitionKind::Guest => ABSENT,
            State::Built | State::Running | State::Finished => 0,
        };
        generation(self.restarts.count()) | flag
    }

    /// Learns that the partition with this number is in this life.
    fn learn(&self, number: usize, word: u32, bits: u64) {
        if let (Some(status), Some(built)) = (self.status, &self.built) {
            status.set_life_of(number as u32, word);
            // Init made the notification, and nobody can take it away.
            let _ = built.notification.signal(bits);
        }
    }

    /// Ends the calls that the stopped partition was serving: a thread that is prepared for a new start answers nobody.
    fn dismiss_callers(&self) {
        let Some(built) = &self.built else { return };
        for (thread, record) in built.threads.iter().zip(built.plan.threads()) {
            // Refused only of a thread that runs, and it was stopped.
            let _ = thread.set_registers(built.image.entry, record.stack_top, layout::ENVIRONMENT);
        }
    }

    /// When [`Supervised::pass_time`] has something to do, at the latest.
    fn deadline(&self, now: u64, started: u64) -> Option<u64> {
        if let State::Pausing(until) = self.state {
            return Some(until);
        }
        if !matches!(self.state, State::Running | State::Finished) {
            return None;
        }
        let watchdog = self.watchdogs.deadline(now).filter(|_| self.state == State::Running);
        self.trial.deadline(started).into_iter().chain(watchdog).min()
    }

    /// Starts the partition anew, or injects the fault, for which it is time; and deals with one that shows no sign of life.
    fn pass_time(&mut self, now: u64, started: u64, boot: &'static BootInfo) {
        // Not before its peers know: the thread is prepared once more then, which must not undo what a new life has come to.
        if let State::Pausing(until) = self.state
            && until <= now
            && !self.is_news
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
                    return self.failed(String::from("it was killed"));
                }
                Fault::None => {}
                _ => {
                    println!("bulkhead: partition {} is made to {} ({count} of {of})", self.name(), verb(fault));
                    self.stop();
                    if fault != Fault::Hang {
                        self.commit(fault);
                    }
                }
            }
        }
        // Whose work is done owes no sign of life.
        let Some(status) = self.status.filter(|_| self.state == State::Running) else { return };
        // Who waits for calls alone, or is in its guest, wakes by this, and shows one.
        let ask = |thread: usize| {
            if let Some(notification) = self.built.as_ref().and_then(|built| built.notification_of(thread)) {
                let _ = notification.signal(COMMAND_SIGNAL);
            }
        };
        if let Some(thread) = self.watchdogs.look(now, |thread| status.life(thread), ask) {
            match thread {
                0 => println!("bulkhead: partition {} shows no sign of life", self.name()),
                _ => println!("bulkhead: thread {thread} of partition {} shows no sign of life", self.name()),
            }
            self.failed(String::from("it shows no sign of life"));
        }
    }

    /// Has the stopped program's runtime commit a fault.
    fn commit(&self, fault: Fault) {
        if let Some(built) = &self.built
            && let Err(cause) = start_first_thread(built, fault as u64)
        {
            println!("bulkhead: partition {} cannot be started: {cause:?}", self.name());
        }
    }

    /// Starts the partition, which was made ready since `begun`.
    fn start(&mut self, begun: u64) {
        self.watchdogs.rearm();
        let started = match &self.built {
            Some(built) => start_first_thread(built, layout::ENVIRONMENT),
            None => return,
        };
        self.state = match started {
            Ok(()) => {
                self.restarts.start(begun, time::now());
                State::Running
            }
            Err(cause) => {
                println!("bulkhead: partition {} cannot be started: {cause:?}", self.name());
                self.is_news = true;
                State::Failed(String::from("it cannot be started"))
            }
        };
    }

    /// Looks what the partition signalled for; whether there was anything.
    fn attend(&mut self, page: &mut FaultPage) -> bool {
        let Some(built) = &self.built else { return false };
        if !matches!(self.state, State::Running | State::Finished) {
            // It is stopped: what it signalled for is known, or too late.
            return false;
        }
        if let Some(cause) = faults::report(built, page) {
            self.failed(cause);
            return true;
        }
        let Some(status) = self.status.filter(|_| self.state == State::Running) else { return false };
        let Some((report, code)) = status.report() else {
            self.failed(String::from("its report is none"));
            return true;
        };
        let mut buffer = [0; TEXT_MAX];
        let text = on_one_line(status.text(&mut buffer));
        match report {
            StatusReport::Running => return false,
            StatusReport::Finished => {
                println!("bulkhead: partition {} has finished: {text} (code {code})", self.name());
                self.state = State::Finished;
            }
            StatusReport::Failed => {
                println!("bulkhead: partition {} has failed: {text} (code {code})", self.name());
                self.failed(text);
            }
            StatusReport::Restart => {
                println!("bulkhead: partition {} asks to be started anew: {text}", self.name());
                self.failed(String::from("it asked to be started anew"));
            }
        }
        true
    }

    /// Has the partition started anew, at once or after a pause, if the manifest says so; else it has failed for good.
    fn failed(&mut self, reason: String) {
        self.stop();
        self.trial.close();
        self.is_news = true;
        let now = time::now();
        match self.restarts.fail(now) {
            Decision::Never => {
                println!("bulkhead: partition {} stays stopped: {reason}", self.name());
                self.state = State::Failed(reason);
            }
            Decision::Again { number, at } => {
                if at > now {
                    let pause = time::to_microseconds(at - now).div_ceil(1000);
                    println!("bulkhead: partition {} pauses for {pause} ms before restart {number}", self.name());
                }
                self.state = State::Pausing(at);
            }
        }
    }

    /// Renews the stopped partition, and starts it.
    fn start_anew(&mut self, boot: &'static BootInfo) {
        let (number, begun) = (self.restarts.count(), time::now());
        println!("bulkhead: partition {} is started anew ({number})", self.name());
        let renewed = match &self.built {
            Some(built) => renew(built, self.status, boot, number),
            None => return,
        };
        match renewed {
            Ok(()) => self.start(begun),
            Err(cause) => {
                println!("bulkhead: partition {} cannot be renewed: {cause:?}", self.name());
                self.state = State::Failed(String::from("it cannot be renewed"));
                self.is_news = true;
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

/// What a partition is made to do.
const fn verb(fault: Fault) -> &'static str {
    match fault {
        Fault::None => "go on",
        Fault::Kill => "end",
        Fault::Hang => "hang",
        Fault::Crash => "crash",
        Fault::Loop => "loop",
        Fault::Exhaust => "exhaust its memory",
        Fault::Flood => "flood its channels",
    }
}

/// Sets the first thread's registers and starts it. `argument`: the environment's address, or the number of a fault to commit.
pub fn start_first_thread(built: &Built, argument: u64) -> Result<(), Cause> {
    let none = Cause::Contradiction("a partition without a thread");
    let (Some(thread), Some(record)) = (built.threads.first(), built.plan.threads().first()) else {
        return Err(none);
    };
    let start = || {
        thread.set_registers(built.image.entry, record.stack_top, argument)?;
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
