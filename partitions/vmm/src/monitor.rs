//! The monitor of one guest processor: the loop that one thread of this program runs.

use crate::exits::SERIAL_PORTS;
use crate::guest::{End, Guest};
use crate::statistics::Statistics;
use alloc::boxed::Box;
use bulkhead_machine::arbitration::{Arbitration, Readiness};
use bulkhead_machine::emulate::{DecodeCache, Exception};
use bulkhead_machine::interpret::InstructionCache;
use bulkhead_machine::loader::BootState;
use bulkhead_machine::mailbox::{Events, Mailbox};
use bulkhead_machine::processor::{Arrivals, Processor};
use bulkhead_runtime::abi::{Error, ExitReason, NO_DEADLINE, StateGroups, VcpuState};
use bulkhead_runtime::mapping::GuestProcessor;
use bulkhead_runtime::{events, println, time};
use core::sync::atomic::Ordering;

/// What a guest processor does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Activity {
    /// It executes instructions.
    Running,
    /// The same, where the hardware cannot: the monitor executes them.
    Interpreted,
    /// HLT: it waits for an interrupt.
    Halted,
    /// It was reset, and waits for a start-up interrupt.
    ///
    /// The hardware's activity state of this name is not used: a processor in it would not take the host's interrupts
    /// (SDM vol. 3, 26.1).
    WaitingForStartup,
}

/// A guest processor with its thread's state.
pub struct Monitor {
    pub(crate) guest: &'static Guest,
    pub(crate) processor: GuestProcessor,
    pub(crate) model: Processor,
    mailbox: &'static Mailbox,
    pub(crate) cache: DecodeCache,
    pub(crate) instructions: Option<Box<InstructionCache>>,
    pub(crate) activity: Activity,
    /// Deadline that the kernel knows.
    deadline: u64,
    /// When the ports of the guest are to be served, if no signal comes.
    pub(crate) recall: u64,
    /// Windows that the kernel knows of are open.
    windows: bool,
    /// The guest has set breakpoints on data or ports.
    pub(crate) watching: bool,
    /// First port whose access may call for more than the access.
    pub(crate) notable_ports: u16,
    /// What [`bulkhead_machine::machine::Machine::moves`] was when it last looked.
    pub(crate) moves: u64,
    /// Its exits are counted.
    pub(crate) statistics: Option<Box<Statistics>>,
}

/// Groups that tell whether the guest takes an interrupt.
const INTERRUPT_STATE: StateGroups = StateGroups::RIP.union(StateGroups::RFLAGS).union(StateGroups::INTERRUPTIBILITY);
/// Injection information: there is an event.
const VALID: u32 = 1 << 31;
/// DR7 without breakpoints.
const DR7_AFTER_INIT: u64 = 0x400;
/// RFLAGS.IF.
pub(crate) const INTERRUPT_FLAG: u64 = 1 << 9;

impl Monitor {
    /// The monitor of a processor that waits for start-up.
    pub fn new(
        guest: &'static Guest,
        mut processor: GuestProcessor,
        model: Processor,
        mailbox: &'static Mailbox,
    ) -> Self {
        let state = processor.state_mut();
        BootState::startup(0).apply(state);
        state.dirty |= (StateGroups::all() - StateGroups::APIC).bits();
        Self {
            guest,
            processor,
            model,
            mailbox,
            cache: DecodeCache::new(),
            instructions: None,
            activity: Activity::WaitingForStartup,
            deadline: NO_DEADLINE,
            recall: NO_DEADLINE,
            windows: false,
            watching: false,
            notable_ports: SERIAL_PORTS,
            moves: 0,
            statistics: guest.statistics.then(Statistics::new),
        }
    }

    /// Starts the processor in this state.
    pub fn start(&mut self, state: &BootState) {
        state.apply(self.processor.state_mut());
        self.activity = self.executing();
    }

    /// Runs the processor until the guest ends; how it ended is in [`Guest::end`].
    pub fn run(&mut self) {
        // Two copies, so that not counting costs nothing.
        if self.statistics.is_some() { self.run_with::<true>() } else { self.run_with::<false>() }
    }

    #[inline(always)]
    fn run_with<const COUNTING: bool>(&mut self) {
        loop {
            if self.activity != Activity::WaitingForStartup && (self.model.has_work() || self.windows) {
                self.arbitrate();
            }
            let events = if self.activity == Activity::Running {
                self.tell_deadline();
                if self.mailbox.enter_guest() {
                    let reason = self.processor.run();
                    // From here on whoever posts need not wake this thread.
                    let events = self.mailbox.take();
                    if COUNTING {
                        self.count(reason);
                    }
                    if let Some(end) = self.left(reason) {
                        return self.end(end);
                    }
                    events
                } else {
                    self.mailbox.take()
                }
            } else {
                let end = if self.activity == Activity::Interpreted { self.interpret() } else { self.pause() };
                if let Some(end) = end {
                    return self.end(end);
                }
                self.mailbox.take()
            };
            if !events.is_empty() && self.arrived(events) {
                return;
            }
        }
    }

    /// When there is something to do, if nothing arrives before.
    #[inline]
    pub(crate) fn next_deadline(&self) -> u64 {
        self.guest.machine.deadline(&self.model).min(self.recall)
    }

    /// Sees to it that the kernel knows when the next timer fires.
    #[inline]
    fn tell_deadline(&mut self) {
        let deadline = self.next_deadline();
        if deadline != self.deadline {
            self.deadline = deadline;
            let state = self.processor.state_mut();
            state.deadline = deadline;
            state.dirty |= StateGroups::DEADLINE.bits();
        }
    }

    /// Does what is to be done after a stay in the guest. Something if it ends the guest.
    #[inline(always)]
    fn left(&mut self, reason: Result<ExitReason, Error>) -> Option<End> {
        match reason {
            Ok(ExitReason::Hardware) => self.hardware_exit(),
            Ok(ExitReason::Signal) => {
                let bits = self.processor.state().signals;
                self.signalled(bits);
                None
            }
            Ok(ExitReason::Deadline) => {
                self.timed();
                None
            }
            Ok(ExitReason::EntryFailed) => {
                self.describe();
                Some(End::Crashed("the guest's state is invalid"))
            }
            Err(error) => {
                println!("vmm: the kernel does not run the processor: {error:?}");
                Some(End::Crashed("the kernel does not run the guest's processor"))
            }
        }
    }

    /// The guest ends by this processor.
    fn end(&mut self, end: End) {
        self.guest.end.call_once(|| end);
        self.guest.machine.with_serial(|serial| serial.tell());
        self.guest.machine.end(&self.model);
    }

    /// Takes what has arrived. True if the guest has ended.
    fn arrived(&mut self, events: Events) -> bool {
        let arrivals = self.guest.machine.receive_events(&mut self.model, events);
        if arrivals != Arrivals::default() {
            self.change_activity(arrivals);
        }
        arrivals.end
    }

    /// INIT and start-up.
    #[cold]
    fn change_activity(&mut self, arrivals: Arrivals) {
        if arrivals.init {
            self.require(StateGroups::SYSTEM_REGISTERS);
            let state = self.processor.state_mut();
            state.dr7 = DR7_AFTER_INIT;
            state.dirty |= StateGroups::SYSTEM_REGISTERS.bits();
            let [signature, ..] = self.model.cpuid(1, 0);
            BootState::reset(signature).apply_init(state);
            self.windows = true;
            self.watch(false);
            self.follow_addresses();
            // The boot processor starts at the reset vector, the others wait (SDM vol. 3, 9.4.2).
            self.activity = if self.model.number() == 0 { self.executing() } else { Activity::WaitingForStartup };
        }
        if let Some(page) = arrivals.startup
            && self.activity == Activity::WaitingForStartup
        {
            let start = BootState::startup(page);
            let state = self.processor.state_mut();
            state.segments = start.segments;
            state.rip = start.rip;
            state.dirty |= (StateGroups::SEGMENTS | StateGroups::RIP).bits();
            self.activity = self.executing();
        }
    }

    /// Makes sure that groups are valid in the state page.
    pub(crate) fn require(&mut self, groups: StateGroups) {
        let state = self.processor.state();
        let known = StateGroups::from_bits_truncate(state.valid | state.dirty);
        let missing = groups - known;
        if missing.is_empty() {
            return;
        }
        match self.processor.fetch(missing) {
            Ok(()) => self.processor.state_mut().valid |= missing.bits(),
            Err(error) => println!("vmm: cannot fetch {missing:?}: {error:?}"),
        }
    }

    /// Decides what the next entry injects.
    fn arbitrate(&mut self) {
        self.model.tell(self.processor.state_mut());
        self.require(INTERRUPT_STATE);
        let trapping = self.is_trapping();
        let state = self.processor.state();
        if state.rflags & INTERRUPT_FLAG != 0 && self.model.will_deliver() {
            self.activity = Activity::Running;
        }
        let occupied = trapping || state.dirty & StateGroups::INJECTION.bits() != 0 && state.injection & VALID != 0;
        let readiness = Readiness { rflags: state.rflags, interruptibility: state.interruptibility, occupied };
        let decision = self.guest.machine.arbitrate(&mut self.model, readiness);
        if decision.injection != 0 {
            self.activity = self.executing();
        }
        self.apply(decision);
    }

    fn apply(&mut self, decision: Arbitration) {
        let state = self.processor.state_mut();
        if decision.injection != 0 {
            state.injection = decision.injection;
            state.dirty |= StateGroups::INJECTION.bits();
        }
        let windows = decision.interrupt_window || decision.nmi_window;
        if windows || self.windows {
            self.windows = windows;
            state.interrupt_window = decision.interrupt_window.into();
            state.nmi_window = decision.nmi_window.into();
            state.dirty |= StateGroups::WINDOWS.bits();
        }
    }

    /// The processor executes nothing: waits until something happens that may wake it.
    fn pause(&mut self) -> Option<End> {
        let guest = self.guest;
        guest.machine.with_serial(|serial| serial.tell());
        let deadline = self.next_deadline();
        let interrupts_off =
            self.activity == Activity::WaitingForStartup || self.processor.state().rflags & INTERRUPT_FLAG == 0;
        let deaf = interrupts_off && deadline == NO_DEADLINE;
        if !self.mailbox.sleep() {
            return None;
        }
        // Posters look where this thread is after they have posted, and this thread after it has said where it is.
        if self.model.has_posted() {
            self.model.take_posted();
            return None;
        }
        if deaf {
            let deaf = guest.deaf.fetch_add(1, Ordering::AcqRel) + 1;
            if deaf == guest.processors.len() && guest.machine.is_quiet() && guest.links.lock().is_empty() {
                return Some(End::Crashed("the guest halted for ever, with interrupts off"));
            }
        }
        let bits = events::wait(deadline);
        if deaf {
            guest.deaf.fetch_sub(1, Ordering::AcqRel);
        }
        if bits != 0 {
            // It does not wake itself by what a device now has for this processor.
            self.mailbox.awake();
            self.signalled(bits);
        }
        if time::now() >= deadline {
            self.timed();
        }
        None
    }

    /// Injects an exception at the next entry.
    pub(crate) fn raise(&mut self, exception: Exception) {
        exception.inject(self.processor.state_mut());
    }

    /// Prints what is known of a processor that cannot go on.
    pub(crate) fn describe(&mut self) {
        // What cannot be fetched any more is shown as it was last.
        let _ = self.processor.fetch(StateGroups::all());
        let state: &VcpuState = self.processor.state();
        println!(
            "vmm: processor {} exit {:#x} qualification {:#x} guest-physical {:#x} linear {:#x} interruption {:#x}",
            self.model.number(),
            state.exit_reason,
            state.exit_qualification,
            state.guest_physical,
            state.guest_linear,
            state.interruption
        );
        println!(
            "vmm: rip {:#x} rsp {:#x} rflags {:#x} cr0 {:#x} cr3 {:#x} cr4 {:#x} efer {:#x}",
            state.rip, state.rsp, state.rflags, state.cr0, state.cr3, state.cr4, state.efer
        );
        println!("vmm: registers {:x?}", state.registers);
        println!("vmm: segments {:x?}", state.segments);
    }
}
