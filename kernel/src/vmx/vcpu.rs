//! The guest processor: its pages, its set-up, and a run.

use crate::arch::control::fault_address;
use crate::object::linked;
use crate::object::partition::Partition;
use crate::object::thread::Thread;
use crate::time;
use crate::vmx::apic_guard::Guard;
use crate::vmx::capabilities::Capabilities;
use crate::vmx::controls::Controls;
use crate::vmx::cpu::VmxCpu;
use crate::vmx::debug::DebugRegisters;
use crate::vmx::entry::{self, EntryState};
use crate::vmx::exit::{Outcome, reason::INVALID_GUEST_STATE};
use crate::vmx::fpu;
use crate::vmx::guest_space::GuestSpace;
use crate::vmx::invalidate::invalidate_vpid;
use crate::vmx::msr::MsrAreas;
use crate::vmx::page::Page;
use crate::vmx::shadow::{Duty, Shadowed};
use crate::vmx::state::{State, get, put};
use crate::vmx::vmcs::Vmcs;
use crate::vmx::vpid::allocate_vpid;
use bulkhead_abi::{ApicMode, Error, GuestPaging, NO_DEADLINE, StateGroups};
use bulkhead_core::object::ObjectHeader;
use bulkhead_core::phys::{HostPhysical, KernelObject, Ref, window_base};
use bulkhead_core::queue::Links;
use core::arch::asm;
use core::cell::Cell;
use core::mem::offset_of;
use x86::msr::{IA32_EFER, IA32_PAT};
use x86::vmx::vmcs::{control, guest, host};

/// A guest processor. Eight pages.
#[repr(C, align(4096))]
pub struct Vcpu {
    /// Common to all objects.
    pub header: ObjectHeader,
    pub(super) entry: EntryState,
    /// The guest space whose memory it sees.
    pub space: Cell<Option<Ref<GuestSpace>>>,
    /// Its space is there, and its processor has nothing outdated cached of it: what an entry looks at.
    pub(super) may_enter: Cell<bool>,
    /// Among the vCPUs of its space.
    in_space: Links<Vcpu>,
    /// The thread that runs it at the moment.
    pub runner: Cell<Option<Ref<Thread>>>,
    /// The partition in whose space the shared page is mapped, and where.
    pub state_mapping: Cell<Option<(Ref<Partition>, u64)>>,
    /// Among the vCPUs whose shared page is mapped in the same partition.
    mapped_here: Links<Vcpu>,
    /// Number of the processor on which it runs.
    pub cpu: Cell<u32>,
    /// Host CR3 in the VMCS.
    host_cr3: Cell<u64>,
    /// TSC value that ends a run.
    pub(super) deadline: Cell<u64>,
    /// The processor whose VMX state the VMCS is set up for, as an address; 0 while it is clear.
    pub(super) home: Cell<u64>,
    /// The VMCS has been written in full once.
    complete: Cell<bool>,
    pub(super) shadowed: Shadowed,
    pub(super) vpid: Cell<u16>,
    pub(super) controls: Cell<Controls>,
    /// The primary controls as they are now.
    pub(super) primary: Cell<u32>,
    pub(super) apic_mode: Cell<ApicMode>,
    /// Not 0: before the next entry, see to shadow paging, requested interrupts, or the local timer.
    pub(super) attention: Cell<u32>,
    pub(super) guard: Cell<Guard>,
    /// Bits of signals that stand for interrupts of the guest, and the vector of each.
    pub(super) direct: Cell<u64>,
    pub(super) direct_vectors: [Cell<u8>; 64],
    pub(super) xcr0: Cell<u64>,
    pub(super) debug: DebugRegisters,
    pub(super) msrs: MsrAreas,
    vmcs: Page,
    state: Page,
    pub(super) virtual_apic: Page,
    pub(super) msr_bitmap: Page,
    extended: [Page; fpu::AREA_BYTES / 4096],
}

const _: () = assert!(size_of::<Vcpu>() as u64 == Vcpu::PAGES * 4096);
const _: () = assert!(offset_of!(Vcpu, msrs) % 16 == 0);

const _: () = assert!(offset_of!(Vcpu, virtual_apic) == offset_of!(Vcpu, state) + 4096);

// SAFETY: cells, plain pages, and an enum with a variant of value 0, for which zero is valid.
unsafe impl KernelObject for Vcpu {}

/// Marks the lists of spaces' vCPUs.
pub struct InSpace;
/// Marks the lists of vCPUs whose shared page is mapped in a partition.
pub struct MappedHere;

linked! {
    Vcpu, InSpace => in_space;
    Vcpu, MappedHere => mapped_here;
}

/// IA32_PAT after reset.
const PAT_AFTER_RESET: u64 = 0x0007_0406_0007_0406;

impl Vcpu {
    /// Pages that the object takes.
    pub const PAGES: u64 = 8;

    /// Makes zeroed memory a vCPU in the state after reset, which its monitor may change before the first run.
    pub fn initialise(&self, space: Ref<GuestSpace>, cpu: u32) {
        self.space.set(Some(space));
        space.vcpus.push_front(self.reference());
        self.initialise_shadow(space);
        self.cpu.set(cpu);
        self.vpid.set(allocate_vpid());
        self.deadline.set(NO_DEADLINE);
        self.xcr0.set(fpu::X87);
        self.msr_bitmap.fill(0xff);
        self.msrs.initialise();
        fpu::initialise(self.extended_area());
        let state = self.state();
        put!(state, dirty, StateGroups::all().bits());
        put!(state, rip, 0xfff0);
        put!(state, rflags, 2);
        put!(state, cr0, 0x6000_0010);
        put!(state, xcr0, fpu::X87);
        put!(state, dr7, 0x400);
        put!(state, pat, PAT_AFTER_RESET);
        put!(state, deadline, NO_DEADLINE);
        put!(state, gdtr, bulkhead_abi::Segment { limit: 0xffff, ..Default::default() });
        put!(state, idtr, bulkhead_abi::Segment { limit: 0xffff, ..Default::default() });
        let reset = |access| bulkhead_abi::Segment { limit: 0xffff, access, ..Default::default() };
        let [data, code, local, task] = [reset(0x93), reset(0x9b), reset(0x82), reset(0x8b)];
        let code = bulkhead_abi::Segment { base: 0xffff_0000, selector: 0xf000, ..code };
        put!(state, segments, [data, code, data, data, data, data, local, task]);
    }

    pub(super) fn physical(&self) -> u64 {
        (core::ptr::from_ref(self) as u64).wrapping_sub(window_base())
    }

    fn reference(&self) -> Ref<Self> {
        // SAFETY: the vCPU is a kernel object in the window; it is at its address.
        unsafe { HostPhysical(self.physical()).object() }
    }

    /// Whether the VMCS is current on this processor.
    pub(super) fn is_current(&self, cpu: &VmxCpu) -> bool {
        cpu.current.get().is_some_and(|vcpu| core::ptr::eq(&*vcpu, self))
    }

    /// The first of the two pages shared with the monitor, to map for it.
    pub fn state_page(&self) -> HostPhysical {
        self.state.physical()
    }

    /// Lets the guest access an MSR directly, for reading or writing or both; otherwise accesses exit.
    pub fn pass_msr(&self, register: u32, read: bool, write: bool) -> Result<(), Error> {
        if self.shadowed.on.get() && matches!(register, IA32_EFER | IA32_PAT) {
            // The hardware's have not the guest's values: accesses exit.
            return Ok(());
        }
        self.msrs.pass(&self.msr_bitmap, register, read, write, self.complete.get())
    }

    /// Takes the vCPU off its processor: VMCS and extended state go to memory. Must be called by that processor, before the
    /// vCPU is run by another one or destroyed.
    pub fn clear(&self, cpu: &VmxCpu) {
        if self.is_current(cpu) {
            fpu::switch(cpu, Some(self), None);
            DebugRegisters::switch(Some(self), None);
            cpu.current.set(None);
        }
        if self.home.get() == core::ptr::from_ref(cpu) as u64 {
            // SAFETY: the VMCS is one of this processor, by the comparison.
            unsafe { Vmcs::clear(self.vmcs.physical()) };
            self.home.set(0);
            self.entry.reset();
            // Clearing keeps the fields, but the next processor's host state is another.
            self.host_cr3.set(0);
        }
    }

    /// Runs the guest until an exit. Interrupts are off before, meanwhile and after; a pending one ends the run.
    /// At TSC value `limit` it ends at the latest, whatever the guest does: not every event that is masked for the host interrupts
    /// a guest on every processor model, but its preemption timer does. A processor without that has the local timer only, see
    /// [`Self::attend`].
    pub fn run(&self, cpu: &VmxCpu, limit: u64) -> Outcome {
        if !self.is_current(cpu) {
            if self.bind(cpu).is_none() {
                return self.refuse(INVALID_GUEST_STATE, Error::WrongCpu as u64);
            }
            touch_interrupt_flag();
        }
        // SAFETY: the vCPU's VMCS is current, by `bind`.
        let vmcs = unsafe { Vmcs::current() };
        let state = self.state();
        let dirty = get!(state, dirty);
        if dirty & StateGroups::DEADLINE.bits() != 0 {
            self.deadline.set(get!(state, deadline));
        }
        match cpu.timer_ticks(self.deadline.get().min(limit)) {
            // SAFETY: the timer, which only ends the run, or a field that nothing uses: there are no CR3 targets.
            Some(ticks) => unsafe { vmcs.write(cpu.timer_field.get(), ticks) },
            None => return self.time_is_up(vmcs, cpu),
        }
        if dirty != 0 {
            if dirty & StateGroups::RIP.bits() != 0 {
                self.load_instruction_pointer(vmcs, state);
            }
            if dirty != StateGroups::RIP.bits()
                && let Err(refused) = self.load(vmcs, cpu, StateGroups::from_bits_truncate(dirty))
            {
                return self.refuse(INVALID_GUEST_STATE, refused.bits());
            }
            put!(state, dirty, 0);
        }
        if self.posted() | self.attention.get() != 0
            && let Some(outcome) = self.attend(vmcs, cpu, state)
        {
            return outcome;
        }
        self.refresh(vmcs);
        load_fault_address(get!(state, cr2));
        // SAFETY: the VMCS is complete since `bind`; its host state is this processor's, its stack the caller's.
        let entered = unsafe { entry::enter(&self.entry, state) };
        if !entered {
            return self.entry_refused(vmcs);
        }
        self.entry.launched.set(1);
        put!(state, cr2, fault_address());
        cpu.host.after_exit();
        self.exited(vmcs, cpu)
    }

    /// Sees to what is seldom to be seen to before an entry.
    #[inline(never)]
    fn attend(&self, vmcs: Vmcs, cpu: &VmxCpu, state: State) -> Option<Outcome> {
        let duty = self.shadowed.duty.take();
        if duty != Duty::Nothing {
            return Some(Outcome::Paging(duty));
        }
        self.attention.set(0);
        self.take_posted(vmcs);
        self.guard_requests(vmcs, state);
        if cpu.timer_field.get() != guest::VMX_PREEMPTION_TIMER_VALUE {
            // Its interrupt ends the run; that of the kernel's own deadline does anyway.
            time::arm_by(self.deadline.get());
            self.attention.set(1);
        }
        None
    }

    /// Brings the host's address space up to date.
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
    }

    /// Makes the vCPU current on this processor. Nothing if it is at home on another one, or the processor cannot run it.
    #[cold]
    pub(super) fn bind(&self, cpu: &VmxCpu) -> Option<()> {
        let here = core::ptr::from_ref(cpu) as u64;
        let arrives = self.home.get() == 0;
        if !cpu.is_enabled.get() || self.space.get().is_none() || !arrives && self.home.get() != here {
            return None;
        }
        if !arrives {
            return self.make_current(cpu).map(|_| ());
        }
        // SAFETY: the page is the vCPU's region, which no processor has active while the vCPU has no home; VMX is on.
        unsafe { Vmcs::clear(self.vmcs.physical()) };
        let capabilities = Capabilities::read()?;
        let with_vpid = self.vpid.get() != 0 && capabilities.has_vpid() && !self.shadowed.on.get();
        let with_rdtscp = self.msrs.with_tsc_aux.get();
        let paging = if self.shadowed.on.get() { GuestPaging::Shadow } else { GuestPaging::Ept };
        let controls = Controls::compute(&capabilities, paging, with_vpid, with_rdtscp, cpu.host.cr4.get())?;
        // SAFETY: the first word of the region is the revision identifier; the region is clear.
        unsafe { self.vmcs.pointer().cast::<u32>().write_volatile(capabilities.revision) };
        let vmcs = self.make_current(cpu)?;
        if !self.complete.replace(true) {
            self.set_up(vmcs, &controls);
        }
        // SAFETY: `guest_exited` expects the stack that `enter` sets.
        unsafe { cpu.host.load(vmcs, entry::guest_exited as *const () as u64) };
        let areas = self.physical() + offset_of!(Self, msrs) as u64;
        self.msrs.load(vmcs, HostPhysical(areas), self.shadowed.on.get());
        // What this processor remembers may be of the vCPU's last stay, or of another that had the same identifier.
        if capabilities.has_vpid() {
            invalidate_vpid(self.vpid.get());
        }
        self.home.set(here);
        self.attention.set(1);
        Some(())
    }

    /// Makes the VMCS current and gives the vCPU the extended-state registers.
    fn make_current(&self, cpu: &VmxCpu) -> Option<Vmcs> {
        // SAFETY: the caller has found the VMCS at home here, or clear.
        let vmcs = unsafe { Vmcs::load(self.vmcs.physical()) }?;
        let previous = cpu.current.replace(Some(self.reference()));
        fpu::switch(cpu, previous.as_deref(), Some(self));
        DebugRegisters::switch(previous.as_deref(), Some(self));
        Some(vmcs)
    }

    /// Writes the fields that stay for ever, and notes the controls.
    fn set_up(&self, vmcs: Vmcs, controls: &Controls) {
        self.primary.set(controls.primary);
        self.controls.set(*controls);
        controls.load(vmcs);
        // SAFETY: the pages belong to the vCPU and to its space, which outlives it.
        unsafe {
            if let Some(space) = self.space.get() {
                let [low, high] = &space.io_bitmaps;
                vmcs.write(control::IO_BITMAP_A_ADDR_FULL, low.physical().0);
                vmcs.write(control::IO_BITMAP_B_ADDR_FULL, high.physical().0);
                vmcs.write(control::EPTP_FULL, space.ept_pointer());
            }
            vmcs.write(control::MSR_BITMAPS_ADDR_FULL, self.msr_bitmap.physical().0);
            vmcs.write(control::VPID, u64::from(self.vpid.get()));
        }
        vmcs.set_guest::<{ guest::LINK_PTR_FULL }>(!0);
        vmcs.set_guest::<{ guest::IA32_DEBUGCTL_FULL }>(0);
        // What the monitor has not marked yet is loaded all the same.
        let state = self.state();
        put!(state, dirty, StateGroups::all().bits());
    }

    /// The shared page.
    pub(super) fn state(&self) -> State {
        // SAFETY: the page is part of the vCPU.
        unsafe { State::new(self.state.pointer().cast()) }
    }

    /// Where extended state is kept: page-aligned, `fpu::AREA_BYTES` long.
    pub(super) fn extended_area(&self) -> *mut u8 {
        core::ptr::from_ref(&self.extended).cast::<u8>().cast_mut()
    }
}

/// Sets and clears the interrupt flag, so that no interrupt comes in between: STI holds interrupts back for one instruction.
///
/// A processor does not need it. Bochs 2.7 works out which events the interrupt flag masks when the flag changes, and not at
/// an exit or an entry: a guest that is entered with interrupts off right after another one that had them on would be
/// interrupted. The kernel lock is not held here, so that an NMI in between, which ends the holding back, does no harm.
fn touch_interrupt_flag() {
    // SAFETY: interrupts are off before and after.
    unsafe { asm!("sti", "cli", options(nomem, nostack)) };
}

/// Sets CR2, unless it has the value already: writing it is slow on hardware.
#[inline(always)]
fn load_fault_address(value: u64) {
    if fault_address() != value {
        // SAFETY: the kernel reads CR2 only right after a page fault, which sets it.
        unsafe { asm!("mov cr2, {}", in(reg) value, options(nomem, nostack, preserves_flags)) };
    }
}
