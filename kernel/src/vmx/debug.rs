//! Debug registers of guests (SDM vol. 3, 18.2).
//!
//! DR7 is a field of the VMCS, and every exit resets the processor's (28.5.1): no guest's breakpoint acts on the host, so DR0 to
//! DR3 and DR6 may stay what a guest left there until another vCPU comes to the processor. DR0 to DR3 matter only to a guest
//! that has a breakpoint enabled; guests read and write all of them by exits.

use crate::vmx::state::{State, get, put};
use crate::vmx::vcpu::Vcpu;
use crate::vmx::vmcs::Vmcs;
use core::arch::asm;
use core::cell::Cell;
use x86::vmx::vmcs::guest;

/// DR7: enables of the four breakpoints, local and global.
const DR7_ENABLES: u64 = 0xff;
/// DR7: every bit that is defined; of the others bit 10 is 1.
const DR7_DEFINED: u64 = 0xffff_23ff;
const DR7_FIXED: u64 = 1 << 10;
/// DR6: bits that software may clear and set; the others of the lower half are 1, but for bit 12. MOV to DR6 faults when a bit
/// of the upper half is set.
const DR6_WRITABLE: u64 = 0xe00f;
const DR6_FIXED: u64 = 0xffff_0ff0;

/// The registers of one vCPU that the VMCS has no field for.
pub struct DebugRegisters {
    addresses: [Cell<u64>; 4],
    /// DR6, while the vCPU is not current.
    status: Cell<u64>,
    /// A breakpoint is enabled in DR7.
    active: Cell<bool>,
}

impl DebugRegisters {
    /// The processor goes from one vCPU to another.
    pub fn switch(previous: Option<&Vcpu>, next: Option<&Vcpu>) {
        if let Some(vcpu) = previous {
            vcpu.debug.status.set(read_status());
        }
        if let Some(vcpu) = next {
            write_status(vcpu.debug.status.get());
            vcpu.debug.load_addresses();
        }
    }

    /// Loads DR7 for the current vCPU.
    pub fn load_control(&self, vmcs: Vmcs, value: u64) {
        vmcs.set_guest::<{ guest::DR7 }>(value & DR7_DEFINED | DR7_FIXED);
        self.active.set(value & DR7_ENABLES != 0);
        self.load_addresses();
    }

    /// Loads what the monitor changed, for the current vCPU.
    pub fn load(&self, state: State) {
        let addresses = get!(state, dr);
        for (place, address) in self.addresses.iter().zip(addresses) {
            place.set(address);
        }
        write_status(get!(state, dr6));
        self.load_addresses();
    }

    /// Stores the current vCPU's for the monitor.
    pub fn store(&self, state: State) {
        put!(state, dr, self.addresses.each_ref().map(Cell::get));
        put!(state, dr6, read_status());
    }

    fn load_addresses(&self) {
        if self.active.get() {
            let [dr0, dr1, dr2, dr3] = self.addresses.each_ref().map(Cell::get);
            // SAFETY: all values are valid; no breakpoint is enabled outside of guests.
            unsafe {
                asm!("mov dr0, {}", "mov dr1, {}", "mov dr2, {}", "mov dr3, {}",
                     in(reg) dr0, in(reg) dr1, in(reg) dr2, in(reg) dr3, options(nomem, nostack, preserves_flags));
            }
        }
    }
}

fn read_status() -> u64 {
    let value;
    // SAFETY: reads DR6.
    unsafe { asm!("mov {}, dr6", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

fn write_status(value: u64) {
    // SAFETY: the upper half is 0; the kernel does not use DR6.
    unsafe {
        asm!("mov dr6, {}", in(reg) value & DR6_WRITABLE | DR6_FIXED, options(nomem, nostack, preserves_flags));
    }
}
