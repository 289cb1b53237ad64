//! The guest processor: its pages, its set-up, and a run.

use crate::vmx::capabilities::Capabilities;
use crate::vmx::controls::{Controls, OwnedBits};
use crate::vmx::cpu::VmxCpu;
use crate::vmx::entry::{self, EntryState};
use crate::vmx::exit::Outcome;
use crate::vmx::fpu;
use crate::vmx::guest_space::GuestSpace;
use crate::vmx::invalidate::{invalidate_guest_space, invalidate_vpid};
use crate::vmx::msr::MsrAreas;
use crate::vmx::page::Page;
use crate::vmx::state::{State, get, put};
use crate::vmx::vmcs::Vmcs;
use bulkhead_abi::{Error, ExitReason, NO_DEADLINE, StateGroups};
use bulkhead_core::phys::{HostPhysical, KernelObject, Ref};
use core::arch::asm;
use core::cell::Cell;
use core::mem::offset_of;
use x86::vmx::vmcs::{control, guest, host};

/// A guest processor. Eight pages.
#[repr(C, align(4096))]
pub struct Vcpu {
    /// The capability engine's.
    pub header: [Cell<u64>; 8],
    pub(super) entry: EntryState,
    pub(super) space: Cell<Option<Ref<GuestSpace>>>,
    /// Generation of the space's tables that this vCPU's processor knows.
    space_generation: Cell<u64>,
    /// Host CR3 in the VMCS.
    host_cr3: Cell<u64>,
    /// TSC value that ends a run.
    pub(super) deadline: Cell<u64>,
    /// The processor whose VMX state the VMCS is set up for, as an address; 0 while it is clear.
    home: Cell<u64>,
    /// The VMCS has been written in full once.
    complete: Cell<bool>,
    /// The preemption timer is on in the VMCS.
    timer_on: Cell<bool>,
    has_timer: Cell<bool>,
    pub(super) has_nmi_window: Cell<bool>,
    vpid: Cell<u16>,
    /// Controls without what changes from run to run.
    pub(super) pin: Cell<u32>,
    pub(super) primary: Cell<u32>,
    pub(super) entry_controls: Cell<u32>,
    pub(super) cr0: Cell<OwnedBits>,
    pub(super) cr4: Cell<OwnedBits>,
    xcr0: Cell<u64>,
    pub(super) msrs: MsrAreas,
    /// The caller's: the thread that runs it, for example.
    pub extension: [Cell<u64>; 16],
    vmcs: Page,
    state: Page,
    msr_bitmap: Page,
    virtual_apic: Page,
    extended: [Page; fpu::AREA_BYTES / 4096],
}

const _: () = assert!(size_of::<Vcpu>() == Vcpu::PAGES * 4096);
const _: () = assert!(offset_of!(Vcpu, msrs) % 16 == 0);

// SAFETY: cells and plain pages, for which zero is valid.
unsafe impl KernelObject for Vcpu {}

/// IA32_PAT after reset.
const PAT_AFTER_RESET: u64 = 0x0007_0406_0007_0406;
/// Pin-based control: the preemption timer is on.
const PREEMPTION_TIMER: u32 = 1 << 6;

impl Vcpu {
    /// Pages that the object takes.
    pub const PAGES: usize = 8;

    /// Makes zeroed memory a vCPU in the state after reset, which its monitor may change before the first run.
    pub fn initialise(vcpu: Ref<Self>, space: Ref<GuestSpace>, vpid: u16) {
        vcpu.space.set(Some(space));
        vcpu.vpid.set(vpid);
        vcpu.deadline.set(NO_DEADLINE);
        vcpu.xcr0.set(fpu::X87);
        vcpu.msr_bitmap.fill(0xff);
        vcpu.msrs.initialise();
        fpu::initialise(vcpu.extended_area());
        let state = vcpu.state();
        put!(state, dirty, StateGroups::all().bits());
        put!(state, rip, 0xfff0);
        put!(state, rflags, 2);
        put!(state, cr0, 0x6000_0010);
        put!(state, xcr0, fpu::X87);
        put!(state, dr7, 0x400);
        put!(state, pat, PAT_AFTER_RESET);
        put!(state, deadline, NO_DEADLINE);
        put!(
            state,
            gdtr,
            bulkhead_abi::Segment {
                limit: 0xffff,
                ..Default::default()
            }
        );
        put!(
            state,
            idtr,
            bulkhead_abi::Segment {
                limit: 0xffff,
                ..Default::default()
            }
        );
        let reset = |access| bulkhead_abi::Segment {
            limit: 0xffff,
            access,
            ..Default::default()
        };
        let [data, code, local, task] = [reset(0x93), reset(0x9b), reset(0x82), reset(0x8b)];
        let code = bulkhead_abi::Segment {
            base: 0xffff_0000,
            selector: 0xf000,
            ..code
        };
        put!(
            state,
            segments,
            [data, code, data, data, data, data, local, task]
        );
    }

    /// The page shared with the monitor, to map for it.
    pub fn state_page(vcpu: Ref<Self>) -> HostPhysical {
        HostPhysical(vcpu.physical().0 + offset_of!(Self, state) as u64)
    }

    /// The guest space whose memory the vCPU sees.
    pub fn space(&self) -> Option<Ref<GuestSpace>> {
        self.space.get()
    }

    /// The identifier that `initialise` was given.
    pub fn vpid(&self) -> u16 {
        self.vpid.get()
    }

    /// Lets the guest access an MSR directly, for reading or writing or both; otherwise accesses exit.
    pub fn pass_msr(&self, register: u32, read: bool, write: bool) -> Result<(), Error> {
        self.msrs
            .pass(&self.msr_bitmap, register, read, write, self.complete.get())
    }

    /// Takes the vCPU off its processor: VMCS and extended state go to memory. Must be called by that processor, before the
    /// vCPU is run by another one or destroyed.
    pub fn clear(vcpu: Ref<Self>, cpu: &VmxCpu) {
        if cpu.current.get() == Some(vcpu) {
            fpu::switch(cpu, Some(&vcpu), None);
            cpu.current.set(None);
        }
        if vcpu.home.get() == core::ptr::from_ref(cpu) as u64 {
            // SAFETY: the VMCS is one of this processor, by the comparison.
            unsafe { Vmcs::clear(Self::vmcs_page(vcpu)) };
            vcpu.home.set(0);
            vcpu.entry.reset();
            // Clearing keeps the fields, but the next processor's host state is another.
            vcpu.host_cr3.set(0);
        }
    }

    /// Runs the guest until an exit. Interrupts are off before, meanwhile and after; a pending one ends the run.
    pub fn run(vcpu: Ref<Self>, cpu: &VmxCpu) -> Outcome {
        if cpu.current.get() != Some(vcpu) && !Self::bind(vcpu, cpu) {
            return vcpu.refuse(Error::WrongCpu as u64);
        }
        // SAFETY: the vCPU's VMCS is current, by `bind`.
        let vmcs = unsafe { Vmcs::current() };
        let state = vcpu.state();
        let dirty = get!(state, dirty);
        if dirty & StateGroups::DEADLINE.bits() != 0 {
            vcpu.deadline.set(get!(state, deadline));
        }
        let deadline = vcpu.deadline.get();
        if (deadline != NO_DEADLINE || vcpu.timer_on.get()) && !vcpu.arm_timer(vmcs, cpu, deadline)
        {
            return vcpu.deadline_passed(vmcs);
        }
        if dirty != 0 {
            if let Err(groups) = vcpu.load(vmcs, cpu, StateGroups::from_bits_truncate(dirty)) {
                return vcpu.refuse(groups.bits());
            }
            put!(state, dirty, 0);
        }
        vcpu.refresh(vmcs);
        // SAFETY: the VMCS is complete since `bind`; its host state is this processor's, its stack the caller's.
        let entered = unsafe { entry::enter(&vcpu.entry, state) };
        if !entered {
            return vcpu.entry_refused(vmcs);
        }
        vcpu.entry.launched.set(1);
        cpu.host.after_exit();
        vcpu.exited(vmcs, cpu)
    }

    /// Brings up to date what other code than this vCPU's changes: the host's address space, and the guest's.
    #[inline(always)]
    fn refresh(&self, vmcs: Vmcs) {
        let cr3: u64;
        // SAFETY: reads CR3.
        unsafe { asm!("mov {}, cr3", out(reg) cr3, options(nostack, nomem, preserves_flags)) };
        if cr3 != self.host_cr3.get() {
            self.host_cr3.set(cr3);
            // SAFETY: the address space that the processor is in maps the kernel.
            unsafe { vmcs.write(host::CR3, cr3) };
        }
        if let Some(space) = self.space.get()
            && space.generation() != self.space_generation.get()
        {
            self.space_generation.set(space.generation());
            invalidate_guest_space(GuestSpace::ept_pointer(space));
        }
    }

    /// Sets the preemption timer for a deadline, or off for none. False if the deadline has passed.
    #[inline(always)]
    fn arm_timer(&self, vmcs: Vmcs, cpu: &VmxCpu, deadline: u64) -> bool {
        let on = deadline != NO_DEADLINE;
        if on {
            let Some(ticks) = cpu.timer_ticks(deadline) else {
                return false;
            };
            if self.has_timer.get() {
                vmcs.set_guest::<{ guest::VMX_PREEMPTION_TIMER_VALUE }>(ticks);
            }
        }
        if on != self.timer_on.get() && self.has_timer.get() {
            self.timer_on.set(on);
            let pin = self.pin.get() | if on { PREEMPTION_TIMER } else { 0 };
            // SAFETY: the processor offers the timer.
            unsafe { vmcs.write(control::PINBASED_EXEC_CONTROLS, u64::from(pin)) };
        }
        true
    }

    /// Makes the vCPU current on this processor. False if it is at home on another one, or the processor cannot run it.
    #[cold]
    #[inline(never)]
    fn bind(vcpu: Ref<Self>, cpu: &VmxCpu) -> bool {
        let here = core::ptr::from_ref(cpu) as u64;
        let arrives = vcpu.home.get() == 0;
        if !cpu.is_enabled() || !arrives && vcpu.home.get() != here {
            return false;
        }
        let region = Self::vmcs_page(vcpu);
        if arrives {
            // SAFETY: the page is the vCPU's region, which no processor has active while the vCPU has no home; VMX is on.
            unsafe { Vmcs::clear(region) };
        }
        let Some(capabilities) = (if arrives { Capabilities::read() } else { None }) else {
            return !arrives && Self::make_current(vcpu, cpu).is_some();
        };
        let Some(controls) = Controls::compute(
            &capabilities,
            vcpu.vpid.get() != 0 && capabilities.has_vpid(),
            cpu.host.cr4(),
        ) else {
            return false;
        };
        // SAFETY: the first word of the region is the revision identifier; the region is clear.
        unsafe {
            vcpu.vmcs
                .pointer()
                .cast::<u32>()
                .write_volatile(capabilities.revision)
        };
        let Some(vmcs) = Self::make_current(vcpu, cpu) else {
            return false;
        };
        if !vcpu.complete.replace(true) {
            Self::set_up(vcpu, vmcs, &capabilities, &controls);
        }
        // SAFETY: `guest_exited` expects the stack that `enter` sets.
        unsafe { cpu.host.load(vmcs, entry::guest_exited as *const () as u64) };
        let areas = vcpu.physical().0 + offset_of!(Self, msrs) as u64;
        vcpu.msrs.load(vmcs, &cpu.host, HostPhysical(areas));
        // What this processor remembers may be of the vCPU's last stay, or of another that had the same identifier.
        if capabilities.has_vpid() {
            invalidate_vpid(vcpu.vpid.get());
        }
        vcpu.space_generation.set(0);
        vcpu.home.set(here);
        true
    }

    /// Makes the VMCS current and gives the vCPU the extended-state registers.
    fn make_current(vcpu: Ref<Self>, cpu: &VmxCpu) -> Option<Vmcs> {
        // SAFETY: the caller has found the VMCS at home here, or clear.
        let vmcs = unsafe { Vmcs::load(Self::vmcs_page(vcpu)) }?;
        let previous = cpu.current.replace(Some(vcpu));
        fpu::switch(cpu, previous.as_deref(), Some(&vcpu));
        Some(vmcs)
    }

    /// Writes the fields that stay for ever, and notes the controls.
    fn set_up(vcpu: Ref<Self>, vmcs: Vmcs, capabilities: &Capabilities, controls: &Controls) {
        vcpu.pin.set(controls.pin);
        vcpu.primary.set(controls.primary);
        vcpu.entry_controls.set(controls.entry);
        vcpu.cr0.set(controls.cr0);
        vcpu.cr4.set(controls.cr4);
        vcpu.has_timer.set(capabilities.has_preemption_timer());
        vcpu.has_nmi_window.set(controls.has_nmi_window());
        controls.load(vmcs);
        // SAFETY: the pages belong to the vCPU and to its space, which outlives it.
        unsafe {
            if let Some(space) = vcpu.space.get() {
                let [low, high] = GuestSpace::io_bitmaps(space);
                vmcs.write(control::IO_BITMAP_A_ADDR_FULL, low.0);
                vmcs.write(control::IO_BITMAP_B_ADDR_FULL, high.0);
                vmcs.write(control::EPTP_FULL, GuestSpace::ept_pointer(space));
            }
            let bitmap = vcpu.physical().0 + offset_of!(Self, msr_bitmap) as u64;
            vmcs.write(control::MSR_BITMAPS_ADDR_FULL, bitmap);
            vmcs.write(control::VPID, u64::from(vcpu.vpid.get()));
        }
        vmcs.set_guest::<{ guest::LINK_PTR_FULL }>(!0);
        vmcs.set_guest::<{ guest::IA32_DEBUGCTL_FULL }>(0);
        vmcs.set_guest::<{ guest::PENDING_DBG_EXCEPTIONS }>(0);
        // What the monitor has not marked yet is loaded all the same.
        let state = vcpu.state();
        put!(state, dirty, StateGroups::all().bits());
    }

    /// Reports that the state was refused before the hardware saw it; `what` goes to the qualification.
    #[cold]
    pub(super) fn refuse(&self, what: u64) -> Outcome {
        let state = self.state();
        put!(
            state,
            exit_reason,
            u64::from(crate::vmx::exit::reason::INVALID_GUEST_STATE)
        );
        put!(state, exit_qualification, what);
        Outcome::Vmm(ExitReason::EntryFailed)
    }

    fn vmcs_page(vcpu: Ref<Self>) -> HostPhysical {
        HostPhysical(vcpu.physical().0 + offset_of!(Self, vmcs) as u64)
    }

    /// The shared page.
    #[inline(always)]
    pub(super) fn state(&self) -> State {
        // SAFETY: the page is part of the vCPU.
        unsafe { State::new(self.state.pointer().cast()) }
    }

    /// Where extended state is kept: page-aligned, `fpu::AREA_BYTES` long.
    pub(super) fn extended_area(&self) -> *mut u8 {
        core::ptr::from_ref(&self.extended).cast::<u8>().cast_mut()
    }

    /// XCR0 of the guest.
    pub(super) fn xcr0(&self) -> u64 {
        self.xcr0.get()
    }

    /// Sets XCR0 of the guest, whose extended state the registers hold. False if the processor would not accept it.
    pub(super) fn set_xcr0(&self, cpu: &VmxCpu, value: u64) -> bool {
        let valid = fpu::is_valid_xcr0(value, cpu.components.get());
        if valid && value != self.xcr0.replace(value) {
            fpu::set_xcr0(cpu, value);
        }
        // Without XSAVE there is no XCR0; its value after reset stands for that.
        valid || cpu.components.get() == 0 && value == fpu::X87
    }
}
