//! Instructions that only the multiprocessor tests need: model-specific registers, interrupts on and off, and task priority.

use core::arch::asm;

const INTERRUPT_FLAG: u64 = 1 << 9;

/// RDMSR, of a register that the processor has.
#[inline(always)]
pub fn read_msr(msr: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reading a register that is there changes nothing of this program.
    unsafe { asm!("rdmsr", in("ecx") msr, out("eax") low, out("edx") high, options(nostack, preserves_flags)) };
    u64::from(high) << 32 | u64::from(low)
}

/// WRMSR, of a register that the processor has, and which does not decide how this program runs.
#[inline(always)]
pub fn write_msr(msr: u32, value: u64) {
    // SAFETY: as the caller says. Memory counts as changed, since the write may send an interrupt about it.
    unsafe {
        asm!("wrmsr", in("ecx") msr, in("eax") value as u32, in("edx") (value >> 32) as u32, options(nostack, preserves_flags))
    };
}

/// Lets interrupts in. The next instruction is still free of them.
#[inline(always)]
pub fn enable_interrupts() {
    // SAFETY: every vector has a handler that leaves what it interrupts as it was.
    unsafe { asm!("sti", options(nostack)) };
}

/// Keeps interrupts out.
#[inline(always)]
pub fn disable_interrupts() {
    // SAFETY: nothing is wrong without interrupts.
    unsafe { asm!("cli", options(nostack)) };
}

/// Runs something without interrupts, and leaves them as they were.
#[inline(always)]
pub fn without_interrupts<R>(operation: impl FnOnce() -> R) -> R {
    let flags: u64;
    // SAFETY: the flags are read by way of the stack.
    unsafe { asm!("pushfq", "pop {}", "cli", out(reg) flags) };
    let result = operation();
    if flags & INTERRUPT_FLAG != 0 {
        enable_interrupts();
    }
    result
}

/// Lets interrupts in and waits for one. Whoever comes with interrupts off cannot miss one: STI takes effect behind HLT.
#[inline(always)]
pub fn halt() {
    // SAFETY: every vector has a handler that leaves what it interrupts as it was.
    unsafe { asm!("sti", "hlt", options(nostack)) };
}

/// Waits for an NMI.
pub fn halt_without_interrupts() {
    // SAFETY: NMIs have a handler.
    unsafe { asm!("cli", "hlt", options(nostack)) };
}

/// Stops this processor with interrupts off: only NMI, INIT and reset get through.
pub fn stop() -> ! {
    loop {
        halt_without_interrupts();
    }
}

/// The task priority's class, as CR8 has it.
pub fn read_cr8() -> u64 {
    let value: u64;
    // SAFETY: reading it changes nothing.
    unsafe { asm!("mov {}, cr8", out(reg) value, options(nostack, preserves_flags)) };
    value
}

/// Sets the task priority's class, 0 to 15.
pub fn write_cr8(class: u64) {
    // SAFETY: it decides only which interrupts are let in.
    unsafe { asm!("mov cr8, {}", in(reg) class & 15, options(nostack, preserves_flags)) };
}

/// The first page table, which all processors share.
pub fn read_cr3() -> u64 {
    let value: u64;
    // SAFETY: reading it changes nothing.
    unsafe { asm!("mov {}, cr3", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Tells which of the processors this is, in a word that its GS base points to.
#[inline(always)]
pub fn processor_index() -> usize {
    let index: u32;
    // SAFETY: `smp` points the base to such a word before anything asks.
    unsafe { asm!("mov {:e}, gs:[0]", out(reg) index, options(nostack, preserves_flags, readonly)) };
    index as usize
}
