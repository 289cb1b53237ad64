//! A guest's local APIC as far as the processor virtualizes it: APIC-register virtualization, virtual-interrupt delivery and
//! posted interrupts (SDM vol. 3, chapter 30). Of these, the kernel does posted interrupts where the processor does not. The
//! monitor owns the virtual-APIC page and decides what is pending; what it writes there can confuse its own guest only.

use crate::arch::traps::vector;
use crate::schedule;
use crate::vmx::apic_guard::Guard;
use crate::vmx::cpu::VmxCpu;
use crate::vmx::state::{State, get};
use crate::vmx::vcpu::{InSpace, Vcpu};
use crate::vmx::vmcs::Vmcs;
use bulkhead_abi::{ApicMode, Error, POSTED_INTERRUPTS, StateGroups};
use bulkhead_core::queue::List;
use core::cell::Cell;
use core::sync::atomic::{AtomicU32, Ordering};
use x86::vmx::vmcs::control::{self, PinbasedControls, PrimaryControls, SecondaryControls};
use x86::vmx::vmcs::guest;

const CR8_EXITING: u32 = PrimaryControls::CR8_LOAD_EXITING.bits() | PrimaryControls::CR8_STORE_EXITING.bits();
const TPR_SHADOW: u32 = PrimaryControls::USE_TPR_SHADOW.bits();
const DELIVERY: u32 =
    SecondaryControls::VIRTUALIZE_APIC_REGISTER.bits() | SecondaryControls::VIRTUAL_INTERRUPT_DELIVERY.bits();
const XAPIC: u32 = SecondaryControls::VIRTUALIZE_APIC.bits();
pub(super) const HARDWARE_POSTING: u32 = PinbasedControls::POSTED_INTERRUPTS.bits();
const X2APIC: u32 = SecondaryControls::VIRTUALIZE_X2APIC.bits();
const EOI_EXITS: [u32; 4] =
    [control::EOI_EXIT0_FULL, control::EOI_EXIT1_FULL, control::EOI_EXIT2_FULL, control::EOI_EXIT3_FULL];

/// The primary and secondary controls for a mode, given those without any virtualization of the local APIC.
const fn controls_of(mode: ApicMode, primary: u32, secondary: u32) -> (u32, u32) {
    match mode {
        ApicMode::Software => (primary & !TPR_SHADOW | CR8_EXITING, secondary),
        ApicMode::TaskPriority => (primary & !CR8_EXITING | TPR_SHADOW, secondary),
        ApicMode::Xapic => (primary & !CR8_EXITING | TPR_SHADOW, secondary | DELIVERY | XAPIC),
        ApicMode::X2apic => (primary & !CR8_EXITING | TPR_SHADOW, secondary | DELIVERY | X2APIC),
    }
}

/// The processor delivers interrupts in this mode.
pub(super) const fn delivers(mode: ApicMode) -> bool {
    matches!(mode, ApicMode::Xapic | ApicMode::X2apic)
}

/// Has the end of every vector exit, or of those that the monitor asks for.
pub(super) fn set_eoi_exits(vmcs: Vmcs, state: State, all: bool) {
    for (field, vectors) in EOI_EXITS.into_iter().zip(get!(state, eoi_exits)) {
        // SAFETY: which ends of interrupts exit is the monitor's business.
        unsafe { vmcs.write(field, if all { u64::MAX } else { vectors }) };
    }
}

/// Words of a posted-interrupt descriptor's set of vectors.
const POSTED_WORDS: usize = 8;
/// Index of the posted-interrupt descriptor in the page's 32-bit words, and of the first request register; registers are 16
/// bytes apart.
const POSTED: usize = POSTED_INTERRUPTS / 4;
const REQUESTS: usize = 0x200 / 4;

impl Vcpu {
    /// Loads the mode of the local APIC and the vectors whose end exits. Refused if the processor does not virtualize it, or
    /// the space has no APIC-access page.
    pub(super) fn load_apic(&self, vmcs: Vmcs, cpu: &VmxCpu, state: State) -> Result<(), StateGroups> {
        let mode = ApicMode::from_number(u64::from(get!(state, apic_mode))).ok_or(StateGroups::APIC)?;
        let access_page = self.space.get().and_then(|space| space.apic_page());
        if delivers(mode) && access_page.is_none() || mode == ApicMode::TaskPriority && !cpu.tpr_shadow.get() {
            return Err(StateGroups::APIC);
        }
        if self.apic_mode.replace(mode) != mode {
            let controls = self.controls.get();
            let (primary, secondary) = controls_of(mode, self.primary.get(), controls.secondary);
            let pin = if delivers(mode) { controls.pin_with_posting } else { controls.pin };
            self.primary.set(primary);
            self.guard.set(Guard::None);
            self.msrs.pass_x2apic(&self.msr_bitmap, mode == ApicMode::X2apic);
            // SAFETY: the processor offers these controls, or there would be no APIC-access page; the pages are the vCPU's and
            // its space's. Writes to x2APIC registers that the hardware does not virtualize exit.
            unsafe {
                vmcs.write(control::PINBASED_EXEC_CONTROLS, u64::from(pin));
                vmcs.write(control::PRIMARY_PROCBASED_EXEC_CONTROLS, u64::from(primary));
                vmcs.write(control::SECONDARY_PROCBASED_EXEC_CONTROLS, u64::from(secondary));
                vmcs.write(control::VIRT_APIC_ADDR_FULL, self.virtual_apic.physical().0);
                vmcs.write(control::APIC_ACCESS_ADDR_FULL, access_page.map_or(0, |page| page.0));
                vmcs.write(control::POSTED_INTERRUPT_NOTIFICATION_VECTOR, u64::from(vector::POSTED));
                let descriptor = self.virtual_apic.physical().0 + POSTED_INTERRUPTS as u64;
                vmcs.write(control::POSTED_INTERRUPT_DESC_ADDR_FULL, descriptor);
            }
        }
        let threshold = u64::from(get!(state, apic_threshold) & 0xf);
        // SAFETY: VM entry refuses a threshold above the task priority.
        unsafe { vmcs.write(control::TPR_THRESHOLD, threshold) };
        if delivers(mode) {
            set_eoi_exits(vmcs, state, false);
        }
        if self.guard.get() == Guard::Ends {
            self.guard.set(Guard::None);
        }
        Ok(())
    }

    /// A word of the virtual-APIC page.
    fn apic_word(&self, index: usize) -> &AtomicU32 {
        // SAFETY: the index is kept within the page, which lives as long as the vCPU; whoever else uses the word does so by
        // atomic accesses, or is the processor itself.
        unsafe { AtomicU32::from_ptr(self.virtual_apic.pointer().cast::<u32>().add(index % 1024)) }
    }

    /// Not 0 if something is posted.
    pub(super) fn posted(&self) -> u32 {
        self.apic_word(POSTED + POSTED_WORDS).load(Ordering::Relaxed)
    }

    /// Has bit `bit` of a signal stand for a vector, or for none.
    pub fn set_direct(&self, bit: u64, vector: u64) -> Result<(), Error> {
        let place = self.direct_vectors.get(bit as usize).ok_or(Error::OutOfRange)?;
        let vector = u8::try_from(vector).map_err(|_| Error::OutOfRange)?;
        place.set(vector);
        let others = self.direct.get() & !(1 << bit);
        self.direct.set(others | u64::from(vector != 0) << bit);
        Ok(())
    }

    /// Posts the interrupts that bits of a signal stand for, at this vCPU or another of its space that is being run. Returns the
    /// other bits.
    pub fn post_signals(&self, mut bits: u64) -> u64 {
        let first = self.space.get().and_then(|space| space.vcpus.first());
        for vcpu in core::iter::successors(first, |vcpu| List::<Vcpu, InSpace>::next(*vcpu)) {
            let mut own = bits & vcpu.direct.get();
            if own == 0 {
                continue;
            }
            let Some(runner) = vcpu.runner.get() else { continue };
            bits &= !own;
            while let Some(vector) = vcpu.direct_vectors.get(own.trailing_zeros() as usize).map(Cell::get) {
                let word = vcpu.apic_word(POSTED + usize::from(vector >> 5));
                word.fetch_or(1 << (vector & 31), Ordering::Release);
                own &= own - 1;
            }
            vcpu.apic_word(POSTED + POSTED_WORDS).store(1, Ordering::Release);
            schedule::interrupt_guest(runner, vector::POSTED);
        }
        bits
    }

    /// Requests what is posted, as a processor with posted-interrupt processing does (SDM vol. 3, 30.6).
    pub(super) fn take_posted(&self, vmcs: Vmcs) {
        if self.posted() == 0 || !delivers(self.apic_mode.get()) {
            return;
        }
        // First, so that what comes later is told of anew.
        self.apic_word(POSTED + POSTED_WORDS).swap(0, Ordering::AcqRel);
        let mut highest = 0;
        for index in 0..POSTED_WORDS {
            let word = self.apic_word(POSTED + index);
            if word.load(Ordering::Relaxed) == 0 {
                continue;
            }
            let vectors = word.swap(0, Ordering::Acquire);
            let requests = self.apic_word(REQUESTS + 4 * index);
            requests.store(requests.load(Ordering::Relaxed) | vectors, Ordering::Relaxed);
            highest = index as u64 * 32 + u64::from(vectors.checked_ilog2().unwrap_or(0));
        }
        let status = vmcs.read(guest::INTERRUPT_STATUS);
        if highest > status & 0xff {
            vmcs.set_guest::<{ guest::INTERRUPT_STATUS }>(status & !0xff | highest);
        }
    }

    /// Another vector than this one is requested.
    pub(super) fn is_requested_beside(&self, vector: u64) -> bool {
        (0..POSTED_WORDS).any(|index| {
            let own = if index as u64 == vector / 32 { 1 << (vector % 32) } else { 0 };
            self.apic_word(REQUESTS + 4 * index).load(Ordering::Relaxed) & !own != 0
        })
    }

    /// Loads what is requested and in service: the highest vectors of both.
    #[inline(always)]
    pub(super) fn load_interrupt_status(&self, vmcs: Vmcs, state: State) {
        if delivers(self.apic_mode.get()) {
            vmcs.set_guest::<{ guest::INTERRUPT_STATUS }>(u64::from(get!(state, interrupt_status) & 0xffff));
            self.attention.set(1);
        }
    }
}
