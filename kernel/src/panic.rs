//! The end: a defect of the kernel, or of init, stops the machine and says where.
//!
//! Places in code are written as `kernel@0x...` and `init@0x...`; the host command finds the lines of the source.

use crate::arch::control::fault_address;
use crate::arch::serial::{self, print};
use crate::arch::traps::Frame;
use crate::arch::{apic, cpu};
use crate::memory::{self, layout::is_stack};
use crate::object::thread::Thread;
use bulkhead_core::phys::Ref;
use core::arch::asm;
use core::cell::Cell;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};
use x86::current::registers::rsp;

static STOPPED: AtomicBool = AtomicBool::new(false);

/// Words of the stack that a backtrace looks through.
const DEPTH: u64 = 1024;
/// Lines of a backtrace.
const LINES: usize = 24;

/// On an NMI: stops this processor if another one has panicked.
pub fn stop_if_asked() {
    if STOPPED.load(Ordering::Acquire) {
        halt();
    }
}

/// Stops this processor for ever.
pub fn halt() -> ! {
    loop {
        // SAFETY: with interrupts off only an NMI ends the HLT, and then it halts again.
        unsafe { asm!("cli", "hlt", options(nomem, nostack)) }
    }
}

/// Stops all processors and takes the UART.
fn begin() {
    if STOPPED.swap(true, Ordering::AcqRel) {
        halt();
    }
    if cpu::count() > 1 {
        apic::send_nmi_to_others();
    }
    serial::seize();
}

fn backtrace(stack: u64) {
    print(format_args!("backtrace:\n"));
    let mut lines = 0;
    for word in 0..DEPTH {
        let address = stack + word * 8;
        if address % 4096 < 8 && word != 0 && !is_stack(address) {
            break;
        }
        // SAFETY: the address lies on a kernel stack, checked at every page's beginning.
        let value = unsafe { (address as *const u64).read_volatile() };
        if follows_call(value) {
            // The call's last byte: the return may lead to another function, if this one never returns.
            print(format_args!("  kernel@{:#x}\n", value - 1));
            lines += 1;
            if lines == LINES {
                break;
            }
        }
    }
    print(format_args!("bulkhead: kernel stopped\n"));
}

/// Whether a word on the stack is an address behind a call instruction in the kernel's text.
fn follows_call(value: u64) -> bool {
    let text = memory::text_range();
    if value < text.start + 8 || value >= text.end {
        return false;
    }
    // SAFETY: the seven bytes before the address lie in the kernel's text.
    let before = unsafe { ((value - 7) as *const [u8; 7]).read() };
    let is_indirect = |pair: &[u8]| matches!(pair, [0xff, operand] if operand & 0x38 == 0x10);
    matches!(before, [_, _, 0xe8, ..] | [0xff, ..]) || before.windows(2).skip(2).any(is_indirect)
}

/// Stops the machine with a reason.
#[cold]
pub fn fatal(reason: &str) -> ! {
    begin();
    print(format_args!("\nbulkhead: KERNEL PANIC: {reason}\n"));
    backtrace(rsp());
    halt()
}

/// An exception in the kernel.
#[cold]
pub fn exception(frame: &Frame) -> ! {
    begin();
    let cr2 = fault_address();
    print(format_args!("\nbulkhead: KERNEL PANIC: exception {} error {:#x}\n", frame.vector, frame.error_code));
    print(format_args!("  rip kernel@{:#x}\n", frame.rip));
    print(format_args!(
        "  cs {:#x} rflags {:#x} rsp {:#018x} ss {:#x} cr2 {cr2:#018x}\n",
        frame.cs, frame.rflags, frame.rsp, frame.ss
    ));
    print_registers(&frame.registers);
    backtrace(frame.rsp);
    halt()
}

/// Prints general registers, four a line.
fn print_registers(registers: &[u64; 16]) {
    const NAMES: [&str; 16] =
        ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"];
    for (index, (name, value)) in NAMES.iter().zip(registers).enumerate() {
        let end = if index % 4 == 3 { "\n" } else { "" };
        print(format_args!("  {name:>3} {value:#018x}{end}"));
    }
}

/// Init has faulted: there is nobody left to restart it. `message` is what it had to say.
#[cold]
pub fn init_fault(thread: Ref<Thread>, message: &str) -> ! {
    begin();
    let (vector, error) = (thread.fault_vector.get(), thread.fault_error.get());
    let (rip, address) = (thread.rip.get(), thread.fault_address.get());
    print(format_args!(
        "\nbulkhead: init stopped: exception {vector} error {error:#x} rip init@{rip:#x} cr2 {address:#x}\n"
    ));
    if !message.is_empty() {
        print(format_args!("bulkhead: init says: {message}\n"));
    }
    print_registers(&thread.registers.each_ref().map(Cell::get));
    print(format_args!("bulkhead: end: failed: init stopped\n"));
    halt()
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    begin();
    print(format_args!("\nbulkhead: KERNEL PANIC: {}\n", info.message()));
    if let Some(place) = info.location() {
        print(format_args!("  at {}:{}:{}\n", place.file(), place.line(), place.column()));
    }
    backtrace(rsp());
    halt()
}
