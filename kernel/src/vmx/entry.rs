//! The way into a guest and back: general registers only, everything else is the hardware's part.

use crate::vmx::state::State;
use core::arch::asm;
use core::cell::Cell;

unsafe extern "C" {
    fn enter_guest();
    /// Where exits arrive.
    pub fn guest_exited();
}

/// What the assembly keeps per vCPU.
#[repr(C)]
pub struct EntryState {
    /// Value of the VMCS's host stack pointer. An event-driven kernel enters guests at the same stack depth nearly always.
    host_stack: Cell<u64>,
    /// Not 0: the VMCS is launched, so the way in is VMRESUME.
    pub launched: Cell<u64>,
}

impl EntryState {
    /// Forgets what was cached of the VMCS, as after clearing it.
    pub fn reset(&self) {
        self.host_stack.set(0);
        self.launched.set(0);
    }
}

/// Enters the guest of the current VMCS and returns true after its exit, false if the hardware refused the entry.
///
/// # Safety
/// The current VMCS must be complete and belong to `entry` and `state`; interrupts are off.
#[inline(always)]
pub unsafe fn enter(entry: &EntryState, state: State) -> bool {
    let entered: u64;
    // SAFETY: `enter_guest` keeps rbx, rbp and rsp and destroys the rest, as declared; see the caller's promise.
    unsafe {
        asm!(
            "call {enter_guest}", enter_guest = sym enter_guest,
            inout("rdi") state.pointer() => _, inout("rsi") entry => _, out("rax") entered,
            out("rcx") _, out("rdx") _, out("r8") _, out("r9") _, out("r10") _, out("r11") _,
            out("r12") _, out("r13") _, out("r14") _, out("r15") _,
        );
    }
    entered != 0
}
