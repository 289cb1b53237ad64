//! Access to the current virtual-machine control structure.

use crate::vmx::state::{SEGMENTS, State};
use bulkhead_abi::{Segment, VcpuState, segment};
use bulkhead_core::phys::HostPhysical;
use core::arch::asm;
use x86::vmx::vmcs::guest;

/// Bits 11:10 of a field's encoding: what kind of field it is (SDM vol. 3, 25.11.2).
const fn kind(field: u32) -> u32 {
    field >> 10 & 3
}
const GUEST_STATE: u32 = 2;

// Bases and limits of GDTR and IDTR come right behind those of the segment registers.
const _: () = assert!(segment::ES == 0 && segment::CS == 1 && segment::LDTR == 6 && segment::TR == 7);
const _: () = assert!(guest::GDTR_BASE == guest::ES_BASE + 16 && guest::IDTR_LIMIT == guest::ES_LIMIT + 18);

/// Proof that the VMCS of the processor at hand is current on this CPU. Reading any field, and writing guest state, can do
/// no harm beyond the guest: VM entry checks guest state as a whole.
#[derive(Clone, Copy)]
pub struct Vmcs(());

impl Vmcs {
    /// Makes the VMCS at this address current.
    ///
    /// # Safety
    /// VMX operation is on; the page is a VMCS region with this CPU's revision identifier, and not active on another CPU.
    pub unsafe fn load(region: HostPhysical) -> Option<Self> {
        let refused: u8;
        // SAFETY: as the caller promises; VMPTRLD takes the physical address from memory.
        unsafe { asm!("vmptrld [{}]", "setbe {}", in(reg) &region.0, out(reg_byte) refused, options(nostack)) };
        (refused == 0).then_some(Self(()))
    }

    /// The VMCS that is current already.
    ///
    /// # Safety
    /// There must be one on this CPU, and be it the one that the caller means.
    pub const unsafe fn current() -> Self {
        Self(())
    }

    /// Writes a VMCS back to memory and makes it neither current nor active.
    ///
    /// # Safety
    /// VMX operation is on; the page is a VMCS region, and not active on another CPU.
    pub unsafe fn clear(region: HostPhysical) {
        // SAFETY: as the caller promises. It can only fail for a bad address, which changes nothing.
        unsafe { asm!("vmclear [{}]", in(reg) &region.0, options(nostack)) };
    }

    /// Reads a field that this processor has.
    #[inline(always)]
    pub fn read(self, field: u32) -> u64 {
        let value: u64;
        // SAFETY: a VMCS is current. Reading changes nothing; for a field that does not exist the value is arbitrary.
        unsafe {
            asm!("vmread {}, {}", out(reg) value, in(reg) u64::from(field), options(nostack, nomem));
        }
        value
    }

    /// Reads the field `FIELD` straight into the 64-bit member at `OFFSET` of the shared page.
    #[inline(always)]
    pub fn store<const FIELD: u32, const OFFSET: usize>(self, state: State) {
        const { assert!(OFFSET + 8 <= size_of::<VcpuState>()) };
        // SAFETY: a VMCS is current, and the state page is valid memory for as long as the vCPU.
        unsafe {
            asm!("vmread [{state} + {offset}], {field}", state = in(reg) state.pointer(), offset = const OFFSET,
                 field = in(reg) u64::from(FIELD), options(nostack));
        }
    }

    /// Writes a field. A field that this processor does not have is left alone.
    ///
    /// # Safety
    /// Control and host-state fields decide what memory and code the processor uses: the value must be right for them.
    pub unsafe fn write(self, field: u32, value: u64) {
        // SAFETY: a VMCS is current; the caller answers for the value.
        unsafe { asm!("vmwrite {}, {}", in(reg) u64::from(field), in(reg) value, options(nostack, nomem)) };
    }

    /// Writes the guest-state field `FIELD`.
    #[inline(always)]
    pub fn set_guest<const FIELD: u32>(self, value: u64) {
        const { assert!(kind(FIELD) == GUEST_STATE) };
        // SAFETY: a guest-state field, by the assertion; VM entry checks it.
        unsafe { self.write(FIELD, value) }
    }

    /// Stores segment register `index` of [`segment`], or GDTR or IDTR, in the shared page.
    #[inline(always)]
    pub fn store_segment(self, state: State, index: usize) {
        let place = state.segment(index);
        let step = 2 * index as u32;
        let mut value = Segment {
            base: self.read(guest::ES_BASE + step),
            limit: self.read(guest::ES_LIMIT + step) as u32,
            ..Default::default()
        };
        if index <= segment::TR {
            value.access = self.read(guest::ES_ACCESS_RIGHTS + step) as u32;
            value.selector = self.read(guest::ES_SELECTOR + step);
        }
        // SAFETY: `place` is a segment of the state page.
        unsafe { place.write_volatile(value) }
    }

    /// Loads segment register `index` of [`segment`], or GDTR or IDTR, from the shared page.
    pub fn load_segment(self, state: State, index: usize) {
        let step = 2 * (index % SEGMENTS) as u32;
        // SAFETY: a segment of the state page is read; guest-state fields are written, since the step keeps within them.
        unsafe {
            let value = state.segment(index).read_volatile();
            self.write(guest::ES_BASE + step, value.base);
            self.write(guest::ES_LIMIT + step, u64::from(value.limit));
            if index <= segment::TR {
                self.write(guest::ES_ACCESS_RIGHTS + step, u64::from(value.access));
                self.write(guest::ES_SELECTOR + step, value.selector);
            }
        }
    }
}
