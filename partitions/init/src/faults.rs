//! Reports of faults: what a person needs to find the cause.
//!
//! Places in a program's code are written as `PROGRAM@0x...`; the host command, which has the program's file with its debug
//! information, finds the lines of the source.

use crate::construct::{Built, OWN};
use alloc::string::String;
use bulkhead_runtime::abi::{FaultReport, Rights};
use bulkhead_runtime::mapping::{FaultPage, Mapping};
use bulkhead_runtime::println;

/// Where init maps a faulted thread's stack while it looks at it.
const STACK_VIEW: u64 = 0x1100_0000_0000;
/// Lines of a backtrace at most.
const MOST_FRAMES: usize = 12;
/// Index of RSP among a report's registers.
const RSP: usize = 4;

/// Prints a report for every thread of the partition that has faulted. Says in a few words what the first one was, if any.
pub fn report(built: &Built, page: &mut FaultPage) -> Option<String> {
    let mut first = None;
    for (index, thread) in built.threads.iter().enumerate() {
        // A thread that runs refuses: it has not faulted.
        let Ok(report) = thread.read_fault(page) else {
            continue;
        };
        if report.vector == u64::MAX {
            continue;
        }
        print(built, index, &report);
        if first.is_none() {
            let rip = describe(built, report.rip);
            first = Some(alloc::format!("{} at {rip}", name(report.vector)));
        }
    }
    first
}

fn print(built: &Built, thread: usize, report: &FaultReport) {
    println!(
        "bulkhead: partition {} thread {thread}: {} (vector {}), error code {:#x}, address {:#x}",
        built.plan.name(),
        name(report.vector),
        report.vector,
        report.error_code,
        report.address
    );
    println!("  rip {}", describe(built, report.rip));
    println!("  rflags {:#x}", report.rflags);
    const NAMES: [&str; 16] =
        ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"];
    for (names, values) in NAMES.chunks(4).zip(report.registers.chunks(4)) {
        let mut line = String::new();
        for (name, value) in names.iter().zip(values) {
            line.push_str(&alloc::format!("  {name:3} {value:016x}"));
        }
        println!("{line}");
    }
    backtrace(built, thread, report);
}

/// Prints the calls to which addresses on the stack return: its callers, and some that were so once.
fn backtrace(built: &Built, thread: usize, report: &FaultReport) {
    let Some((memory, record)) = built.stacks.get(thread).zip(built.plan.threads().get(thread)) else {
        return;
    };
    let Ok(mapping) = Mapping::new(OWN, *memory, STACK_VIEW, Rights::READ, 0) else {
        return;
    };
    let stack = mapping.view();
    let bottom = record.stack_top.saturating_sub(record.stack_bytes);
    let Some(pointer) = report.registers.get(RSP).and_then(|rsp| rsp.checked_sub(bottom)) else {
        return;
    };
    let mut offset = (pointer as usize).next_multiple_of(size_of::<u64>());
    let mut frames = 0;
    let mut word = [0; size_of::<u64>()];
    while frames < MOST_FRAMES && stack.read(offset, &mut word).is_ok() {
        let value = u64::from_le_bytes(word);
        if built.image.follows_call(value) {
            // The call's last byte: the return may lead to another function, if this one never returns.
            println!("  on stack {}", describe(built, value - 1));
            frames += 1;
        }
        offset += size_of::<u64>();
    }
}

/// A place in a partition's program.
fn describe(built: &Built, address: u64) -> String {
    let program = built.plan.program().map_or("", |(_, module)| module.name.as_str());
    alloc::format!("{}@{address:#x}", program.strip_prefix("program/").unwrap_or(program))
}

/// Name of an exception (SDM vol. 3, 6.15).
fn name(vector: u64) -> &'static str {
    const NAMES: [&str; 22] = [
        "divide error",
        "debug exception",
        "non-maskable interrupt",
        "breakpoint",
        "overflow",
        "bound range exceeded",
        "invalid opcode",
        "device not available",
        "double fault",
        "coprocessor segment overrun",
        "invalid task state",
        "segment not present",
        "stack fault",
        "general protection",
        "page fault",
        "reserved exception",
        "floating-point error",
        "alignment check",
        "machine check",
        "SIMD floating-point exception",
        "virtualization exception",
        "control protection exception",
    ];
    usize::try_from(vector).ok().and_then(|index| NAMES.get(index)).copied().unwrap_or("unknown exception")
}
