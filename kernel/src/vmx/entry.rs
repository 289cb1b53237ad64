//! The way into a guest and back: general registers only, everything else is the hardware's part.

use crate::vmx::state::State;
use core::arch::{asm, naked_asm};
use core::cell::Cell;
use x86::vmx::vmcs::host;

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

/// rdi = state page, rsi = [`EntryState`]. The stack pointer that an exit finds points to the state page's address.
#[unsafe(naked)]
extern "C" fn enter_guest() {
    naked_asm!(
        "push rbx",
        "push rbp",
        "push rdi",
        "cmp rsp, [rsi]",
        "jne 3f",
        "2:",
        "cmp qword ptr [rsi + 8], 0",
        "mov rax, [rdi]",
        "mov rcx, [rdi + 8]",
        "mov rdx, [rdi + 16]",
        "mov rbx, [rdi + 24]",
        "mov rbp, [rdi + 40]",
        "mov rsi, [rdi + 48]",
        "mov r8, [rdi + 64]",
        "mov r9, [rdi + 72]",
        "mov r10, [rdi + 80]",
        "mov r11, [rdi + 88]",
        "mov r12, [rdi + 96]",
        "mov r13, [rdi + 104]",
        "mov r14, [rdi + 112]",
        "mov r15, [rdi + 120]",
        "mov rdi, [rdi + 56]",
        "je 4f",
        "vmresume",
        "jmp 5f",
        "4:",
        "vmlaunch",
        // Refused: the registers hold the guest's values still.
        "5:",
        "pop rdi",
        "pop rbp",
        "pop rbx",
        "xor eax, eax",
        "ret",
        "3:",
        "mov eax, {host_stack}",
        "vmwrite rax, rsp",
        "mov [rsi], rsp",
        "jmp 2b",
        host_stack = const host::RSP,
    )
}

/// Where exits arrive, with the guest's registers.
#[unsafe(naked)]
pub extern "C" fn guest_exited() {
    naked_asm!(
        "push rdi",
        "mov rdi, [rsp + 8]",
        "mov [rdi], rax",
        "mov [rdi + 8], rcx",
        "mov [rdi + 16], rdx",
        "mov [rdi + 24], rbx",
        "mov [rdi + 40], rbp",
        "mov [rdi + 48], rsi",
        "pop [rdi + 56]",
        "mov [rdi + 64], r8",
        "mov [rdi + 72], r9",
        "mov [rdi + 80], r10",
        "mov [rdi + 88], r11",
        "mov [rdi + 96], r12",
        "mov [rdi + 104], r13",
        "mov [rdi + 112], r14",
        "mov [rdi + 120], r15",
        "pop rdi",
        "pop rbp",
        "pop rbx",
        "mov eax, 1",
        "ret",
    )
}
