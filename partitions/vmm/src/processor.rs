//! The guest's processor, its machine, and the loop that runs them.

use crate::disk::{Disk, DiskFunction};
use crate::memory::Ram;
use crate::serial::{SerialInput, SerialOutput};
use alloc::vec::Vec;
use bulkhead_machine::devices::power::PowerEvent;
use bulkhead_machine::emulate::{DecodeCache, Exception};
use bulkhead_machine::machine::Machine;
use bulkhead_machine::processors::{Arbitration, Readiness};
use bulkhead_runtime::abi::{ExitReason, NO_DEADLINE, StateGroups, VcpuState};
use bulkhead_runtime::mapping::GuestProcessor;
use bulkhead_runtime::object::GuestSpace;
use bulkhead_runtime::{println, time};

/// The machine of this vmm.
pub type GuestMachine = Machine<DiskFunction, SerialOutput>;

/// The processor's number; there is one.
pub const PROCESSOR: usize = 0;

/// How a guest's run ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// It switched its machine off.
    Off,
    /// It reset its machine.
    Reset,
    /// It wrote this code to its exit port.
    Exit(u32),
    /// It cannot go on.
    Crashed(&'static str),
}

impl From<PowerEvent> for End {
    fn from(event: PowerEvent) -> Self {
        match event {
            PowerEvent::Off => Self::Off,
            PowerEvent::Reset => Self::Reset,
            PowerEvent::Exit(code) => Self::Exit(code),
        }
    }
}

/// A guest.
pub struct Guest {
    pub(crate) processor: GuestProcessor,
    pub(crate) machine: GuestMachine,
    pub(crate) ram: Ram,
    pub(crate) space: GuestSpace,
    pub(crate) disks: Vec<Disk>,
    pub(crate) input: SerialInput,
    pub(crate) cache: DecodeCache,
    pub(crate) halted: bool,
    /// Deadline that the kernel knows.
    pub(crate) deadline: u64,
    /// Windows that the kernel knows of are open.
    pub(crate) windows: bool,
}

/// Groups that tell whether the guest takes an interrupt.
const INTERRUPT_STATE: StateGroups = StateGroups::RIP.union(StateGroups::RFLAGS).union(StateGroups::INTERRUPTIBILITY);
/// Injection information: there is an event.
const VALID: u32 = 1 << 31;

impl Guest {
    /// Runs the guest until it ends.
    pub fn run(&mut self) -> End {
        loop {
            if self.machine.has_work(PROCESSOR) || self.windows {
                self.arbitrate();
            }
            if self.halted {
                if let Some(end) = self.sleep() {
                    return end;
                }
                continue;
            }
            let deadline = self.machine.deadline();
            if deadline != self.deadline {
                self.deadline = deadline;
                let state = self.processor.state_mut();
                state.deadline = deadline;
                state.dirty |= StateGroups::DEADLINE.bits();
            }
            let reason = match self.processor.run() {
                Ok(reason) => reason,
                Err(error) => {
                    println!("vmm: the kernel does not run the processor: {error:?}");
                    return End::Crashed("the kernel does not run the guest's processor");
                }
            };
            let end = match reason {
                ExitReason::Hardware => self.hardware_exit(),
                ExitReason::Signal => {
                    let bits = self.processor.state().signals;
                    self.signalled(bits);
                    None
                }
                ExitReason::Deadline => {
                    self.machine.advance(time::now());
                    None
                }
                ExitReason::EntryFailed => {
                    self.describe();
                    Some(End::Crashed("the guest's state is invalid"))
                }
            };
            if let Some(end) = end {
                self.machine.serial().tell();
                return end;
            }
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
        self.require(INTERRUPT_STATE);
        let state = self.processor.state();
        let occupied = state.dirty & StateGroups::INJECTION.bits() != 0 && state.injection & VALID != 0;
        let readiness = Readiness { rflags: state.rflags, interruptibility: state.interruptibility, occupied };
        let decision = self.machine.arbitrate(PROCESSOR, readiness);
        if decision.injection != 0 {
            self.halted = false;
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

    /// The guest has halted: waits until something happens that may wake it.
    fn sleep(&mut self) -> Option<End> {
        self.machine.serial().tell();
        let deadline = self.machine.deadline();
        let deaf = self.processor.state().rflags & (1 << 9) == 0;
        if deaf && deadline == NO_DEADLINE && self.disks.is_empty() {
            return Some(End::Crashed("the guest halted for ever, with interrupts off"));
        }
        let bits = bulkhead_runtime::events::wait(deadline);
        if bits != 0 {
            self.signalled(bits);
        }
        let now = time::now();
        if now >= deadline {
            self.machine.advance(now);
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
            "vmm: exit {:#x} qualification {:#x} guest-physical {:#x} linear {:#x} interruption {:#x}",
            state.exit_reason, state.exit_qualification, state.guest_physical, state.guest_linear, state.interruption
        );
        println!(
            "vmm: rip {:#x} rsp {:#x} rflags {:#x} cr0 {:#x} cr3 {:#x} cr4 {:#x} efer {:#x}",
            state.rip, state.rsp, state.rflags, state.cr0, state.cr3, state.cr4, state.efer
        );
        println!("vmm: registers {:x?}", state.registers);
        println!("vmm: segments {:x?}", state.segments);
    }
}
