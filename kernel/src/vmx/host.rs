//! The host state that every VM exit restores.

use crate::arch::msr;
use crate::vmx::vmcs::Vmcs;
use core::arch::asm;
use core::cell::Cell;
use x86::dtables::{DescriptorTablePointer, sgdt, sidt};
use x86::msr::{
    IA32_EFER, IA32_FMASK, IA32_FS_BASE, IA32_GS_BASE, IA32_KERNEL_GSBASE, IA32_LSTAR, IA32_PAT, IA32_STAR,
    IA32_TSC_AUX,
};
use x86::vmx::vmcs::host;

/// CR4.OSXSAVE, which is on only while extended state is switched, so that native programs cannot read a guest's XCR0.
pub const CR4_OSXSAVE: u64 = 1 << 18;

/// One processor's own state, as exits restore it.
pub struct HostState {
    cr0: Cell<u64>,
    cr4: Cell<u64>,
    fs_base: Cell<u64>,
    gs_base: Cell<u64>,
    task_base: Cell<u64>,
    interrupt_table: Cell<u64>,
    descriptor_table: Cell<u64>,
    pat: Cell<u64>,
    code_selector: Cell<u16>,
    stack_selector: Cell<u16>,
    task_selector: Cell<u16>,
    /// Limit and base, as LGDT reads them; the first word is padding.
    descriptor_pointer: Cell<[u16; 8]>,
    /// An exit has cut the limit of the task register since it was loaded.
    pub task_limit_lost: Cell<bool>,
    /// IA32_EFER.
    pub efer: Cell<u64>,
    /// IA32_STAR.
    pub star: Cell<u64>,
    /// IA32_LSTAR.
    pub lstar: Cell<u64>,
    /// IA32_FMASK.
    pub fmask: Cell<u64>,
    /// IA32_KERNEL_GS_BASE while in the kernel: the GS base of native programs.
    pub user_gs_base: Cell<u64>,
    /// IA32_TSC_AUX.
    pub tsc_aux: Cell<u64>,
}

impl HostState {
    /// Notes the state of the processor that executes this.
    pub fn capture(&self) {
        let mut descriptors = DescriptorTablePointer::<u64>::default();
        let mut interrupts = DescriptorTablePointer::<u64>::default();
        // SAFETY: reading control registers, descriptor-table registers and MSRs that every 64-bit processor has.
        unsafe {
            sgdt(&mut descriptors);
            sidt(&mut interrupts);
            self.cr0.set(x86::controlregs::cr0().bits() as u64);
            let cr4: u64;
            asm!("mov {}, cr4", out(reg) cr4, options(nostack, nomem, preserves_flags));
            self.cr4.set(cr4 & !CR4_OSXSAVE);
            self.fs_base.set(msr::read(IA32_FS_BASE));
            self.gs_base.set(msr::read(IA32_GS_BASE));
            self.pat.set(msr::read(IA32_PAT));
            self.efer.set(msr::read(IA32_EFER));
            self.star.set(msr::read(IA32_STAR));
            self.lstar.set(msr::read(IA32_LSTAR));
            self.fmask.set(msr::read(IA32_FMASK));
            self.user_gs_base.set(msr::read(IA32_KERNEL_GSBASE));
            if crate::vmx::capabilities::has_tsc_aux() {
                self.tsc_aux.set(msr::read(IA32_TSC_AUX));
            }
            self.task_selector.set(x86::task::tr().bits());
        }
        self.code_selector.set(x86::segmentation::cs().bits());
        self.stack_selector.set(x86::segmentation::ss().bits());
        let (limit, base) = (descriptors.limit, descriptors.base as u64);
        self.interrupt_table.set(interrupts.base as u64);
        self.descriptor_table.set(base);
        let part = |index: u32| (base >> (16 * index)) as u16;
        self.descriptor_pointer.set([0, 0, 0, limit, part(0), part(1), part(2), part(3)]);
        let (low, high) = self.task_descriptor();
        // SAFETY: the task register was loaded from this descriptor, so it lies within the table.
        let (low, high) = unsafe { (low.read_volatile(), high.read_volatile()) };
        self.task_base.set(low >> 16 & 0xff_ffff | low >> 32 & 0xff00_0000 | high << 32);
    }

    fn task_descriptor(&self) -> (*mut u64, *mut u64) {
        let low = (self.descriptor_table.get() + u64::from(self.task_selector.get() & 0xfff8)) as *mut u64;
        (low, low.wrapping_add(1))
    }

    /// Writes the host-state area, except the stack and CR3, which entries keep up to date.
    ///
    /// # Safety
    /// `exit_entry` must be code that an exit may start with the stack that entries set.
    pub unsafe fn load(&self, vmcs: Vmcs, exit_entry: u64) {
        // SAFETY: the values are those that the processor runs with; the caller answers for the entry point.
        unsafe {
            vmcs.write(host::CR0, self.cr0.get());
            vmcs.write(host::CR4, self.cr4.get());
            for selector in [host::ES_SELECTOR, host::DS_SELECTOR, host::FS_SELECTOR, host::GS_SELECTOR] {
                vmcs.write(selector, 0);
            }
            vmcs.write(host::CS_SELECTOR, u64::from(self.code_selector.get()));
            vmcs.write(host::SS_SELECTOR, u64::from(self.stack_selector.get()));
            vmcs.write(host::TR_SELECTOR, u64::from(self.task_selector.get()));
            vmcs.write(host::FS_BASE, self.fs_base.get());
            vmcs.write(host::GS_BASE, self.gs_base.get());
            vmcs.write(host::TR_BASE, self.task_base.get());
            vmcs.write(host::GDTR_BASE, self.descriptor_table.get());
            vmcs.write(host::IDTR_BASE, self.interrupt_table.get());
            vmcs.write(host::IA32_SYSENTER_CS, 0);
            vmcs.write(host::IA32_SYSENTER_ESP, 0);
            vmcs.write(host::IA32_SYSENTER_EIP, 0);
            vmcs.write(host::IA32_PAT_FULL, self.pat.get());
            vmcs.write(host::IA32_EFER_FULL, self.efer.get());
            vmcs.write(host::RIP, exit_entry);
        }
    }

    /// CR4 as the processor runs with it.
    pub fn cr4(&self) -> u64 {
        self.cr4.get()
    }

    /// Mends what an exit leaves wider than it was: it sets the limit of the descriptor table to 64 KiB (SDM vol. 3, 28.5.2),
    /// by which programs could load what lies behind the table as segment descriptors. The task register can wait.
    #[inline(always)]
    pub fn after_exit(&self) {
        self.task_limit_lost.set(true);
        // SAFETY: the pointer holds the limit and base that `capture` found loaded.
        unsafe {
            asm!("lgdt [{} + 6]", in(reg) self.descriptor_pointer.as_ptr(), options(nostack, readonly, preserves_flags));
        }
    }

    /// Loads the task register again, for its full limit.
    pub fn reload_task_register(&self) {
        let (low, _) = self.task_descriptor();
        // SAFETY: the descriptor is that of the task state in use; LTR wants it marked available (SDM vol. 2, LTR).
        unsafe {
            low.write_volatile(low.read_volatile() & !(1 << 41));
            asm!("ltr {:x}", in(reg) self.task_selector.get(), options(nostack, preserves_flags));
        }
    }
}
