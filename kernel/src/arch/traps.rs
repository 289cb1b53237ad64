//! The interrupt descriptor table, and what happens on each vector.

use crate::arch::descriptors::{KERNEL_CODE, USER_CODE, USER_DATA, stack};
use crate::arch::{apic, cpu, msr};
use crate::lock::kernel_lock;
use crate::object::thread::{Resume, Thread};
use crate::{fault, schedule, time, trace};
use bulkhead_abi::TraceKind;
use bulkhead_core::phys::Ref;
use core::arch::global_asm;
use core::cell::UnsafeCell;

global_asm!(
    include_str!("entry.s"), include_str!("../vmx/entry.s"),
    user_data = const USER_DATA, user_code = const USER_CODE, host_stack = const x86::vmx::vmcs::host::RSP,
);

unsafe extern "C" {
    static trap_stubs: [u8; 0];
    static syscall_entry: [u8; 0];
    /// Runs the scheduler on a fresh stack.
    pub fn start_scheduling(stack_top: u64) -> !;
}

/// Vectors of the kernel's own use.
pub mod vector {
    /// First vector of device interrupts; vector = this + global system interrupt.
    pub const FIRST_DEVICE: u8 = 0x30;
    /// Local timer.
    pub const TIMER: u8 = 0xf0;
    /// Look at the ready queue.
    pub const RESCHEDULE: u8 = 0xf1;
    /// Look into the mailbox.
    pub const REQUEST: u8 = 0xf2;
    /// Leave the guest, and look at the notification of the thread that runs it.
    pub const LOOK: u8 = 0xf3;
    /// Interrupts are posted for the guest: the processor takes them, or the kernel before it goes on with the guest.
    pub const POSTED: u8 = 0xf4;
    /// Spurious interrupt of the local APIC.
    pub const SPURIOUS: u8 = 0xff;
}

/// What the trap assembly and the processor pushed.
#[repr(C)]
pub struct Frame {
    /// The general registers, in encoding order.
    pub registers: [u64; 16],
    /// Vector.
    pub vector: u64,
    /// Error code, or 0.
    pub error_code: u64,
    /// Instruction pointer.
    pub rip: u64,
    /// Code segment.
    pub cs: u64,
    /// Flags.
    pub rflags: u64,
    /// Stack pointer.
    pub rsp: u64,
    /// Stack segment.
    pub ss: u64,
}

#[repr(C, align(4096))]
struct DescriptorTable(UnsafeCell<[[u64; 2]; 256]>);
// SAFETY: written once by the first processor before others start; afterwards only the hardware reads it.
unsafe impl Sync for DescriptorTable {}
static TABLE: DescriptorTable = DescriptorTable(UnsafeCell::new([[0; 2]; 256]));

/// Fills the table. Once, on the first processor.
pub fn initialise() {
    let base = (&raw const trap_stubs) as u64;
    // SAFETY: no other processor runs and no descriptor is in use yet.
    let table = unsafe { &mut *TABLE.0.get() };
    for (vector, entry) in table.iter_mut().enumerate() {
        let handler = base + vector as u64 * 16;
        let interrupt_stack = match vector {
            1 => stack::DEBUG,
            2 => stack::NMI,
            8 => stack::DOUBLE_FAULT,
            18 => stack::MACHINE_CHECK,
            0..32 => stack::FAULT,
            _ => 0,
        };
        let low = (handler & 0xffff) | u64::from(KERNEL_CODE) << 16 | u64::from(interrupt_stack) << 32 | 0x8e << 40;
        *entry = [low | (handler >> 16 & 0xffff) << 48, handler >> 32];
    }
}

/// Loads the table and the system-call registers on the executing processor.
pub fn load() {
    let pointer = x86::dtables::DescriptorTablePointer { limit: 4095, base: TABLE.0.get().cast::<u64>().cast_const() };
    // SAFETY: the table is filled; the MSRs exist on every 64-bit processor, and the values are the kernel's selectors and
    // entry point. SYSRET adds 16 and 8 to its base selector, hence kernel data | 3.
    unsafe {
        x86::dtables::lidt(&pointer);
        msr::write(x86::msr::IA32_STAR, u64::from(USER_DATA - 8) << 48 | u64::from(KERNEL_CODE) << 32);
        msr::write(x86::msr::IA32_LSTAR, (&raw const syscall_entry) as u64);
        msr::write(x86::msr::IA32_FMASK, 0x0004_7f00);
    }
}

/// An interrupt or exception in a partition.
#[unsafe(no_mangle)]
extern "C" fn trap_from_user(frame: &Frame) -> Ref<Thread> {
    let cpu = cpu::this();
    let _lock = kernel_lock();
    let Some(thread) = cpu.current.get() else { crate::panic::fatal("a trap from user mode without a thread") };
    thread.store_registers(&frame.registers, frame.rip, frame.rflags);
    thread.resume.set(Resume::Interrupt);
    match frame.vector as u8 {
        2 => {}
        number @ 0..32 => fault::from_thread(cpu, thread, number, frame.error_code),
        number => interrupt(number),
    }
    schedule::next(cpu)
}

/// An interrupt while the processor was idle, or an exception in the kernel itself.
#[unsafe(no_mangle)]
extern "C" fn trap_from_kernel(frame: &mut Frame) {
    match frame.vector as u8 {
        // A debug exception at the system-call entry was set up by a partition; nothing of the kernel's is lost.
        1 => {}
        2 => crate::panic::stop_if_asked(),
        0..32 => crate::panic::exception(frame),
        number => {
            let _lock = kernel_lock();
            interrupt(number);
        }
    }
}

/// Serves an interrupt; the kernel lock is held.
pub fn interrupt(number: u8) {
    trace::record(cpu::this(), TraceKind::Interrupt, || [u64::from(number), 0]);
    match number {
        vector::TIMER => time::expire(cpu::this()),
        vector::RESCHEDULE => cpu::this().reschedule.set(true),
        // What was asked has been done while this processor waited for the lock, whose holder asked and waited.
        vector::REQUEST | vector::LOOK | vector::POSTED => {}
        // There is nothing in service.
        vector::SPURIOUS => return,
        _ => crate::object::interrupt::arrived(number),
    }
    apic::end_of_interrupt();
}
