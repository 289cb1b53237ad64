//! The host state that every VM exit restores.

use crate::arch::cpu;
use crate::arch::descriptors::{KERNEL_CODE, KERNEL_DATA, TASK};
use crate::arch::msr;
use crate::vmx::vmcs::Vmcs;
use core::arch::asm;
use core::cell::Cell;
use x86::dtables::{DescriptorTablePointer, sgdt, sidt};
use x86::msr::{IA32_EFER, IA32_FS_BASE, IA32_GS_BASE, IA32_PAT};
use x86::vmx::vmcs::host;

/// CR4.OSXSAVE, which is on only while extended state is switched, so that native programs cannot read a guest's XCR0.
pub const CR4_OSXSAVE: u64 = 1 << 18;

/// What of one processor's own state is needed apart from exits' restoring it.
pub struct HostState {
    /// CR4 as the processor runs with it.
    pub cr4: Cell<u64>,
    /// Where the descriptor table is, as LGDT reads it.
    descriptors: Cell<[u16; 5]>,
    /// An exit has cut the limit of the task register since it was loaded.
    pub task_limit_lost: Cell<bool>,
}

impl HostState {
    /// Notes the state of the processor that executes this.
    pub fn capture(&self) {
        let cr4: u64;
        // SAFETY: reading registers; SGDT stores 10 bytes.
        unsafe {
            asm!("sgdt [{}]", "mov {}, cr4", in(reg) self.descriptors.as_ptr(), out(reg) cr4, options(nostack, preserves_flags));
        }
        self.cr4.set(cr4 & !CR4_OSXSAVE);
    }

    /// Writes the host-state area: the state of the processor that executes this, except the stack and CR3, which entries keep
    /// up to date.
    ///
    /// # Safety
    /// `exit_entry` must be code that an exit may start with the stack that entries set.
    pub unsafe fn load(&self, vmcs: Vmcs, exit_entry: u64) {
        let (mut descriptors, mut interrupts) = <(DescriptorTablePointer<u64>, DescriptorTablePointer<u64>)>::default();
        // SAFETY: the values are those that the processor runs with; the MSRs exist on every 64-bit processor; the caller answers
        // for the entry point.
        unsafe {
            sgdt(&mut descriptors);
            sidt(&mut interrupts);
            for (field, register) in [
                (host::FS_BASE, IA32_FS_BASE),
                (host::GS_BASE, IA32_GS_BASE),
                (host::IA32_PAT_FULL, IA32_PAT),
                (host::IA32_EFER_FULL, IA32_EFER),
            ] {
                vmcs.write(field, msr::read(register));
            }
            for (field, value) in [
                (host::CR0, x86::controlregs::cr0().bits() as u64),
                (host::CR4, self.cr4.get()),
                (host::ES_SELECTOR, 0),
                (host::DS_SELECTOR, 0),
                (host::FS_SELECTOR, 0),
                (host::GS_SELECTOR, 0),
                (host::CS_SELECTOR, u64::from(KERNEL_CODE)),
                (host::SS_SELECTOR, u64::from(KERNEL_DATA)),
                (host::TR_SELECTOR, u64::from(TASK)),
                (host::TR_BASE, core::ptr::from_ref(&cpu::this().task) as u64),
                (host::GDTR_BASE, descriptors.base as u64),
                (host::IDTR_BASE, interrupts.base as u64),
                (host::IA32_SYSENTER_CS, 0),
                (host::IA32_SYSENTER_ESP, 0),
                (host::IA32_SYSENTER_EIP, 0),
                (host::RIP, exit_entry),
            ] {
                vmcs.write(field, value);
            }
        }
    }

    /// Mends what an exit leaves wider than it was: it sets the limit of the descriptor table to 64 KiB (SDM vol. 3, 28.5.2),
    /// by which programs could load what lies behind the table as segment descriptors. The task register can wait.
    #[inline(always)]
    pub fn after_exit(&self) {
        self.task_limit_lost.set(true);
        // SAFETY: the limit and base that `capture` found loaded.
        unsafe { asm!("lgdt [{}]", in(reg) self.descriptors.as_ptr(), options(nostack, readonly, preserves_flags)) };
    }
}
