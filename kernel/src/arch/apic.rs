//! The local APIC, as memory-mapped xAPIC or as x2APIC MSRs: timer, interprocessor interrupts, end of interrupt.

use crate::arch::cpu::{self, Cpu};
use crate::arch::{msr, traps::vector};
use crate::memory::layout::DEVICES;
use crate::time;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use x86::msr::{
    IA32_APIC_BASE, IA32_TSC_DEADLINE, IA32_X2APIC_APICID as IDENTIFIER, IA32_X2APIC_CUR_COUNT as CURRENT_COUNT,
    IA32_X2APIC_DIV_CONF as DIVIDE, IA32_X2APIC_EOI as END_OF_INTERRUPT, IA32_X2APIC_ICR as COMMAND,
    IA32_X2APIC_INIT_COUNT as INITIAL_COUNT, IA32_X2APIC_LVT_ERROR as ERROR, IA32_X2APIC_LVT_LINT0 as LINT0,
    IA32_X2APIC_LVT_LINT1 as LINT1, IA32_X2APIC_LVT_TIMER as TIMER, IA32_X2APIC_SIVR as SPURIOUS,
    IA32_X2APIC_TPR as TASK_PRIORITY,
};

const MASKED: u32 = 1 << 16;
const TSC_DEADLINE: u32 = 2 << 17;
const DELIVERY_PENDING: u32 = 1 << 12;

static X2APIC: AtomicBool = AtomicBool::new(false);
static DEADLINE_MODE: AtomicBool = AtomicBool::new(false);
/// Timer ticks per 2^16 TSC ticks, for the counting mode.
static TIMER_RATIO: AtomicU64 = AtomicU64::new(0);

/// Where the xAPIC page has a register, which is named by its x2APIC MSR (SDM vol. 3, tables 11-1 and 11-6).
const fn place(register: u32) -> *mut u32 {
    (DEVICES + (register - 0x800) as u64 * 16) as *mut u32
}

fn read(register: u32) -> u32 {
    if X2APIC.load(Ordering::Relaxed) {
        // SAFETY: an x2APIC register of those listed above.
        unsafe { msr::read(register) as u32 }
    } else {
        // SAFETY: the page is mapped uncached, and the register lies in it.
        unsafe { place(register).read_volatile() }
    }
}

#[inline]
fn write(register: u32, value: u32) {
    if X2APIC.load(Ordering::Relaxed) {
        // SAFETY: an x2APIC register of those listed above.
        unsafe { msr::write(register, u64::from(value)) }
    } else {
        // SAFETY: the page is mapped uncached, and the register lies in it.
        unsafe { place(register).write_volatile(value) }
    }
}

/// Chooses the mode from the processor's features.
pub fn choose_mode() {
    let features = core::arch::x86_64::__cpuid(1);
    X2APIC.store(features.ecx & 1 << 21 != 0, Ordering::Relaxed);
    DEADLINE_MODE.store(features.ecx & 1 << 24 != 0, Ordering::Relaxed);
}

/// Physical address of the executing processor's xAPIC page.
pub fn page_address() -> u64 {
    // SAFETY: every processor with an APIC has this MSR.
    unsafe { msr::read(IA32_APIC_BASE) & 0x000f_ffff_ffff_f000 }
}

/// Turns the executing processor's APIC on, its timer ready but unarmed.
pub fn enable() {
    let x2apic = X2APIC.load(Ordering::Relaxed);
    // SAFETY: sets the global enable bit and, where the feature exists, x2APIC mode; the transitions are legal from reset
    // state (SDM vol. 3, 11.12.1), and harmless when already made.
    unsafe {
        let base = msr::read(IA32_APIC_BASE);
        msr::write(IA32_APIC_BASE, base | 1 << 11);
        if x2apic {
            msr::write(IA32_APIC_BASE, base | 1 << 11 | 1 << 10);
        }
    }
    write(SPURIOUS, 0x100 | u32::from(vector::SPURIOUS));
    write(TASK_PRIORITY, 0);
    write(LINT0, MASKED);
    write(LINT1, MASKED);
    write(ERROR, MASKED | 0xfe);
    write(DIVIDE, 0xb);
    let mode = if DEADLINE_MODE.load(Ordering::Relaxed) { TSC_DEADLINE } else { 0 };
    write(TIMER, mode | u32::from(vector::TIMER));
}

/// Identifier of the executing processor's APIC.
pub fn identifier() -> u32 {
    let raw = read(IDENTIFIER);
    if X2APIC.load(Ordering::Relaxed) { raw } else { raw >> 24 }
}

/// Ends the interrupt in service.
pub fn end_of_interrupt() {
    write(END_OF_INTERRUPT, 0);
}

fn command(target: u32, low: u32) {
    if X2APIC.load(Ordering::Relaxed) {
        // SAFETY: sends an interrupt; the x2APIC command register has no busy bit. Its write does not wait for earlier stores
        // (SDM vol. 3, 11.12.3), which the interrupted processor is to see: the fences do.
        unsafe {
            core::arch::asm!("mfence", "lfence", options(nostack, preserves_flags));
            msr::write(COMMAND, u64::from(target) << 32 | u64::from(low));
        }
    } else {
        while read(COMMAND) & DELIVERY_PENDING != 0 {
            core::hint::spin_loop();
        }
        write(COMMAND + 1, target << 24);
        write(COMMAND, low);
    }
}

/// Sends a fixed interrupt to the processor with this APIC identifier.
pub fn send(target: u32, number: u8) {
    let sent = &cpu::this().interrupts_sent;
    sent.set(sent.get().wrapping_add(1));
    command(target, 1 << 14 | u32::from(number));
}

/// Sends INIT.
pub fn send_init(target: u32) {
    command(target, 1 << 14 | 5 << 8);
}

/// Sends a start-up interrupt: real-mode code at `page` * 4096.
pub fn send_startup(target: u32, page: u8) {
    command(target, 1 << 14 | 6 << 8 | u32::from(page));
}

/// Sends an NMI to all other processors.
pub fn send_nmi_to_others() {
    command(0, 3 << 18 | 1 << 14 | 4 << 8);
}

/// Measures the timer against the TSC, for processors without the deadline mode.
pub fn calibrate() {
    if DEADLINE_MODE.load(Ordering::Relaxed) {
        return;
    }
    write(TIMER, MASKED);
    write(INITIAL_COUNT, u32::MAX);
    let start = msr::tsc();
    let span = time::frequency() / 200;
    while msr::tsc() - start < span {
        core::hint::spin_loop();
    }
    let ticks = u64::from(u32::MAX - read(CURRENT_COUNT));
    let elapsed = msr::tsc() - start;
    write(INITIAL_COUNT, 0);
    write(TIMER, u32::from(vector::TIMER));
    TIMER_RATIO.store(((ticks << 16) / elapsed).max(1), Ordering::Relaxed);
}

/// Has the timer interrupt at TSC value `deadline`; `u64::MAX`: never. In counting mode a far deadline may interrupt early.
pub fn arm_timer(deadline: u64, now: u64) {
    if DEADLINE_MODE.load(Ordering::Relaxed) {
        // SAFETY: the feature was checked; 0 disarms, and a value in the past interrupts at once.
        unsafe { msr::write(IA32_TSC_DEADLINE, if deadline == u64::MAX { 0 } else { deadline.max(1) }) }
    } else if deadline == u64::MAX {
        write(INITIAL_COUNT, 0);
    } else {
        let ticks = (u128::from(deadline.saturating_sub(now)) * u128::from(TIMER_RATIO.load(Ordering::Relaxed))) >> 16;
        write(INITIAL_COUNT, ticks.clamp(1, u128::from(u32::MAX)) as u32);
    }
}

/// Holds device interrupts back, or lets them come: the vectors below the kernel's own, by the task priority (SDM vol. 3, 11.8.3.1).
#[inline]
pub fn hold_devices(cpu: &Cpu, quiet: bool) {
    if cpu.quiet.replace(quiet) != quiet {
        write(TASK_PRIORITY, if quiet { u32::from(vector::TIMER) - 1 } else { 0 });
    }
}
