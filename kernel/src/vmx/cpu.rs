//! What VMX keeps per processor.

use crate::arch::{cpu, msr};
use crate::time;
use crate::vmx::capabilities::{Capabilities, extended_components};
use crate::vmx::controls::Controls;
use crate::vmx::host::HostState;
use crate::vmx::vcpu::Vcpu;
use bulkhead_abi::GuestPaging;
use bulkhead_core::page_table::PageSize;
use bulkhead_core::phys::Ref;
use core::cell::Cell;
use x86::vmx::vmcs::{control, guest};

/// How often a second a guest is left at least: some processor models hold back an interrupt for the host while the guest's
/// own interrupts are off, and another processor may be waiting for its answer.
const STAYS_PER_SECOND: u64 = 100;

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
    /// Most ticks of the preemption timer in one stay in a guest.
    longest: Cell<u64>,
    /// The largest page that guest spaces can map; nothing without VMX.
    pub largest_page: Cell<Option<PageSize>>,
    /// Local APICs of guests are virtualized.
    pub has_virtual_apic: Cell<bool>,
    pub(super) tpr_shadow: Cell<bool>,
    /// The field of the VMCS for the preemption timer; without one, a field that nothing uses.
    pub(super) timer_field: Cell<u32>,
    /// Guests can run here.
    pub is_enabled: Cell<bool>,
    /// Guests can run here with extended page tables.
    pub has_ept: Cell<bool>,
}

impl VmxCpu {
    /// Notes the host state that exits restore. To be called by the processor itself when VMX is on and its descriptor
    /// tables, GS base, paging and system-call MSRs are final.
    pub fn prepare(&self) {
        let Some(capabilities) = Capabilities::read() else { return };
        self.host.capture();
        self.components.set(extended_components());
        self.timer_shift.set(capabilities.timer_shift);
        let longest = (time::frequency() / STAYS_PER_SECOND) >> capabilities.timer_shift;
        self.longest.set(longest.clamp(1, u64::from(u32::MAX)));
        self.largest_page.set(Some(capabilities.largest_page()));
        self.has_virtual_apic.set(capabilities.has_virtual_apic());
        self.tpr_shadow.set(capabilities.has_tpr_shadow());
        let has_timer = capabilities.has_preemption_timer();
        self.timer_field.set(if has_timer { guest::VMX_PREEMPTION_TIMER_VALUE } else { control::CR3_TARGET_VALUE0 });
        let has = |paging| Controls::compute(&capabilities, paging, false, false, self.host.cr4.get()).is_some();
        self.is_enabled.set(has(GuestPaging::Shadow));
        self.has_ept.set(has(GuestPaging::Ept));
    }

    /// Gives the task register its limit back, which every exit cuts to the bare task state (SDM vol. 3, 28.5.2). Needed
    /// before a native thread that relies on the I/O permission bitmap runs. Answers whether it was cut.
    #[inline(always)]
    pub fn restore_task_limit(&self) -> bool {
        let lost = self.host.task_limit_lost.replace(false);
        if lost {
            cpu::this().descriptors.reload_task();
        }
        lost
    }

    /// Ticks of the preemption timer until the TSC reaches `deadline`: nothing if it has been reached.
    #[inline(always)]
    pub(super) fn timer_ticks(&self, deadline: u64) -> Option<u64> {
        let remaining = deadline.checked_sub(msr::tsc()).filter(|ticks| *ticks != 0)?;
        let ticks = (remaining >> (self.timer_shift.get() & 0x1f)) + 1;
        Some(ticks.min(self.longest.get()))
    }
}
