//! The I/O APICs: routes global system interrupts to processors.

use crate::arch::traps::vector;
use bulkhead_abi::BIND_REMAPPED;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Most I/O APICs.
pub const MAX_CONTROLLERS: usize = 8;
/// Global system interrupts that the kernel has vectors for.
pub const MAX_INTERRUPTS: u32 = 96;

const MASKED: u32 = 1 << 16;
const LEVEL: u32 = 1 << 15;
const ACTIVE_LOW: u32 = 1 << 13;

/// The register of an I/O APIC (ICH datasheets; 82093AA) that has the number of its last input in bits 16 to 23.
const VERSION: u32 = 1;
/// The first of two registers for each input.
const FIRST_ENTRY: u32 = 0x10;

/// The input for one global system interrupt. Used under the kernel lock only.
struct Input {
    /// Virtual address of the controller's registers; 0: there is no such input.
    controller: AtomicU64,
    /// The first of its registers.
    register: AtomicU32,
    /// What that register holds when the interrupt is not masked; 0: it was never routed.
    entry: AtomicU32,
}

static INPUTS: [Input; MAX_INTERRUPTS as usize] =
    [const { Input { controller: AtomicU64::new(0), register: AtomicU32::new(0), entry: AtomicU32::new(0) } };
        MAX_INTERRUPTS as usize];

/// Selects a register of a controller; answers where its value is.
fn select(controller: u64, register: u32) -> *mut u32 {
    // SAFETY: the register pages are mapped uncached at start-up; index and data register as the 82093AA has them.
    unsafe { (controller as *mut u32).write_volatile(register) };
    (controller + 16) as *mut u32
}

fn write(controller: u64, register: u32, value: u32) {
    // SAFETY: as in `select`; what the registers say concerns interrupts only.
    unsafe { select(controller, register).write_volatile(value) }
}

/// Takes a controller over, whose registers are at a virtual address, from its first global system interrupt on. Masks all of it.
pub fn add(controller: u64, first: u32) {
    // SAFETY: as in `select`.
    let version = unsafe { select(controller, VERSION).read_volatile() };
    for number in 0..=(version >> 16 & 0xff) {
        let register = FIRST_ENTRY + number * 2;
        write(controller, register, MASKED);
        // Those that the kernel has no vectors for stay masked.
        if let Some(input) = INPUTS.get(first.saturating_add(number) as usize) {
            input.controller.store(controller, Ordering::Relaxed);
            input.register.store(register, Ordering::Relaxed);
        }
    }
}

fn find(interrupt: u32) -> Option<&'static Input> {
    INPUTS.get(interrupt as usize).filter(|input| input.controller.load(Ordering::Relaxed) != 0)
}

/// Whether an interrupt of this number exists.
pub fn exists(interrupt: u32) -> bool {
    find(interrupt).is_some()
}

/// Routes and unmasks; `flags` as for `InterruptMethod::Bind`.
pub fn route(interrupt: u32, apic_id: u32, flags: u64) {
    let Some(input) = find(interrupt) else { return };
    let mode = if flags & 1 != 0 { LEVEL } else { 0 } | if flags & 2 != 0 { ACTIVE_LOW } else { 0 };
    let vector = u32::from(vector::FIRST_DEVICE) + interrupt;
    // Remapped: the format bit, and the number of the entry above it (VT-d specification, 5.1.5.1).
    let target = if flags & BIND_REMAPPED != 0 { vector << 17 | 1 << 16 } else { apic_id << 24 };
    set_masked(interrupt, true);
    let register = input.register.load(Ordering::Relaxed);
    write(input.controller.load(Ordering::Relaxed), register + 1, target);
    input.entry.store(mode | vector, Ordering::Relaxed);
    set_masked(interrupt, false);
}

/// Masks or unmasks an interrupt that has been routed.
pub fn set_masked(interrupt: u32, masked: bool) {
    let Some(input) = find(interrupt) else { return };
    let entry = input.entry.load(Ordering::Relaxed);
    if entry != 0 {
        let value = if masked { entry | MASKED } else { entry };
        write(input.controller.load(Ordering::Relaxed), input.register.load(Ordering::Relaxed), value);
    }
}

/// Whether the interrupt was routed as level-triggered.
pub fn is_level(interrupt: u32) -> bool {
    find(interrupt).is_some_and(|input| input.entry.load(Ordering::Relaxed) & LEVEL != 0)
}
