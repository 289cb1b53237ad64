//! From the hardware to the shared page, group by group.

use crate::vmx::cpu::VmxCpu;
use crate::vmx::msr;
use crate::vmx::state::{SEGMENTS, State, each, get, put, store};
use crate::vmx::vcpu::Vcpu;
use crate::vmx::vmcs::Vmcs;
use bulkhead_abi::StateGroups;
use x86::vmx::vmcs::{control, guest};

/// Groups after an exit that is about whether the guest takes interrupts.
pub(super) const INTERRUPT_STATE: StateGroups =
    StateGroups::RIP.union(StateGroups::RFLAGS).union(StateGroups::INTERRUPTIBILITY);

impl Vcpu {
    /// Tells the monitor which signals ended the run. What earlier exits stored is out of date.
    pub fn deliver_signals(&self, cpu: &VmxCpu, bits: u64) {
        put!(self.state(), signals, bits);
        put!(self.state(), valid, 0);
        self.fetch(cpu, INTERRUPT_STATE);
    }

    /// Stores groups in the shared page, except those that wait there to be loaded. False, and nothing stored, if the vCPU
    /// cannot be made current on this processor.
    pub fn fetch(&self, cpu: &VmxCpu, groups: StateGroups) -> bool {
        let current = self.is_current(cpu) || self.bind(cpu).is_some();
        if current {
            // SAFETY: the VMCS is current, by the line above.
            self.fetch_groups(unsafe { Vmcs::current() }, groups);
        }
        current
    }

    pub(super) fn fetch_groups(&self, vmcs: Vmcs, groups: StateGroups) {
        let state = self.state();
        let groups = groups - StateGroups::from_bits_truncate(get!(state, dirty));
        for group in each(groups) {
            match group {
                StateGroups::RIP => store!(vmcs, state, rip, guest::RIP),
                StateGroups::RFLAGS => store!(vmcs, state, rflags, guest::RFLAGS),
                StateGroups::RSP => store!(vmcs, state, rsp, guest::RSP),
                StateGroups::INJECTION => {
                    put!(state, injection, vmcs.read(control::VMENTRY_INTERRUPTION_INFO_FIELD) as u32);
                }
                StateGroups::INTERRUPTIBILITY => {
                    put!(state, interruptibility, vmcs.read(guest::INTERRUPTIBILITY_STATE) as u32);
                    put!(state, activity, vmcs.read(guest::ACTIVITY_STATE) as u32);
                }
                StateGroups::CONTROL_REGISTERS => self.store_control_registers(vmcs, state),
                StateGroups::SEGMENTS => (0..SEGMENTS).for_each(|index| vmcs.store_segment(state, index)),
                StateGroups::SYSTEM_REGISTERS => self.store_system_registers(vmcs, state),
                StateGroups::TSC_OFFSET => store!(vmcs, state, tsc_offset, control::TSC_OFFSET_FULL),
                StateGroups::XCR0 => put!(state, xcr0, self.xcr0.get()),
                StateGroups::PDPTES => {
                    let entries = [guest::PDPTE0_FULL, guest::PDPTE1_FULL, guest::PDPTE2_FULL, guest::PDPTE3_FULL];
                    put!(state, pdptes, entries.map(|field| vmcs.read(field)));
                }
                StateGroups::DEBUG => self.debug.store(state),
                StateGroups::PENDING_DEBUG => store!(vmcs, state, pending_debug, guest::PENDING_DBG_EXCEPTIONS),
                StateGroups::SHADOW => {
                    let number = self.shadowed.number.get();
                    put!(state, shadow, self.space.get().map_or([0; 6], |space| space.shadow.counters(number)));
                }
                _ => {}
            }
        }
        put!(state, valid, (StateGroups::from_bits_truncate(get!(state, valid)) | groups).bits());
    }

    #[inline(always)]
    pub(super) fn store_interrupt_state(&self, vmcs: Vmcs, state: State) {
        store!(vmcs, state, rip, guest::RIP);
        store!(vmcs, state, rflags, guest::RFLAGS);
        put!(state, interruptibility, vmcs.read(guest::INTERRUPTIBILITY_STATE) as u32);
        // An instruction has just been executed, so the processor was active.
        put!(state, activity, 0);
        put!(state, valid, INTERRUPT_STATE.bits());
    }

    #[inline(always)]
    pub(super) fn store_control_registers(&self, vmcs: Vmcs, state: State) {
        let cr0 = self.controls.get().cr0.view(vmcs.read(guest::CR0), vmcs.read(control::CR0_READ_SHADOW));
        let cr4 = self.controls.get().cr4.view(vmcs.read(guest::CR4), vmcs.read(control::CR4_READ_SHADOW));
        put!(state, cr0, cr0);
        put!(state, cr4, cr4);
        if self.shadowed.on.get() {
            self.store_paging(state);
        } else {
            store!(vmcs, state, cr3, guest::CR3);
            store!(vmcs, state, efer, guest::IA32_EFER_FULL);
        }
    }

    fn store_system_registers(&self, vmcs: Vmcs, state: State) {
        store!(vmcs, state, dr7, guest::DR7);
        store!(vmcs, state, sysenter_cs, guest::IA32_SYSENTER_CS);
        store!(vmcs, state, sysenter_esp, guest::IA32_SYSENTER_ESP);
        store!(vmcs, state, sysenter_eip, guest::IA32_SYSENTER_EIP);
        store!(vmcs, state, pat, guest::IA32_PAT_FULL);
        put!(state, star, self.msrs.guest_value(msr::STAR));
        put!(state, lstar, self.msrs.guest_value(msr::LSTAR));
        put!(state, fmask, self.msrs.guest_value(msr::FMASK));
        put!(state, kernel_gs_base, self.msrs.guest_value(msr::KERNEL_GS_BASE));
    }
}
