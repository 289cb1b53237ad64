//! Requests that a guest cannot take yet, on a processor that delivers interrupts but does not process posted ones: Bochs 2.7.
//!
//! It delivers a requested interrupt although the guest's interrupts are off, if one of the host's arrives then
//! (`InterruptAcknowledge` in its event.cc looks at what is pending and not at what is masked). So such a guest is never
//! entered with a request that it cannot take: it exits instead when it can, and at an end of interrupt that would uncover
//! one. A processor that processes posted interrupts runs none of this.

use crate::vmx::apic::{HARDWARE_POSTING, delivers, set_eoi_exits};
use crate::vmx::load::INTERRUPT_WINDOW;
use crate::vmx::state::State;
use crate::vmx::vcpu::Vcpu;
use crate::vmx::vmcs::Vmcs;
use x86::vmx::vmcs::{control, guest};

/// RFLAGS.IF.
const INTERRUPT_FLAG: u64 = 1 << 9;

/// What the VMCS has been told beyond what the monitor asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Guard {
    /// Nothing.
    None = 0,
    /// Exit when interrupts are on; until then nothing is delivered.
    Window,
    /// Exit at the end of any interrupt.
    Ends,
}

impl Vcpu {
    /// Guards the requests of the entry to come, and of the one after it if there are any.
    pub(super) fn guard_requests(&self, vmcs: Vmcs, state: State) {
        if !delivers(self.apic_mode.get()) || self.controls.get().pin_with_posting & HARDWARE_POSTING != 0 {
            return;
        }
        let status = vmcs.read(guest::INTERRUPT_STATUS);
        let (highest, in_service) = (status & 0xff, status >> 8 & 0xff);
        self.attention.set((highest != 0).into());
        let guard = if highest == 0 {
            Guard::None
        } else if vmcs.read(guest::RFLAGS) & INTERRUPT_FLAG == 0 {
            Guard::Window
        } else if in_service != 0 || self.is_requested_beside(highest) {
            Guard::Ends
        } else {
            Guard::None
        };
        let before = self.guard.replace(guard);
        if before == guard {
            return;
        }
        let window = if guard == Guard::Window { INTERRUPT_WINDOW } else { 0 };
        // SAFETY: window exiting takes nothing from the host.
        unsafe { vmcs.write(control::PRIMARY_PROCBASED_EXEC_CONTROLS, u64::from(self.primary.get() | window)) };
        if guard == Guard::Ends || before == Guard::Ends {
            set_eoi_exits(vmcs, state, guard == Guard::Ends);
        }
    }
}
