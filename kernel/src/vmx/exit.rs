//! Why the guest stopped, and as much of its state as the monitor needs for that.
//!
//! | exit | groups in `VcpuState::valid` | members besides |
//! | --- | --- | --- |
//! | CPUID, RDMSR, WRMSR | RIP, RFLAGS | `instruction_length` |
//! | HLT, window exits | RIP, RFLAGS, INTERRUPTIBILITY | `instruction_length` (HLT) |
//! | IN, OUT | RIP, RFLAGS, INTERRUPTIBILITY | `exit_qualification`, `instruction_length` |
//! | control registers | RIP, RFLAGS, RSP, CONTROL_REGISTERS | `exit_qualification`, `instruction_length` |
//! | EPT violation, misconfiguration | RIP, RFLAGS, RSP, INTERRUPTIBILITY, CONTROL_REGISTERS | `exit_qualification`, `guest_physical`, `guest_linear`, `idt_vectoring`, `segments[CS]` |
//! | APIC access | the same | `exit_qualification`, `idt_vectoring`, `segments[CS]` |
//! | APIC write, virtualized EOI, TPR below threshold | RIP, RFLAGS, INTERRUPTIBILITY | `exit_qualification`; the instruction is complete |
//! | deadline | RIP, RFLAGS, INTERRUPTIBILITY | none |
//! | any other | all that the hardware keeps | every member about the exit |
//!
//! General registers and `exit_reason` are stored at every exit.

use crate::arch::cpu;
use crate::vmx::cpu::VmxCpu;
use crate::vmx::load::end_shadow;
use crate::vmx::shadow::Duty;
use crate::vmx::state::{State, put, store};
use crate::vmx::store::INTERRUPT_STATE;
use crate::vmx::vcpu::Vcpu;
use crate::vmx::vmcs::Vmcs;
use bulkhead_abi::{Counted, EXIT_UNKNOWN, ExitReason, StateGroups, segment};
use x86::vmx::vmcs::{control, guest, ro};

/// Basic exit reasons (SDM vol. 3, appendix C).
pub mod reason {
    /// Exception or NMI.
    pub const EXCEPTION: u32 = 0;
    /// External interrupt.
    pub const EXTERNAL_INTERRUPT: u32 = 1;
    /// Triple fault.
    pub const TRIPLE_FAULT: u32 = 2;
    /// The guest could take an interrupt.
    pub const INTERRUPT_WINDOW: u32 = 7;
    /// The guest could take an NMI.
    pub const NMI_WINDOW: u32 = 8;
    /// CPUID.
    pub const CPUID: u32 = 10;
    /// HLT.
    pub const HLT: u32 = 12;
    /// INVLPG.
    pub const INVLPG: u32 = 14;
    /// Access to a control register.
    pub const CONTROL_REGISTER: u32 = 28;
    /// I/O instruction.
    pub const IO: u32 = 30;
    /// RDMSR.
    pub const RDMSR: u32 = 31;
    /// WRMSR.
    pub const WRMSR: u32 = 32;
    /// VM entry failed: invalid guest state.
    pub const INVALID_GUEST_STATE: u32 = 33;
    /// VM entry failed: machine check.
    pub const MACHINE_CHECK_AT_ENTRY: u32 = 41;
    /// EPT violation.
    pub const EPT_VIOLATION: u32 = 48;
    /// EPT misconfiguration.
    pub const EPT_MISCONFIGURATION: u32 = 49;
    /// The task priority fell below its threshold.
    pub const TPR_BELOW_THRESHOLD: u32 = 43;
    /// Access to the page of the local APIC that the processor does not virtualize.
    pub const APIC_ACCESS: u32 = 44;
    /// The guest has ended an interrupt whose end the monitor wants to know of.
    pub const VIRTUALIZED_EOI: u32 = 45;
    /// The preemption timer reached 0.
    pub const PREEMPTION_TIMER: u32 = 52;
    /// The guest has written a register of its local APIC.
    pub const APIC_WRITE: u32 = 56;
}

/// What the caller of a run has to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Handle this external interrupt, which has been acknowledged, then run again.
    Interrupt(u8),
    /// Handle an NMI of the host; NMIs are blocked until the next IRET.
    Nmi,
    /// Handle a machine check.
    MachineCheck,
    /// The guest wrote to this port, for which its space has a doorbell to signal; the instruction is done. Then run again.
    Doorbell(u16),
    /// The limit of the run has been reached: see what the kernel's timer is for, then run again.
    Timer,
    /// Let the vCPU do this for its shadow paging, then run again.
    Paging(Duty),
    /// Run again.
    Again,
    /// Return to the monitor.
    Vmm(ExitReason),
}

/// Exit reason: the entry failed.
const ENTRY_FAILURE: u32 = 1 << 31;
/// VM-instruction error: VMRESUME of a VMCS that is not launched.
const RESUMED_UNLAUNCHED: u64 = 5;
/// Interruption information: valid.
pub(super) const VALID: u64 = 1 << 31;
/// Type and vector in interruption information.
pub(super) const TYPE_AND_VECTOR: u64 = 0x7ff;
/// NMI, as type and vector.
const NMI: u64 = 2 << 8 | 2;
/// Machine check, as hardware exception and vector.
const MACHINE_CHECK: u64 = 3 << 8 | 18;
/// I/O qualification: direction is in.
const IO_IN: u64 = 1 << 3;
/// I/O qualification: string instruction.
const IO_STRING: u64 = 1 << 4;
/// EPT qualification, and interruption information: the access was IRET's, which had ended the blocking of NMIs.
pub(super) const UNBLOCKED_NMI: u64 = 1 << 12;
/// Interruptibility: blocking by NMI.
const BLOCKING_BY_NMI: u64 = 1 << 3;
/// RFLAGS.TF.
const TRAP_FLAG: u64 = 1 << 8;
/// Pending debug exceptions: single step.
const PENDING_SINGLE_STEP: u64 = 1 << 14;
/// Access rights of a code segment: 64-bit.
const LONG_CODE: u64 = 1 << 13;

impl Vcpu {
    /// Finds out why the guest stopped.
    #[inline(always)]
    pub(super) fn exited(&self, vmcs: Vmcs, cpu: &VmxCpu) -> Outcome {
        let reason = vmcs.read(ro::EXIT_REASON) as u32;
        let state = self.state();
        match reason {
            reason::CPUID | reason::RDMSR | reason::WRMSR => self.instruction(vmcs, state, reason),
            reason::IO => self.io(vmcs, state),
            reason::EXTERNAL_INTERRUPT => {
                state.count(Counted::Interrupt, 1);
                Outcome::Interrupt(vmcs.read(ro::VMEXIT_INTERRUPTION_INFO) as u8)
            }
            reason::EPT_VIOLATION | reason::EPT_MISCONFIGURATION | reason::APIC_ACCESS => {
                self.memory(vmcs, state, reason)
            }
            reason::EXCEPTION if self.is_page_fault(vmcs) => Outcome::Paging(Duty::Fault),
            reason::INVLPG => Outcome::Paging(Duty::Invalidate),
            reason::CONTROL_REGISTER => {
                self.move_cr3(vmcs, state).unwrap_or_else(|| self.rare(vmcs, cpu, state, reason))
            }
            reason::APIC_WRITE
            | reason::VIRTUALIZED_EOI
            | reason::TPR_BELOW_THRESHOLD
            | reason::HLT
            | reason::INTERRUPT_WINDOW
            | reason::NMI_WINDOW => {
                put!(state, exit_reason, u64::from(reason));
                store!(vmcs, state, exit_qualification, ro::EXIT_QUALIFICATION);
                put!(state, instruction_length, vmcs.read(ro::VMEXIT_INSTRUCTION_LEN) as u32);
                self.store_interrupt_state(vmcs, state);
                // At a window it may have been waiting, if the monitor entered it so.
                put!(state, activity, vmcs.read(guest::ACTIVITY_STATE) as u32);
                Outcome::Vmm(ExitReason::Hardware)
            }
            _ => self.rare(vmcs, cpu, state, reason),
        }
    }

    /// What a trace tells of the end of a run: the basic exit reason, or [`EXIT_UNKNOWN`] if the processor has let go of the vCPU since,
    /// or did not get to enter it.
    pub fn traced(&self, end: u64) -> [u64; 2] {
        let is_current = self.is_current(&cpu::this().vmx);
        // SAFETY: the vCPU's VMCS is current then.
        let reason = is_current.then(|| unsafe { Vmcs::current() }.read(ro::EXIT_REASON) & 0xffff);
        [reason.unwrap_or(EXIT_UNKNOWN), end]
    }

    /// An instruction that needs no more than registers.
    #[inline(always)]
    fn instruction(&self, vmcs: Vmcs, state: State, reason: u32) -> Outcome {
        put!(state, exit_reason, u64::from(reason));
        store!(vmcs, state, rip, guest::RIP);
        store!(vmcs, state, rflags, guest::RFLAGS);
        put!(state, instruction_length, vmcs.read(ro::VMEXIT_INSTRUCTION_LEN) as u32);
        put!(state, valid, (StateGroups::RIP | StateGroups::RFLAGS).bits());
        Outcome::Vmm(ExitReason::Hardware)
    }

    #[inline(always)]
    fn io(&self, vmcs: Vmcs, state: State) -> Outcome {
        let qualification = vmcs.read(ro::EXIT_QUALIFICATION);
        if qualification & (IO_IN | IO_STRING) == 0
            && let port = (qualification >> 16) as u16
            && self.space.get().is_some_and(|space| space.has_doorbell(port))
        {
            skip_instruction(vmcs);
            state.count(Counted::Doorbell, 1);
            return Outcome::Doorbell(port);
        }
        if qualification & IO_STRING != 0 {
            return self.everything(vmcs, state, reason::IO);
        }
        put!(state, exit_reason, u64::from(reason::IO));
        put!(state, exit_qualification, qualification);
        self.store_interrupt_state(vmcs, state);
        put!(state, instruction_length, vmcs.read(ro::VMEXIT_INSTRUCTION_LEN) as u32);
        Outcome::Vmm(ExitReason::Hardware)
    }

    /// An access to memory that is not mapped, or not so: a device, as a rule.
    #[inline(always)]
    fn memory(&self, vmcs: Vmcs, state: State, reason: u32) -> Outcome {
        let qualification = vmcs.read(ro::EXIT_QUALIFICATION);
        let vectoring = vmcs.read(ro::IDT_VECTORING_INFO);
        store!(vmcs, state, guest_physical, ro::GUEST_PHYSICAL_ADDR_FULL);
        store!(vmcs, state, guest_linear, ro::GUEST_LINEAR_ADDR);
        if qualification & UNBLOCKED_NMI != 0 && vectoring & VALID == 0 && reason == reason::EPT_VIOLATION {
            block_nmis(vmcs);
        }
        self.memory_exit(vmcs, state, reason, qualification)
    }

    /// The monitor is told of an access whose addresses are stored already.
    pub(super) fn memory_exit(&self, vmcs: Vmcs, state: State, reason: u32, qualification: u64) -> Outcome {
        let vectoring = vmcs.read(ro::IDT_VECTORING_INFO);
        put!(state, exit_reason, u64::from(reason));
        put!(state, exit_qualification, qualification);
        put!(state, idt_vectoring, vectoring as u32);
        if vectoring & VALID != 0 {
            put!(state, idt_vectoring_error_code, vmcs.read(ro::IDT_VECTORING_ERR_CODE) as u32);
            put!(state, instruction_length, vmcs.read(ro::VMEXIT_INSTRUCTION_LEN) as u32);
        }
        store!(vmcs, state, rsp, guest::RSP);
        self.store_interrupt_state(vmcs, state);
        self.store_control_registers(vmcs, state);
        vmcs.store_segment(state, segment::CS);
        put!(state, valid, (INTERRUPT_STATE | StateGroups::RSP | StateGroups::CONTROL_REGISTERS).bits());
        Outcome::Vmm(ExitReason::Hardware)
    }

    /// The exits whose cost does not matter.
    #[inline(never)]
    fn rare(&self, vmcs: Vmcs, cpu: &VmxCpu, state: State, reason: u32) -> Outcome {
        if reason == ENTRY_FAILURE | reason::MACHINE_CHECK_AT_ENTRY {
            return Outcome::MachineCheck;
        }
        if reason & ENTRY_FAILURE != 0 {
            // The hardware left the entry half-way: the reason says whether for guest state (33) or MSRs (34).
            return self.entry_failed(vmcs, reason & !ENTRY_FAILURE, vmcs.read(ro::EXIT_QUALIFICATION));
        }
        match reason {
            reason::EXCEPTION => match vmcs.read(ro::VMEXIT_INTERRUPTION_INFO) & TYPE_AND_VECTOR {
                NMI => Outcome::Nmi,
                MACHINE_CHECK => Outcome::MachineCheck,
                _ => self.everything(vmcs, state, reason),
            },
            reason::PREEMPTION_TIMER => self.time_is_up(vmcs, cpu),
            reason::CONTROL_REGISTER => {
                store!(vmcs, state, exit_qualification, ro::EXIT_QUALIFICATION);
                let outcome = self.instruction(vmcs, state, reason);
                self.fetch_groups(vmcs, StateGroups::RSP | StateGroups::CONTROL_REGISTERS);
                outcome
            }
            _ => self.everything(vmcs, state, reason),
        }
    }

    /// An exit that this kernel has no opinion about: triple fault, task switch, and what future processors add.
    pub(super) fn everything(&self, vmcs: Vmcs, state: State, reason: u32) -> Outcome {
        put!(state, exit_reason, u64::from(reason));
        store!(vmcs, state, exit_qualification, ro::EXIT_QUALIFICATION);
        store!(vmcs, state, guest_physical, ro::GUEST_PHYSICAL_ADDR_FULL);
        store!(vmcs, state, guest_linear, ro::GUEST_LINEAR_ADDR);
        put!(state, instruction_length, vmcs.read(ro::VMEXIT_INSTRUCTION_LEN) as u32);
        put!(state, instruction_information, vmcs.read(ro::VMEXIT_INSTRUCTION_INFO) as u32);
        put!(state, interruption, vmcs.read(ro::VMEXIT_INTERRUPTION_INFO) as u32);
        put!(state, interruption_error_code, vmcs.read(ro::VMEXIT_INTERRUPTION_ERR_CODE) as u32);
        put!(state, idt_vectoring, vmcs.read(ro::IDT_VECTORING_INFO) as u32);
        put!(state, idt_vectoring_error_code, vmcs.read(ro::IDT_VECTORING_ERR_CODE) as u32);
        put!(state, valid, 0);
        self.fetch_groups(vmcs, StateGroups::all());
        Outcome::Vmm(ExitReason::Hardware)
    }

    /// The hardware refused the entry for the VMCS as such.
    #[cold]
    pub(super) fn entry_refused(&self, vmcs: Vmcs) -> Outcome {
        let error = vmcs.read(ro::VM_INSTRUCTION_ERROR);
        if error == RESUMED_UNLAUNCHED {
            // The first entry got half-way: it has to be repeated as a launch.
            self.entry.launched.set(0);
            return Outcome::Again;
        }
        self.entry_failed(vmcs, 0, error)
    }

    /// There was an event to inject, perhaps, which has not been delivered: it is withdrawn, and the monitor decides about it anew.
    #[cold]
    fn entry_failed(&self, vmcs: Vmcs, reason: u32, qualification: u64) -> Outcome {
        // SAFETY: no event.
        unsafe { vmcs.write(control::VMENTRY_INTERRUPTION_INFO_FIELD, 0) };
        self.refuse(reason, qualification)
    }

    /// Reports that the guest could not be entered as it is.
    #[cold]
    pub(super) fn refuse(&self, reason: u32, qualification: u64) -> Outcome {
        let state = self.state();
        put!(state, exit_reason, u64::from(reason));
        put!(state, exit_qualification, qualification);
        put!(state, valid, 0);
        Outcome::Vmm(ExitReason::EntryFailed)
    }

    /// The time of the run is over, in the guest or before it was entered: the monitor's or the kernel's. What is dirty still has
    /// not been loaded, and is not overwritten.
    pub(super) fn time_is_up(&self, vmcs: Vmcs, cpu: &VmxCpu) -> Outcome {
        if cpu.timer_ticks(self.deadline.get()).is_some() {
            self.state().count(Counted::Slice, 1);
            return Outcome::Timer;
        }
        put!(self.state(), valid, 0);
        self.fetch_groups(vmcs, INTERRUPT_STATE);
        Outcome::Vmm(ExitReason::Deadline)
    }
}

/// The blocking of NMIs that IRET ended is there again, since IRET will be executed again.
pub(super) fn block_nmis(vmcs: Vmcs) {
    let interruptibility = vmcs.read(guest::INTERRUPTIBILITY_STATE);
    vmcs.set_guest::<{ guest::INTERRUPTIBILITY_STATE }>(interruptibility | BLOCKING_BY_NMI);
}

/// Moves the guest past the instruction that exited, which the kernel has completed.
pub(super) fn skip_instruction(vmcs: Vmcs) {
    let rip = vmcs.read(guest::RIP);
    let mut next = rip.wrapping_add(vmcs.read(ro::VMEXIT_INSTRUCTION_LEN) & 0xf);
    // Outside 64-bit code the instruction pointer wraps at 4 GiB.
    if (next ^ rip) >> 32 != 0 && vmcs.read(guest::CS_ACCESS_RIGHTS) & LONG_CODE == 0 {
        next &= 0xffff_ffff;
    }
    vmcs.set_guest::<{ guest::RIP }>(next);
    end_shadow(vmcs);
    if vmcs.read(guest::RFLAGS) & TRAP_FLAG != 0 {
        let pending = vmcs.read(guest::PENDING_DBG_EXCEPTIONS);
        vmcs.set_guest::<{ guest::PENDING_DBG_EXCEPTIONS }>(pending | PENDING_SINGLE_STEP);
    }
}
