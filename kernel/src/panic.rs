//! The end: a defect of the kernel, or of init, stops the machine and says where.

use crate::arch::control::fault_address;
use crate::arch::traps::Frame;
use crate::arch::{apic, cpu, serial};
use crate::symbols;
use core::arch::asm;
use core::fmt;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

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

fn print(arguments: fmt::Arguments<'_>) {
    serial::print(arguments);
}

fn backtrace(stack: u64) {
    print(format_args!("backtrace:\n"));
    let mut lines = 0;
    for word in 0..DEPTH {
        let address = stack + word * 8;
        if address % 4096 < 8 && word != 0 && !symbols::is_kernel_stack(address) {
            break;
        }
        // SAFETY: the address lies on a kernel stack, checked at every page's beginning.
        let value = unsafe { (address as *const u64).read_volatile() };
        if let Some((name, offset)) = symbols::return_address(value) {
            print(format_args!("  {value:#x} {name:#}+{offset:#x}\n"));
            lines += 1;
            if lines == LINES {
                break;
            }
        }
    }
    print(format_args!("bulkhead: kernel stopped\n"));
}

fn stack_pointer() -> u64 {
    let value;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, rsp", out(reg) value, options(nomem, nostack)) };
    value
}

/// Stops the machine with a reason.
#[cold]
pub fn fatal(reason: &str) -> ! {
    begin();
    print(format_args!("\nbulkhead: KERNEL PANIC: {reason}\n"));
    backtrace(stack_pointer());
    halt()
}

/// An exception in the kernel.
#[cold]
pub fn exception(frame: &Frame) -> ! {
    begin();
    let cr2 = fault_address();
    print(format_args!("\nbulkhead: KERNEL PANIC: exception {} error {:#x}\n", frame.vector, frame.error_code));
    let place = symbols::name_of(frame.rip);
    match place {
        Some((name, offset)) => print(format_args!("  rip {:#018x} {name:#}+{offset:#x}\n", frame.rip)),
        None => print(format_args!("  rip {:#018x}\n", frame.rip)),
    }
    print(format_args!(
        "  cs {:#x} rflags {:#x} rsp {:#018x} ss {:#x} cr2 {cr2:#018x}\n",
        frame.cs, frame.rflags, frame.rsp, frame.ss
    ));
    print_registers(&frame.registers);
    backtrace(frame.rsp);
    halt()
}

/// Prints general registers, four a line.
pub fn print_registers(registers: &[u64; 16]) {
    const NAMES: [&str; 16] =
        ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"];
    for (index, (name, value)) in NAMES.iter().zip(registers).enumerate() {
        let end = if index % 4 == 3 { "\n" } else { "" };
        print(format_args!("  {name:>3} {value:#018x}{end}"));
    }
}

/// Init has faulted: there is nobody left to restart it. `message` is what it had to say.
#[cold]
pub fn init_fault(vector: u64, error: u64, rip: u64, address: u64, registers: &[u64; 16], message: &str) -> ! {
    begin();
    print(format_args!(
        "\nbulkhead: init stopped: exception {vector} error {error:#x} rip {rip:#x} cr2 {address:#x}\n"
    ));
    if !message.is_empty() {
        print(format_args!("bulkhead: init says: {message}\n"));
    }
    print_registers(registers);
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
    backtrace(stack_pointer());
    halt()
}
