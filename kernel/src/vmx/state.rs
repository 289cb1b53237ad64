//! The page that a vCPU shares with its monitor. The monitor may change it at any moment, on another CPU: every access is
//! one volatile read or write of a member, and what was read is judged before it is used.

use bulkhead_abi::{Counted, Segment, StateGroups, VcpuState};
use core::mem::offset_of;

/// Segment registers, GDTR and IDTR: one behind the other, as in the VMCS.
pub const SEGMENTS: usize = 10;
const _: () = assert!(offset_of!(VcpuState, dr7) - offset_of!(VcpuState, segments) == SEGMENTS * size_of::<Segment>());

/// Where the shared page of a vCPU is.
#[derive(Clone, Copy)]
pub struct State(*mut VcpuState);

impl State {
    /// The state page at this address.
    ///
    /// # Safety
    /// It must be a page of a vCPU, used as a `State` for as long as the vCPU lives.
    pub const unsafe fn new(pointer: *mut VcpuState) -> Self {
        Self(pointer)
    }

    /// The page.
    pub const fn pointer(self) -> *mut VcpuState {
        self.0
    }

    /// The place of a segment register, or of GDTR or IDTR behind them.
    pub const fn segment(self, index: usize) -> *mut Segment {
        // SAFETY: the index is kept below the number of segments that lie there; no reference is made.
        unsafe { (&raw mut (*self.0).segments).cast::<Segment>().add(index % SEGMENTS) }
    }

    /// A general register, but for RSP.
    pub fn register(self, index: usize) -> u64 {
        // SAFETY: the index is kept below the array's length; any bytes are a valid integer.
        unsafe { (&raw const (*self.0).registers).cast::<u64>().add(index & 15).read_volatile() }
    }

    /// Sets a general register by its number in instructions. RSP is not one of the hardware's.
    pub fn set_register(self, index: usize, value: u64) {
        // SAFETY: the index is kept below the array's length.
        unsafe { (&raw mut (*self.0).registers).cast::<u64>().add(index & 15).write_volatile(value) }
    }

    /// Adds to a counter.
    #[inline(always)]
    pub fn count(self, what: Counted, more: u64) {
        // SAFETY: the index is kept below the array's length; any bytes are a valid integer.
        unsafe {
            let place = (&raw mut (*self.0).counted).cast::<u64>().add(what as usize & 7);
            place.write_volatile(place.read_volatile().wrapping_add(more));
        }
    }
}

/// The groups of a set, one by one.
#[inline(always)]
pub fn each(groups: StateGroups) -> impl Iterator<Item = StateGroups> {
    let mut rest = groups.bits();
    core::iter::from_fn(move || {
        let lowest = rest & rest.wrapping_neg();
        rest ^= lowest;
        (lowest != 0).then_some(StateGroups::from_bits_retain(lowest))
    })
}

/// Reads a member of the shared page, once.
macro_rules! get {
    ($state:expr, $($member:tt)+) => {{
        let pointer = $state.pointer();
        // SAFETY: the state page is valid memory for as long as the vCPU, and any bytes are a valid integer.
        unsafe { (&raw const (*pointer).$($member)+).read_volatile() }
    }};
}

/// Writes a member of the shared page.
macro_rules! put {
    ($state:expr, $member:ident, $value:expr) => {{
        let pointer = $state.pointer();
        let value = $value;
        // SAFETY: the state page is valid memory for as long as the vCPU.
        unsafe { (&raw mut (*pointer).$member).write_volatile(value) }
    }};
}

/// Stores a field of the VMCS in a 64-bit member of the shared page: `store!(vmcs, state, rip, guest::RIP)`.
macro_rules! store {
    ($vmcs:expr, $state:expr, $member:ident, $field:expr) => {
        $vmcs.store::<{ $field }, { core::mem::offset_of!(bulkhead_abi::VcpuState, $member) }>($state)
    };
}

pub(super) use {get, put, store};
