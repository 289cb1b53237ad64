//! Shadow paging of guests: what the engine ([`bulkhead_core::shadow`]) decides is done with the VMCS.
//!
//! Such guests run without virtual-processor identifiers, so that every entry and exit empties the TLB of them. The guest's
//! control registers are in the read shadows and in [`Shadowed`]; the hardware has CR0.WP, CR4.PAE and EFER.NXE set.

use crate::arch::cpu;
use crate::vmx::controls::{CR0_WP, CR4_PAE};
use crate::vmx::exit::{Outcome, TYPE_AND_VECTOR, UNBLOCKED_NMI, VALID, block_nmis, reason, skip_instruction};
use crate::vmx::guest_space::GuestSpace;
use crate::vmx::load::EFER_LMA;
use crate::vmx::msr::EFER;
use crate::vmx::shadow_memory::Memory;
use crate::vmx::state::{State, get, put};
use crate::vmx::vcpu::Vcpu;
use crate::vmx::vmcs::Vmcs;
use bulkhead_abi::{Counted, PAGE_SIZE, StateGroups, register};
use bulkhead_core::phys::Ref;
use bulkhead_core::shadow::{Access, Fault, Features, Mode, Paging, Processor};
use core::arch::x86_64::__cpuid;
use core::cell::Cell;
use core::mem::offset_of;
use x86::controlregs::Cr4;
use x86::vmx::vmcs::{control, guest, ro};

/// EFER.NXE.
const EFER_NXE: u64 = 1 << 11;
/// Interruption information: there is an error code.
const ERROR_CODE: u64 = 1 << 11;
/// Event information: a page fault, and a double fault.
const PAGE_FAULT: u64 = VALID | 3 << 8 | 14;
const DOUBLE_FAULT: u64 = VALID | 3 << 8 | 8;
/// Qualification of accesses to control registers: number and kind of access; and those of MOV to and from CR3.
const ACCESS: u64 = 0x3f;
const MOVE_TO_CR3: u64 = 3;
const MOVE_FROM_CR3: u64 = 0x13;
/// Qualification of EPT violations: read, write; a linear address is known, and the access was to what it translates to.
const READ: u64 = 1 << 0;
const WRITE: u64 = 1 << 1;
const LINEAR: u64 = 1 << 7;
const TRANSLATED: u64 = 1 << 8;

/// What a vCPU with shadow paging keeps.
#[repr(C, align(32))]
pub struct Shadowed {
    /// The upper entries, for the hardware in PAE mode.
    upper: Cell<[u64; 4]>,
    /// It has shadow paging.
    pub(super) on: Cell<bool>,
    /// Its number among the processors of its guest.
    pub(super) number: Cell<u32>,
    /// The paging state that it is in.
    paging: Cell<Paging>,
    /// What is to be done before the next entry.
    pub(super) duty: Cell<Duty>,
}

/// What has to be done under the kernel lock, see [`Vcpu::serve_paging`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Duty {
    /// Nothing.
    #[default]
    Nothing,
    /// The paging state was loaded.
    Load,
    /// The same, and the monitor has interpreted instructions, which may have written to guest tables without a trace.
    LoadAnew,
    /// The last exit was MOV to CR3, without PAE.
    Switch,
    /// It was a page fault.
    Fault,
    /// It was INVLPG.
    Invalidate,
}

impl Vcpu {
    /// Notes how the space is translated, as one of so many processors.
    pub(super) fn initialise_shadow(&self, space: Ref<GuestSpace>) {
        self.shadowed.on.set(space.is_shadowed.get());
        if space.is_shadowed.get() {
            // Before anything else there must be a root: the field of the VMCS is 0 at first.
            self.delay(Duty::Load);
        }
        self.shadowed.number.set(space.processors.replace(space.processors.get() + 1));
    }

    /// Notes paging state that the monitor changed: CR0, CR4 and EFER as they were loaded, since the hardware must walk tables of
    /// the mode that it is in.
    pub(super) fn load_paging(&self, vmcs: Vmcs, [cr0, cr4, efer]: [u64; 3], state: State, groups: StateGroups) {
        let mode = match (efer & EFER_LMA != 0, cr4 & CR4_PAE != 0) {
            (true, _) => Mode::FourLevel,
            (false, true) => Mode::Pae,
            (false, false) => Mode::TwoLevel,
        };
        let has = |bit: Cr4| cr4 & bit.bits() as u64 != 0;
        let mut features = Features::HUGE_PAGES;
        features.set(Features::LARGE_PAGES, has(Cr4::CR4_ENABLE_PSE));
        features.set(Features::SMEP, has(Cr4::CR4_ENABLE_SMEP));
        features.set(Features::SMAP, has(Cr4::CR4_ENABLE_SMAP));
        features.set(Features::NO_EXECUTE, efer & EFER_NXE != 0);
        features.set(Features::WRITE_PROTECT, cr0 & CR0_WP != 0);
        let pdptes =
            if groups.contains(StateGroups::PDPTES) { get!(state, pdptes) } else { self.shadowed.paging.get().pdptes };
        let physical_bits = (__cpuid(0x8000_0008).eax & 0xff).min(47);
        let paging = Paging { mode, features, cr3: get!(state, cr3), pdptes, physical_bits };
        self.shadowed.paging.set(paging);
        let values =
            self.controls.get().cr4.merge(cr4) | cr4 & (Cr4::CR4_ENABLE_SMEP | Cr4::CR4_ENABLE_SMAP).bits() as u64;
        vmcs.set_guest::<{ guest::CR4 }>(values);
        self.msrs.set_guest_value(EFER, efer | EFER_NXE);
        let anew = groups.contains(StateGroups::SEGMENTS);
        self.delay(if anew { Duty::LoadAnew } else { Duty::Load });
    }

    /// There is something to do before the next entry.
    fn delay(&self, duty: Duty) {
        self.shadowed.duty.set(duty);
        self.attention.set(1);
    }

    /// Does what the engine is needed for, on the vCPU's processor. The kernel lock is held. Something if the run ends. Page
    /// faults are the commonest, so there is a copy for them.
    #[inline(always)]
    pub fn serve_paging<const IS_FAULT: bool>(&self, duty: Duty) -> Option<Outcome> {
        // SAFETY: the vCPU's VMCS is current: a run has just ended with this to do, or was about to begin.
        let vmcs = unsafe { Vmcs::current() };
        let space = self.space.get()?;
        let (shadowed, memory) = (&self.shadowed, Memory(space));
        let Some(processor) = space.shadow.at(shadowed.number.get(), &shadowed.paging, &memory) else {
            return self.begin_paging(space, duty);
        };
        let outcome =
            if IS_FAULT { self.page_fault(vmcs, &processor) } else { self.flush_paging(vmcs, space, &processor, duty) };
        if shadowed.paging.get().mode != Mode::FourLevel {
            shadowed.upper.set(processor.upper_entries());
        }
        outcome
    }

    /// Does what flushes the guest's TLB, or a part of it.
    #[inline(always)]
    fn flush_paging(
        &self,
        vmcs: Vmcs,
        space: Ref<GuestSpace>,
        processor: &Processor<'_, Memory>,
        duty: Duty,
    ) -> Option<Outcome> {
        let (state, sent) = (self.state(), &cpu::this().interrupts_sent);
        let sent_before = sent.get();
        let mut root = None;
        match duty {
            Duty::Invalidate => {
                state.count(Counted::Invlpg, 1);
                processor.invalidate(vmcs.read(ro::EXIT_QUALIFICATION));
                skip_instruction(vmcs);
            }
            Duty::Switch => {
                state.count(Counted::Cr3Load, 1);
                root = Some(processor.switch().0);
            }
            _ => {
                if duty == Duty::LoadAnew {
                    space.shadow.distrust();
                }
                root = Some(processor.load().0);
            }
        }
        if sent.get() != sent_before {
            state.count(Counted::SyncInterrupt, sent.get().wrapping_sub(sent_before));
        }
        let mut root = root?;
        if self.shadowed.paging.get().mode != Mode::FourLevel {
            root = self.physical() + (offset_of!(Self, shadowed) + offset_of!(Shadowed, upper)) as u64;
            // The hardware has CR3 of 32 bits in the other modes.
            if root >> 32 != 0 {
                self.delay(duty);
                return Some(self.refuse(reason::INVALID_GUEST_STATE, StateGroups::CONTROL_REGISTERS.bits()));
            }
        }
        vmcs.set_guest::<{ guest::CR3 }>(root);
        None
    }

    /// Before anything else there must be tables: without, the guest must never be entered.
    #[cold]
    fn begin_paging(&self, space: Ref<GuestSpace>, duty: Duty) -> Option<Outcome> {
        self.delay(duty);
        let built = space.shadow.build(&space.pool, space.processors.get());
        built.is_err().then(|| self.refuse(reason::INVALID_GUEST_STATE, StateGroups::CONTROL_REGISTERS.bits()))
    }

    /// CR3 and EFER as the guest sees them.
    pub(super) fn store_paging(&self, state: State) {
        let paging = self.shadowed.paging.get();
        let no_execute = if paging.features.contains(Features::NO_EXECUTE) { EFER_NXE } else { 0 };
        put!(state, cr3, paging.cr3);
        put!(state, efer, self.msrs.guest_value(EFER) & !EFER_NXE | no_execute);
    }

    /// Takes the guest past MOV to or from CR3, unless the monitor is to look at it: with PAE, or a value that may be wrong.
    #[inline(never)]
    pub(super) fn move_cr3(&self, vmcs: Vmcs, state: State) -> Option<Outcome> {
        let qualification = vmcs.read(ro::EXIT_QUALIFICATION);
        let mut paging = self.shadowed.paging.get();
        let number = (qualification >> 8) as usize & 15;
        if !self.shadowed.on.get() {
            return None;
        }
        if qualification & ACCESS == MOVE_FROM_CR3 && number != register::RSP {
            state.set_register(number, paging.cr3);
            skip_instruction(vmcs);
            return Some(Outcome::Again);
        }
        if qualification & ACCESS != MOVE_TO_CR3 || paging.mode == Mode::Pae {
            return None;
        }
        paging.cr3 = if number == register::RSP { vmcs.read(guest::RSP) } else { state.register(number) };
        if paging.mode == Mode::TwoLevel {
            paging.cr3 &= 0xffff_ffff;
        }
        if paging.cr3 >> paging.physical_bits != 0 {
            return None;
        }
        self.shadowed.paging.set(paging);
        skip_instruction(vmcs);
        Some(Outcome::Paging(Duty::Switch))
    }

    /// Whether the exception that exited is a page fault, for the engine to see to.
    pub(super) fn is_page_fault(&self, vmcs: Vmcs) -> bool {
        self.shadowed.on.get() && vmcs.read(ro::VMEXIT_INTERRUPTION_INFO) & (VALID | TYPE_AND_VECTOR) == PAGE_FAULT
    }

    /// A page fault: the guest's, the engine's, or an access to a device. Something if it is the monitor's affair.
    #[inline(always)]
    fn page_fault(&self, vmcs: Vmcs, processor: &Processor<'_, Memory>) -> Option<Outcome> {
        let state = self.state();
        let linear = vmcs.read(ro::EXIT_QUALIFICATION);
        let error = vmcs.read(ro::VMEXIT_INTERRUPTION_ERR_CODE) as u32;
        let alignment_check = vmcs.read(guest::RFLAGS) as u32 & Access::ALIGNMENT_CHECK.bits();
        let fault = processor.fault(linear, Access::from_bits_truncate(error | alignment_check));
        let vectoring = vmcs.read(ro::IDT_VECTORING_INFO);
        if vmcs.read(ro::VMEXIT_INTERRUPTION_INFO) & UNBLOCKED_NMI != 0 && vectoring & VALID == 0 {
            block_nmis(vmcs);
        }
        Some(match fault {
            Fault::Retry => {
                state.count(Counted::Fill, 1);
                if vectoring & VALID != 0 {
                    repeat_event(vmcs, vectoring);
                }
                return None;
            }
            Fault::Guests(code) => {
                state.count(Counted::GuestFault, 1);
                put!(state, cr2, linear);
                match vectoring & (VALID | TYPE_AND_VECTOR) {
                    // Faults whose delivery faults (SDM vol. 3, table 7-5). An interrupt whose delivery faults is lost, as without
                    // virtualization: it was acknowledged, and returning from the page fault does not bring it back.
                    DOUBLE_FAULT => self.everything(vmcs, state, reason::TRIPLE_FAULT),
                    first => {
                        let is_second = first == PAGE_FAULT;
                        let (event, code) = if is_second { (DOUBLE_FAULT, 0) } else { (PAGE_FAULT, code) };
                        inject(vmcs, event | ERROR_CODE, u64::from(code));
                        return None;
                    }
                }
            }
            Fault::Violation { physical, write, walking } => {
                let access = if write { WRITE } else { READ };
                let (kind, offset) = if walking { (0, 0) } else { (TRANSLATED, linear & (PAGE_SIZE - 1)) };
                put!(state, guest_physical, physical | offset);
                put!(state, guest_linear, linear);
                self.memory_exit(vmcs, state, reason::EPT_VIOLATION, access | LINEAR | kind)
            }
            Fault::Interpret => self.everything(vmcs, state, reason::EXCEPTION),
        })
    }
}

/// An event whose delivery the exit interrupted is delivered again.
#[cold]
fn repeat_event(vmcs: Vmcs, vectoring: u64) {
    inject(vmcs, vectoring & (VALID | ERROR_CODE | TYPE_AND_VECTOR), vmcs.read(ro::IDT_VECTORING_ERR_CODE));
    // SAFETY: the length of the instruction that caused the event.
    unsafe { vmcs.write(control::VMENTRY_INSTRUCTION_LEN, vmcs.read(ro::VMEXIT_INSTRUCTION_LEN)) };
}

fn inject(vmcs: Vmcs, information: u64, error_code: u64) {
    // SAFETY: an exception of the guest's, or an event that the hardware was delivering.
    unsafe {
        vmcs.write(control::VMENTRY_INTERRUPTION_INFO_FIELD, information);
        vmcs.write(control::VMENTRY_EXCEPTION_ERR_CODE, error_code);
    }
}
