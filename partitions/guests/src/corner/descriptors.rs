//! Descriptor tables for the tests: segments of every kind that can be loaded, a task state, and gates for all vectors.

use super::global::Global;
use core::arch::asm;

/// 64-bit code of CPL 0.
pub const KERNEL_CODE: u16 = 0x08;
/// Writable data of CPL 0.
pub const KERNEL_DATA: u16 = 0x10;
/// Writable data of CPL 3.
pub const USER_DATA: u16 = 0x20 | 3;
/// 64-bit code of CPL 3.
pub const USER_CODE: u16 = 0x28 | 3;
/// The task state.
pub const TASK: u16 = 0x30;
/// Writable data that is not present.
pub const ABSENT_DATA: u16 = 0x40;
/// 64-bit code that is not present.
pub const ABSENT_CODE: u16 = 0x48;
/// Data that cannot be written.
pub const CONSTANT_DATA: u16 = 0x50;
/// Code that can only be executed.
pub const EXECUTE_ONLY: u16 = 0x58;
/// A task state that is not present.
pub const ABSENT_TASK: u16 = 0x60;
/// Data of 32-bit segments: the local APIC's registers, up to the timer's initial count. The selector before it is that of 32-bit
/// code.
pub const APIC_DATA: u16 = 0x78;
/// A selector beyond the end of the table.
pub const BEYOND: u16 = 0x1000;

/// A vector whose gate is not present.
pub const ABSENT_VECTOR: u8 = 0x90;
/// A vector whose gate is for CPL 0 alone, as most are.
pub const KERNEL_VECTOR: u8 = 0x91;
/// A vector whose gate is none.
pub const EMPTY_VECTOR: u8 = 0x92;

/// Index of the interrupt stack that double faults use.
const DOUBLE_FAULT_STACK: u64 = 1;
/// A gate's P bit, in its first word.
pub const GATE_PRESENT: u64 = 1 << 47;

/// A 64-bit gate (SDM vol. 3, figure 6-8).
pub type Gate = [u64; 2];

const GDT: [u64; 16] = [
    0,
    0x00af_9b00_0000_ffff,
    0x00cf_9300_0000_ffff,
    0,
    0x00cf_f300_0000_ffff,
    0x00af_fb00_0000_ffff,
    0, // The task state, filled in by `install`.
    0,
    0x00cf_1300_0000_ffff,
    0x00af_1b00_0000_ffff,
    0x00cf_9100_0000_ffff,
    0x00cf_9900_0000_ffff,
    0x0000_0900_0000_0067,
    0,
    0x00cf_9b00_0000_ffff,
    0xfe40_93e0_0000_0383,
];

static TABLE: Global<[u64; 16]> = Global::new(GDT);
/// The 64-bit task state (SDM vol. 3, figure 8-11), as words of 4 bytes.
static STATE: Global<[u32; 26]> = Global::new([0; 26]);
static GATES: Global<[Gate; 256]> = Global::new([[0; 2]; 256]);
static STACK: Global<[u64; 2048]> = Global::new([0; 2048]);
static DOUBLE_STACK: Global<[u64; 2048]> = Global::new([0; 2048]);

#[repr(C, packed)]
struct Pointer {
    limit: u16,
    base: u64,
}

unsafe extern "C" {
    fn corner_stubs();
}

/// The gate that a vector usually has.
pub fn gate(vector: u8) -> Gate {
    let handler = corner_stubs as *const () as u64 + 16 * u64::from(vector);
    let level: u64 = match vector {
        3 | 4 | 0x80 => 3,
        _ => 0,
    };
    let stack = if vector == 8 { DOUBLE_FAULT_STACK } else { 0 };
    let access = 0x8e | level << 5;
    let low =
        handler & 0xffff | u64::from(KERNEL_CODE) << 16 | stack << 32 | access << 40 | (handler >> 16 & 0xffff) << 48;
    match vector {
        ABSENT_VECTOR => [low & !GATE_PRESENT, handler >> 32],
        EMPTY_VECTOR => [0; 2],
        _ => [low, handler >> 32],
    }
}

/// Loads all tables.
pub fn install() {
    let mut state = [0; 26];
    let top = |stack: &Global<[u64; 2048]>| stack.address() + 2048 * 8;
    for (place, value) in [(1, top(&STACK)), (9, top(&DOUBLE_STACK))] {
        state[place] = value as u32;
        state[place + 1] = (value >> 32) as u32;
    }
    // The I/O permission bitmap starts behind the limit: there is none.
    state[25] = 104 << 16;
    STATE.set(state);
    let base = STATE.address();
    let mut table = GDT;
    table[6] = 103 | (base & 0xff_ffff) << 16 | 0x89 << 40 | (base >> 24 & 0xff) << 56;
    table[7] = base >> 32;
    TABLE.set(table);
    let mut gates = [[0; 2]; 256];
    for (vector, place) in (0..=255).zip(&mut gates) {
        *place = gate(vector);
    }
    GATES.set(gates);
    let pointer = Pointer { limit: size_of_val(&GDT) as u16 - 1, base: TABLE.address() };
    // SAFETY: the table has the same first three descriptors as the one in use; the task state lives for ever.
    unsafe {
        asm!("lgdt [{}]", in(reg) &pointer, options(readonly, nostack, preserves_flags));
        asm!("ltr {:x}", in(reg) TASK, options(nostack, preserves_flags));
        asm!("lldt {:x}", in(reg) 0, options(nostack, preserves_flags));
    }
    load_gates(GATES.address());
}

/// Uses the gates at another place, such as a copy that a test has changed.
pub fn load_gates(base: u64) {
    let pointer = Pointer { limit: 256 * 16 - 1, base };
    // SAFETY: the caller's table handles every event that can happen until the usual one is loaded again.
    unsafe { asm!("lidt [{}]", in(reg) &pointer, options(readonly, nostack, preserves_flags)) };
}

/// Uses the usual gates, after a test changed its own.
pub fn restore_gates() {
    load_gates(GATES.address());
}

/// Changes the gate of a vector while `test` runs.
pub fn with_gate<R>(vector: u8, changed: Gate, test: impl FnOnce() -> R) -> R {
    let mut gates = GATES.get();
    if let Some(place) = gates.get_mut(usize::from(vector)) {
        *place = changed;
    }
    GATES.set(gates);
    let result = test();
    if let Some(place) = gates.get_mut(usize::from(vector)) {
        *place = gate(vector);
    }
    GATES.set(gates);
    result
}
