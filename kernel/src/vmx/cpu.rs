//! What VMX keeps per processor.

use crate::arch::msr;
use crate::vmx::capabilities::{Capabilities, extended_components};
use crate::vmx::host::HostState;
use crate::vmx::vcpu::Vcpu;
use bulkhead_core::phys::Ref;
use core::cell::Cell;

/// The VMX state of one processor. Zeroed memory is valid: a processor that runs no guests.
pub struct VmxCpu {
    /// The vCPU whose VMCS is current here, and whose extended state and XCR0 the registers hold.
    pub(super) current: Cell<Option<Ref<Vcpu>>>,
    /// What an exit restores.
    pub(super) host: HostState,
    /// Components of extended state that are switched; 0 without XSAVE.
    pub(super) components: Cell<u64>,
    /// The preemption timer's rate, as a shift of the TSC.
    pub(super) timer_shift: Cell<u32>,
    has_timer: Cell<bool>,
    enabled: Cell<bool>,
}

impl VmxCpu {
    /// Notes the host state that exits restore. To be called by the processor itself when VMX is on and its descriptor
    /// tables, GS base, paging and system-call MSRs are final.
    pub fn prepare(&self) {
        let Some(capabilities) = Capabilities::read() else {
            return;
        };
        self.host.capture();
        self.components.set(extended_components());
        self.timer_shift.set(capabilities.timer_shift);
        self.has_timer.set(capabilities.has_preemption_timer());
        self.enabled.set(capabilities.has_ept());
    }

    /// Guests can run here.
    pub fn is_enabled(&self) -> bool {
        self.enabled.get()
    }

    /// Deadlines do not end a run by themselves: the host's timer must interrupt it.
    pub fn needs_host_timer(&self) -> bool {
        !self.has_timer.get()
    }

    /// The vCPU that ran here last and has not left.
    pub fn current(&self) -> Option<Ref<Vcpu>> {
        self.current.get()
    }

    /// Gives the task register its limit back, which every exit cuts to the bare task state (SDM vol. 3, 28.5.2). Needed
    /// before a native thread that relies on the I/O permission bitmap runs. Cheap if no guest has run since.
    #[inline(always)]
    pub fn restore_task_limit(&self) {
        if self.host.task_limit_lost.replace(false) {
            self.host.reload_task_register();
        }
    }

    /// Ticks of the preemption timer until the TSC reaches `deadline`: nothing if it has been reached.
    #[inline(always)]
    pub(super) fn timer_ticks(&self, deadline: u64) -> Option<u64> {
        let remaining = deadline
            .checked_sub(msr::tsc())
            .filter(|ticks| *ticks != 0)?;
        let ticks = (remaining >> (self.timer_shift.get() & 0x1f)) + 1;
        Some(ticks.min(u64::from(u32::MAX)))
    }
}
