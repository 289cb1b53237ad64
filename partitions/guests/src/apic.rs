//! The local APIC of the processor that asks, by memory (xAPIC) or by registers (x2APIC): SDM vol. 3, chapter 11.

use crate::instructions::{read_msr, without_interrupts, write_msr};
use crate::machine::{cpuid, read_register, write_register};
use core::sync::atomic::{AtomicBool, Ordering};

/// Where the xAPIC's registers are.
const BASE: u32 = 0xfee0_0000;
const APIC_BASE_MSR: u32 = 0x1b;
const X2APIC_ENABLE: u64 = 1 << 10;
/// The x2APIC's register of offset `16 n` is this MSR plus `n`.
const X2APIC_MSRS: u32 = 0x800;

/// Offsets of registers.
pub const IDENTIFIER: u32 = 0x20;
pub const TASK_PRIORITY: u32 = 0x80;
pub const PROCESSOR_PRIORITY: u32 = 0xa0;
pub const END_OF_INTERRUPT: u32 = 0xb0;
pub const LOGICAL_DESTINATION: u32 = 0xd0;
pub const DESTINATION_FORMAT: u32 = 0xe0;
pub const SPURIOUS: u32 = 0xf0;
const IN_SERVICE: u32 = 0x100;
const REQUESTED: u32 = 0x200;
pub const ERROR_STATUS: u32 = 0x280;
pub const COMMAND: u32 = 0x300;
pub const COMMAND_DESTINATION: u32 = 0x310;
pub const TIMER: u32 = 0x320;
pub const LINT0: u32 = 0x350;
pub const LINT1: u32 = 0x360;
pub const ERROR: u32 = 0x370;
pub const INITIAL_COUNT: u32 = 0x380;
pub const CURRENT_COUNT: u32 = 0x390;
pub const DIVIDE: u32 = 0x3e0;
/// x2APIC only.
const SELF_IPI: u32 = 0x3f0;

/// Vector of spurious interrupts; bit 8 of the register enables the APIC.
pub const SPURIOUS_VECTOR: u32 = 0xff;
const ENABLED: u32 = 1 << 8;
/// Masks an entry of the local vector table.
pub const MASKED: u32 = 1 << 16;

/// Fields of the command register (SDM vol. 3, 11.6.1).
pub const LOWEST_PRIORITY: u32 = 1 << 8;
pub const NMI: u32 = 4 << 8;
pub const INIT: u32 = 5 << 8;
pub const STARTUP: u32 = 6 << 8;
pub const LOGICAL: u32 = 1 << 11;
const PENDING: u32 = 1 << 12;
pub const ASSERT: u32 = 1 << 14;
pub const LEVEL: u32 = 1 << 15;
pub const MYSELF: u32 = 1 << 18;
pub const ALL: u32 = 2 << 18;
pub const OTHERS: u32 = 3 << 18;

static IS_X2APIC: AtomicBool = AtomicBool::new(false);

/// Whether the processor has an x2APIC.
pub fn offers_x2apic() -> bool {
    cpuid(1, 0).ecx >> 21 & 1 != 0
}

/// Whether the registers are used by MSRs.
#[inline(always)]
pub fn is_x2apic() -> bool {
    IS_X2APIC.load(Ordering::Relaxed)
}

/// The mode's name in figures and messages.
pub fn mode_name() -> &'static str {
    if is_x2apic() { "x2apic" } else { "xapic" }
}

/// From now on all processors use MSRs; each must call [`enable`] next.
pub fn choose_x2apic() {
    IS_X2APIC.store(true, Ordering::SeqCst);
}

/// Whether this processor's APIC is in the mode that is chosen.
pub fn is_in_chosen_mode() -> bool {
    is_x2apic() == (read_msr(APIC_BASE_MSR) & X2APIC_ENABLE != 0)
}

/// Brings this processor's APIC to the mode that is chosen, and enables it with nothing held back.
pub fn enable() {
    if !is_in_chosen_mode() {
        write_msr(APIC_BASE_MSR, read_msr(APIC_BASE_MSR) | X2APIC_ENABLE);
    }
    write(SPURIOUS, SPURIOUS_VECTOR | ENABLED);
    write(TASK_PRIORITY, 0);
    // The 8259 pair and the NMI line are no part of any test.
    for entry in [TIMER, LINT0, LINT1, ERROR] {
        write(entry, MASKED);
    }
}

/// Disables this processor's APIC by software, as it is after INIT.
pub fn disable() {
    write(SPURIOUS, SPURIOUS_VECTOR);
}

/// Reads a register.
#[inline(always)]
pub fn read(register: u32) -> u32 {
    if is_x2apic() { read_msr(X2APIC_MSRS + (register >> 4)) as u32 } else { read_register(BASE + register) }
}

/// Writes a register.
#[inline(always)]
pub fn write(register: u32, value: u32) {
    if is_x2apic() {
        write_msr(X2APIC_MSRS + (register >> 4), u64::from(value));
    } else {
        write_register(BASE + register, value);
    }
}

/// Says that the interrupt in service has been dealt with.
#[inline(always)]
pub fn end_of_interrupt() {
    write(END_OF_INTERRUPT, 0);
}

/// The local APIC identifier.
pub fn identifier() -> u32 {
    if is_x2apic() { read(IDENTIFIER) } else { read(IDENTIFIER) >> 24 }
}

/// The destination that means everybody.
pub fn broadcast() -> u32 {
    if is_x2apic() { u32::MAX } else { 0xff }
}

/// Sends a command to a destination.
pub fn send(command: u32, destination: u32) {
    if is_x2apic() {
        write_msr(X2APIC_MSRS + (COMMAND >> 4), u64::from(destination) << 32 | u64::from(command));
        return;
    }
    // A handler that sends, too, would change the destination in between.
    without_interrupts(|| {
        while read(COMMAND) & PENDING != 0 {
            core::hint::spin_loop();
        }
        write(COMMAND_DESTINATION, destination << 24);
        write(COMMAND, command);
    });
}

/// Sends this processor an interrupt by the x2APIC's register for that.
pub fn send_self_register(vector: u32) {
    write(SELF_IPI, vector);
}

/// Whether an interrupt is in service.
pub fn is_in_service(vector: u32) -> bool {
    is_set(IN_SERVICE, vector)
}

/// Whether an interrupt waits to be taken.
pub fn is_requested(vector: u32) -> bool {
    is_set(REQUESTED, vector)
}

/// One of 256 bits, which lie in eight registers.
fn is_set(first: u32, vector: u32) -> bool {
    read(first + (vector / 32) * 0x10) >> (vector % 32) & 1 != 0
}

/// Whether nothing is in service and nothing waits.
pub fn is_quiet() -> bool {
    (0..8).all(|word| read(IN_SERVICE + word * 0x10) | read(REQUESTED + word * 0x10) == 0)
}

/// Clears the error status and tells what it held: a write latches the errors since the last one (SDM vol. 3, 11.5.3).
pub fn take_errors() -> u32 {
    write(ERROR_STATUS, 0);
    read(ERROR_STATUS)
}
