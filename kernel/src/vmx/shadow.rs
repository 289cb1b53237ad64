//! Shadow paging of guests: what the engine ([`bulkhead_core::shadow`]) decides is done with the VMCS.
//!
//! Such guests run without virtual-processor identifiers, so that every entry and exit empties the TLB of them. The guest's
//! control registers are in the read shadows and in [`Shadowed`]; the hardware has CR0.WP, CR4.PAE and EFER.NXE set.

use crate::object::engine;
use crate::vmx::controls::{CR0_WP, CR4_PAE};
use crate::vmx::exit::{Outcome, VALID, reason, skip_instruction};
use crate::vmx::guest_space::GuestSpace;
use crate::vmx::msr::EFER;
use crate::vmx::state::{State, get, put};
use crate::vmx::vcpu::Vcpu;
use crate::vmx::vmcs::Vmcs;
use bulkhead_abi::{ExitReason, PAGE_SIZE, Rights, StateGroups, register};
use bulkhead_core::frames::FrameRange;
use bulkhead_core::page_table::{Ept, PageTable, Pool, Translation};
use bulkhead_core::phys::{HostPhysical, Ref, window_base};
use bulkhead_core::shadow::{self, Access, Features, Machine, Mode, Paging};
use core::arch::x86_64::__cpuid;
use core::cell::Cell;
use core::mem::offset_of;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use x86::vmx::vmcs::{control, guest, ro};

/// CR4.PSE, SMEP and SMAP.
const CR4_PSE: u64 = 1 << 4;
const CR4_SMEP: u64 = 1 << 20;
const CR4_SMAP: u64 = 1 << 21;
/// EFER.LMA and NXE.
const EFER_LMA: u64 = 1 << 10;
const EFER_NXE: u64 = 1 << 11;
/// RFLAGS.AC.
const ALIGNMENT_CHECK: u64 = 1 << 18;
/// Interruption information: type and vector, and that there is an error code.
const TYPE_AND_VECTOR: u64 = 0x7ff;
const ERROR_CODE: u64 = 1 << 11;
/// Interruption information: the fault was IRET's, which had ended the blocking of NMIs; and that blocking.
const UNBLOCKED_NMI: u64 = 1 << 12;
const BLOCKING_BY_NMI: u64 = 1 << 3;
/// Event information: a page fault, and a double fault.
const PAGE_FAULT: u64 = VALID | 3 << 8 | 14;
const DOUBLE_FAULT: u64 = VALID | 3 << 8 | 8;
/// Qualification of accesses to control registers: number and kind of access; and those of MOV to CR3.
const ACCESS: u64 = 0x3f;
const MOVE_TO_CR3: u64 = 3;
/// Qualification of EPT violations: read, write, fetch; the rights of the address; a linear address is known, and the access
/// was to what it translates to.
const READ: u64 = 1 << 0;
const WRITE: u64 = 1 << 1;
const FETCH: u64 = 1 << 2;
const RIGHTS: u32 = 3;
const LINEAR: u64 = 1 << 7;
const TRANSLATED: u64 = 1 << 8;

/// What a vCPU with shadow paging keeps.
#[repr(C, align(32))]
pub struct Shadowed {
    /// The upper entries, for the hardware in PAE mode.
    upper: [Cell<u64>; 4],
    /// It has shadow paging.
    pub(super) on: Cell<bool>,
    /// Its number among the processors of its guest.
    number: Cell<u32>,
    /// The paging state that it is in.
    paging: Cell<Paging>,
    /// What is to be done before it goes on.
    pending: Cell<Pending>,
}

/// What has to be done under the kernel lock, see [`Vcpu::serve_paging`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Pending {
    Nothing,
    /// The paging state was loaded.
    Load,
    /// The same, and the monitor has interpreted instructions, which may have written to guest tables without a trace.
    LoadAnew,
    /// The last exit was a page fault.
    Fault,
    /// It was INVLPG.
    Invalidate,
}

/// The machine of a guest, for the engine.
struct Memory(Ref<GuestSpace>);

impl Memory {
    fn pointer<T>(at: HostPhysical) -> *mut T {
        at.0.wrapping_add(window_base()) as *mut T
    }
}

impl Machine for Memory {
    fn translate(&self, address: u64) -> Option<Translation> {
        if address >> 47 != 0 { None } else { PageTable::<Ept>::new(self.0.root()).translate(address) }
    }

    fn is_memory(&self, page: HostPhysical) -> bool {
        FrameRange::page(page).is_ok_and(|page| engine().frames().is_partition_ram(page))
    }

    fn read(&self, at: HostPhysical, width: u64) -> u64 {
        // SAFETY: the engine reads entries of guest tables, in pages for which `is_memory` was true and which the space still
        // maps: the window has all RAM. The guest may be writing to them, so they are read as atomics.
        unsafe {
            match width {
                4 => u64::from((*Self::pointer::<AtomicU32>(at)).load(Ordering::Acquire)),
                _ => (*Self::pointer::<AtomicU64>(at)).load(Ordering::Acquire),
            }
        }
    }

    fn exchange(&self, at: HostPhysical, width: u64, old: u64, new: u64) -> bool {
        let (done, other) = (Ordering::AcqRel, Ordering::Relaxed);
        // SAFETY: as above; the space maps the page writable.
        unsafe {
            match width {
                4 => (*Self::pointer::<AtomicU32>(at)).compare_exchange(old as u32, new as u32, done, other).is_ok(),
                _ => (*Self::pointer::<AtomicU64>(at)).compare_exchange(old, new, done, other).is_ok(),
            }
        }
    }

    // The next entry does.
    fn flush(&self) {}

    fn pool(&self) -> &Pool {
        self.0.pool()
    }
}

/// Forgets all translations of a guest's processors, since its memory map has lost a page. Those that are in the guest have to be
/// interrupted.
pub fn forget_shadows(space: Ref<GuestSpace>) {
    if !space.is_shadowed.get() {
        return;
    }
    for number in 0..shadow::MOST_PROCESSORS as u32 {
        space.shadow.forget(number, &Memory(space));
    }
}

impl Vcpu {
    /// Notes how the space is translated, as one of so many processors.
    pub(super) fn initialise_shadow(&self, space: Ref<GuestSpace>) {
        self.shadowed.on.set(space.is_shadowed.get());
        if space.is_shadowed.get() {
            // Before anything else there must be a root: the field of the VMCS is 0 at first.
            self.ask_for_paging(Pending::Load);
        }
        self.shadowed.number.set(space.processors.replace(space.processors.get() + 1));
    }

    /// Notes paging state that the monitor changed: CR0, CR4 and EFER as they were loaded, since the hardware must walk tables of
    /// the mode that it is in.
    pub(super) fn load_paging(&self, vmcs: Vmcs, [cr0, cr4, efer]: [u64; 3], state: State, groups: StateGroups) {
        let mode = match (efer & EFER_LMA != 0, cr4 & CR4_PAE != 0) {
            (true, _) => Mode::FourLevel,
            (false, true) => Mode::Pae,
            (false, false) => Mode::TwoLevel,
        };
        let mut features = Features::HUGE_PAGES;
        features.set(Features::LARGE_PAGES, cr4 & CR4_PSE != 0);
        features.set(Features::NO_EXECUTE, efer & EFER_NXE != 0);
        features.set(Features::WRITE_PROTECT, cr0 & CR0_WP != 0);
        features.set(Features::SMEP, cr4 & CR4_SMEP != 0);
        features.set(Features::SMAP, cr4 & CR4_SMAP != 0);
        let pdptes =
            if groups.contains(StateGroups::PDPTES) { get!(state, pdptes) } else { self.shadowed.paging.get().pdptes };
        let physical_bits = (__cpuid(0x8000_0008).eax & 0xff).min(47);
        let paging = Paging { mode, features, cr3: get!(state, cr3), pdptes, physical_bits };
        self.shadowed.paging.set(paging);
        let values = self.cr4.get().merge(cr4) | cr4 & (CR4_SMEP | CR4_SMAP);
        vmcs.set_guest::<{ guest::CR4 }>(values);
        self.msrs.set_guest_value(EFER, efer | EFER_NXE);
        let anew = groups.contains(StateGroups::SEGMENTS);
        self.ask_for_paging(if anew { Pending::LoadAnew } else { Pending::Load });
    }

    /// There is something to do for [`Self::serve_paging`].
    #[inline(always)]
    pub(super) fn has_pending_paging(&self) -> bool {
        self.shadowed.pending.get() != Pending::Nothing
    }

    fn ask_for_paging(&self, pending: Pending) {
        self.shadowed.pending.set(pending);
        self.attention.set(1);
    }

    /// Does what the engine is needed for, on the vCPU's processor. The kernel lock is held. A reason if the run ends.
    pub fn serve_paging(&self) -> Option<ExitReason> {
        // SAFETY: the vCPU's VMCS is current: a run has just ended with this to do, or was about to begin.
        let vmcs = unsafe { Vmcs::current() };
        let space = self.space.get()?;
        let outcome = match self.shadowed.pending.replace(Pending::Nothing) {
            Pending::Nothing => None,
            Pending::Fault => self.page_fault(vmcs, space),
            Pending::Invalidate => {
                let linear = vmcs.read(ro::EXIT_QUALIFICATION);
                space.shadow.invalidate(self.shadowed.number.get(), linear, &Memory(space));
                skip_instruction(vmcs);
                None
            }
            load => match self.load_root(vmcs, space, load == Pending::LoadAnew) {
                Some(()) => None,
                None => {
                    // Without tables of its own the guest must never be entered.
                    self.ask_for_paging(load);
                    Some(self.refuse(StateGroups::CONTROL_REGISTERS.bits()))
                }
            },
        };
        if self.shadowed.paging.get().mode != Mode::FourLevel {
            self.load_upper_entries(space);
        }
        match outcome {
            Some(Outcome::Vmm(reason)) => Some(reason),
            _ => None,
        }
    }

    fn load_root(&self, vmcs: Vmcs, space: Ref<GuestSpace>, distrust: bool) -> Option<()> {
        let shadowed = &self.shadowed;
        if !space.shadow.is_built() {
            space.shadow.build(space.pool(), space.processors.get()).ok()?;
        }
        if distrust {
            space.shadow.distrust();
        }
        let paging = shadowed.paging.get();
        let mut root = space.shadow.load(shadowed.number.get(), paging, &Memory(space))?.0;
        if paging.mode != Mode::FourLevel {
            root = self.physical() + offset_of!(Self, shadowed) as u64 + offset_of!(Shadowed, upper) as u64;
            // The hardware has CR3 of 32 bits in this mode.
            u32::try_from(root).ok()?;
        }
        vmcs.set_guest::<{ guest::CR3 }>(root);
        Some(())
    }

    fn load_upper_entries(&self, space: Ref<GuestSpace>) {
        let entries = space.shadow.upper_entries(self.shadowed.number.get());
        for (place, entry) in self.shadowed.upper.iter().zip(entries) {
            place.set(entry);
        }
    }

    /// CR3 and EFER as the guest sees them.
    pub(super) fn store_paging(&self, state: State) {
        let paging = self.shadowed.paging.get();
        let no_execute = if paging.features.contains(Features::NO_EXECUTE) { EFER_NXE } else { 0 };
        put!(state, cr3, paging.cr3);
        put!(state, efer, self.msrs.guest_value(EFER) & !EFER_NXE | no_execute);
    }

    /// MOV to CR3, unless the monitor is to look at it: with PAE, or a value that may be wrong.
    pub(super) fn move_to_cr3(&self, vmcs: Vmcs, state: State) -> Option<Outcome> {
        let qualification = vmcs.read(ro::EXIT_QUALIFICATION);
        let mut paging = self.shadowed.paging.get();
        if qualification & ACCESS != MOVE_TO_CR3 || !self.shadowed.on.get() || paging.mode == Mode::Pae {
            return None;
        }
        paging.cr3 = match (qualification >> 8) as usize & 15 {
            register::RSP => vmcs.read(guest::RSP),
            number => state.register(number),
        };
        if paging.mode == Mode::TwoLevel {
            paging.cr3 &= 0xffff_ffff;
        }
        if paging.cr3 >> paging.physical_bits != 0 {
            return None;
        }
        self.shadowed.paging.set(paging);
        self.ask_for_paging(Pending::Load);
        skip_instruction(vmcs);
        Some(Outcome::Paging)
    }

    /// INVLPG.
    pub(super) fn invalidate_page(&self) -> Outcome {
        self.ask_for_paging(Pending::Invalidate);
        Outcome::Paging
    }

    /// Whether the exception that exited is a page fault, which is noted.
    #[inline(always)]
    pub(super) fn is_page_fault(&self, vmcs: Vmcs) -> bool {
        let is_fault =
            self.shadowed.on.get() && vmcs.read(ro::VMEXIT_INTERRUPTION_INFO) & (VALID | TYPE_AND_VECTOR) == PAGE_FAULT;
        if is_fault {
            self.ask_for_paging(Pending::Fault);
        }
        is_fault
    }

    /// A page fault: the guest's, the engine's, or an access to a device. Something if it is the monitor's affair.
    fn page_fault(&self, vmcs: Vmcs, space: Ref<GuestSpace>) -> Option<Outcome> {
        let state = self.state();
        let linear = vmcs.read(ro::EXIT_QUALIFICATION);
        let error = vmcs.read(ro::VMEXIT_INTERRUPTION_ERR_CODE) as u32;
        let access = Access::new(error, vmcs.read(guest::RFLAGS) & ALIGNMENT_CHECK != 0);
        let outcome = space.shadow.fault(self.shadowed.number.get(), linear, access, &Memory(space));
        let vectoring = vmcs.read(ro::IDT_VECTORING_INFO);
        let unblocked = vmcs.read(ro::VMEXIT_INTERRUPTION_INFO) & UNBLOCKED_NMI != 0 && vectoring & VALID == 0;
        if unblocked {
            let interruptibility = vmcs.read(guest::INTERRUPTIBILITY_STATE);
            vmcs.set_guest::<{ guest::INTERRUPTIBILITY_STATE }>(interruptibility | BLOCKING_BY_NMI);
        }
        match outcome {
            shadow::Outcome::Retry => {
                if vectoring & VALID != 0 {
                    repeat_event(vmcs, vectoring);
                }
                None
            }
            shadow::Outcome::Fault(code) => {
                put!(state, cr2, linear);
                match vectoring & (VALID | TYPE_AND_VECTOR) {
                    // Faults whose delivery faults (SDM vol. 3, table 7-5). An interrupt whose delivery faults is lost, as without
                    // virtualization: it was acknowledged, and returning from the page fault does not bring it back.
                    DOUBLE_FAULT => return Some(self.everything(vmcs, state, reason::TRIPLE_FAULT)),
                    PAGE_FAULT => inject(vmcs, DOUBLE_FAULT | ERROR_CODE, 0),
                    _ => inject(vmcs, PAGE_FAULT | ERROR_CODE, u64::from(code)),
                }
                None
            }
            shadow::Outcome::Violation { physical, write, walking } => {
                let found = Memory(space).translate(physical);
                let rights = found.map_or(Rights::empty(), |found| found.attributes.rights);
                let mut qualification = LINEAR | if walking { READ } else { TRANSLATED };
                qualification |= if access.fetch && !walking {
                    FETCH
                } else if write {
                    WRITE
                } else {
                    READ
                };
                for (bit, right) in (RIGHTS..).zip([Rights::READ, Rights::WRITE, Rights::EXECUTE]) {
                    qualification |= u64::from(rights.contains(right)) << bit;
                }
                let offset = if walking { 0 } else { linear & (PAGE_SIZE - 1) };
                put!(state, guest_physical, physical | offset);
                put!(state, guest_linear, linear);
                Some(self.memory_exit(vmcs, state, reason::EPT_VIOLATION, qualification))
            }
            shadow::Outcome::Interpret => Some(self.everything(vmcs, state, reason::EXCEPTION)),
        }
    }
}

/// An event whose delivery the exit interrupted is delivered again.
fn repeat_event(vmcs: Vmcs, vectoring: u64) {
    inject(vmcs, vectoring & (VALID | ERROR_CODE | TYPE_AND_VECTOR), vmcs.read(ro::IDT_VECTORING_ERR_CODE));
    // SAFETY: the length of the instruction that caused the event.
    unsafe { vmcs.write(control::VMENTRY_INSTRUCTION_LEN, vmcs.read(ro::VMEXIT_INSTRUCTION_LEN)) };
}

fn inject(vmcs: Vmcs, information: u64, error_code: u64) {
    // SAFETY: an exception of the guest's, or an event that the hardware was delivering.
    unsafe {
        vmcs.write(control::VMENTRY_INTERRUPTION_INFO_FIELD, information);
        vmcs.write(control::VMENTRY_EXCEPTION_ERR_CODE, error_code);
    }
}
