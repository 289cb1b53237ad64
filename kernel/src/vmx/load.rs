//! From the shared page to the hardware: the groups that the monitor changed.
//!
//! The hardware checks guest state as a whole at VM entry and refuses what it cannot run, without harm; so values go there as
//! they are, except where an accepted value would hurt the host: bits of CR0 and CR4 that are the kernel's, activity states in
//! which the processor answers no interrupt, and XCR0.

use crate::vmx::apic_guard::Guard;
use crate::vmx::cpu::VmxCpu;
use crate::vmx::fpu::set_xcr0;
use crate::vmx::msr;
use crate::vmx::state::{SEGMENTS, State, each, get};
use crate::vmx::vcpu::Vcpu;
use crate::vmx::vmcs::Vmcs;
use bulkhead_abi::StateGroups;
use x86::vmx::vmcs::{control, guest};

/// Interruptibility: blocking by STI or by MOV SS.
pub const SHADOW: u64 = 0b11;
/// Highest activity state that may be entered: HLT. In shutdown and wait-for-SIPI the processor would not even take the
/// host's interrupts (SDM vol. 3, 26.1 and table 25-3).
const LAST_ACTIVITY: u32 = 1;
/// RFLAGS bit 1, which is always 1.
const RFLAGS_FIXED: u64 = 1 << 1;
/// DR7: every bit that is defined; of the others bit 10 is 1.
const DR7_DEFINED: u64 = 0xffff_23ff;
const DR7_FIXED: u64 = 1 << 10;
/// EFER.LMA.
pub(super) const EFER_LMA: u64 = 1 << 10;
/// VM-entry control: IA-32e mode guest.
const LONG_MODE_GUEST: u32 = 1 << 9;
/// Primary control: interrupt-window exiting.
pub(super) const INTERRUPT_WINDOW: u32 = 1 << 2;
/// Primary control: NMI-window exiting.
const NMI_WINDOW: u32 = 1 << 22;
/// VM-entry interruption information: the event is to be injected.
const INJECT: u32 = 1 << 31;

impl Vcpu {
    /// Loads the instruction pointer: the monitor has completed an instruction.
    #[inline(always)]
    pub(super) fn load_instruction_pointer(&self, vmcs: Vmcs, state: State) {
        vmcs.set_guest::<{ guest::RIP }>(get!(state, rip));
        end_shadow(vmcs);
    }

    /// Loads all groups but RIP and DEADLINE from the shared page; or names the group that was refused, with those before it
    /// loaded.
    #[inline(never)]
    pub(super) fn load(&self, vmcs: Vmcs, cpu: &VmxCpu, groups: StateGroups) -> Result<(), StateGroups> {
        let state = self.state();
        for group in each(groups) {
            match group {
                StateGroups::RFLAGS => vmcs.set_guest::<{ guest::RFLAGS }>(get!(state, rflags) | RFLAGS_FIXED),
                StateGroups::RSP => vmcs.set_guest::<{ guest::RSP }>(get!(state, rsp)),
                StateGroups::INJECTION => load_injection(vmcs, state),
                StateGroups::INTERRUPTIBILITY => {
                    let activity = get!(state, activity);
                    if activity > LAST_ACTIVITY {
                        return Err(group);
                    }
                    vmcs.set_guest::<{ guest::ACTIVITY_STATE }>(u64::from(activity));
                    vmcs.set_guest::<{ guest::INTERRUPTIBILITY_STATE }>(u64::from(get!(state, interruptibility)));
                }
                StateGroups::WINDOWS => self.load_windows(vmcs, state),
                StateGroups::CONTROL_REGISTERS => self.load_control_registers(vmcs, state, groups)?,
                StateGroups::SEGMENTS => (0..SEGMENTS).for_each(|index| vmcs.load_segment(state, index)),
                StateGroups::SYSTEM_REGISTERS => self.load_system_registers(vmcs, state),
                StateGroups::TSC_OFFSET => {
                    let offset = get!(state, tsc_offset);
                    // SAFETY: any offset will do.
                    unsafe { vmcs.write(control::TSC_OFFSET_FULL, offset) };
                }
                StateGroups::APIC => {
                    self.load_apic(vmcs, cpu, state)?;
                    self.load_interrupt_status(vmcs, state);
                }
                StateGroups::XCR0 if !set_xcr0(cpu, self, get!(state, xcr0)) => return Err(group),
                StateGroups::PDPTES => {
                    let [first, second, third, fourth] = get!(state, pdptes);
                    vmcs.set_guest::<{ guest::PDPTE0_FULL }>(first);
                    vmcs.set_guest::<{ guest::PDPTE1_FULL }>(second);
                    vmcs.set_guest::<{ guest::PDPTE2_FULL }>(third);
                    vmcs.set_guest::<{ guest::PDPTE3_FULL }>(fourth);
                }
                StateGroups::INTERRUPT_STATUS => self.load_interrupt_status(vmcs, state),
                StateGroups::DEBUG => self.debug.load(state),
                StateGroups::PENDING_DEBUG => {
                    vmcs.set_guest::<{ guest::PENDING_DBG_EXCEPTIONS }>(get!(state, pending_debug));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn load_windows(&self, vmcs: Vmcs, state: State) {
        let mut primary = self.primary.get() & !(INTERRUPT_WINDOW | NMI_WINDOW);
        if get!(state, interrupt_window) != 0 {
            primary |= INTERRUPT_WINDOW;
        }
        if get!(state, nmi_window) != 0 && self.controls.get().has_nmi_window() {
            primary |= NMI_WINDOW;
        }
        if primary != self.primary.replace(primary) {
            if self.guard.get() == Guard::Window {
                self.guard.set(Guard::None);
            }
            // SAFETY: window exiting is offered by every processor that has virtual NMIs, and takes nothing from the host.
            unsafe { vmcs.write(control::PRIMARY_PROCBASED_EXEC_CONTROLS, u64::from(primary)) };
        }
    }

    fn load_control_registers(&self, vmcs: Vmcs, state: State, groups: StateGroups) -> Result<(), StateGroups> {
        let (cr0, cr4, efer) = (get!(state, cr0), get!(state, cr4), get!(state, efer));
        if !self.controls.get().cr0.allows_mode(cr0) {
            return Err(StateGroups::CONTROL_REGISTERS);
        }
        vmcs.set_guest::<{ guest::CR0 }>(self.controls.get().cr0.merge(cr0));
        vmcs.set_guest::<{ guest::CR4 }>(self.controls.get().cr4.merge(cr4));
        let mode = if efer & EFER_LMA != 0 { LONG_MODE_GUEST } else { 0 };
        // SAFETY: shadows are only read by the guest; the entry control says which mode the guest is in, and entry checks it.
        unsafe {
            vmcs.write(control::CR0_READ_SHADOW, cr0);
            vmcs.write(control::CR4_READ_SHADOW, cr4);
            vmcs.write(control::VMENTRY_CONTROLS, u64::from(self.controls.get().entry | mode));
        }
        if self.shadowed.on.get() {
            // The hardware's CR3 is the engine's affair.
            self.load_paging(vmcs, [cr0, cr4, efer], state, groups);
        } else {
            vmcs.set_guest::<{ guest::IA32_EFER_FULL }>(efer);
            vmcs.set_guest::<{ guest::CR3 }>(get!(state, cr3));
        }
        Ok(())
    }

    fn load_system_registers(&self, vmcs: Vmcs, state: State) {
        vmcs.set_guest::<{ guest::DR7 }>(get!(state, dr7) & DR7_DEFINED | DR7_FIXED);
        vmcs.set_guest::<{ guest::IA32_SYSENTER_CS }>(get!(state, sysenter_cs));
        vmcs.set_guest::<{ guest::IA32_SYSENTER_ESP }>(get!(state, sysenter_esp));
        vmcs.set_guest::<{ guest::IA32_SYSENTER_EIP }>(get!(state, sysenter_eip));
        vmcs.set_guest::<{ guest::IA32_PAT_FULL }>(get!(state, pat));
        self.msrs.set_guest_value(msr::STAR, get!(state, star));
        self.msrs.set_guest_value(msr::LSTAR, get!(state, lstar));
        self.msrs.set_guest_value(msr::FMASK, get!(state, fmask));
        self.msrs.set_guest_value(msr::KERNEL_GS_BASE, get!(state, kernel_gs_base));
    }
}

/// Ends the shadow of STI or MOV SS, since the instruction in it has been completed by the monitor, or by the kernel.
#[inline(always)]
pub(super) fn end_shadow(vmcs: Vmcs) {
    let interruptibility = vmcs.read(guest::INTERRUPTIBILITY_STATE);
    if interruptibility & SHADOW != 0 {
        vmcs.set_guest::<{ guest::INTERRUPTIBILITY_STATE }>(interruptibility & !SHADOW);
    }
}

fn load_injection(vmcs: Vmcs, state: State) {
    let (information, length) = (get!(state, injection), get!(state, injection_length));
    let error_code = get!(state, injection_error_code);
    // SAFETY: VM entry checks the event's type, vector, error code and length, and refuses what is malformed.
    unsafe {
        vmcs.write(control::VMENTRY_INTERRUPTION_INFO_FIELD, u64::from(information));
        if information & INJECT != 0 {
            vmcs.write(control::VMENTRY_EXCEPTION_ERR_CODE, u64::from(error_code));
            vmcs.write(control::VMENTRY_INSTRUCTION_LEN, u64::from(length));
        }
    }
}
