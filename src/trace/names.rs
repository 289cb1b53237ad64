//! Names of numbers in records.

use bulkhead_abi::{ExitReason, Syscall, TraceKind};
use bulkhead_trace_log::totals::EXIT_SLICE;

/// Basic exit reasons (SDM vol. 3, appendix C), as virtual machine monitors call them where they count them, too.
const EXITS: [(u64, &str); 29] = [
    (0, "exception"),
    (1, "interrupt"),
    (2, "triple-fault"),
    (7, "interrupt-window"),
    (8, "nmi-window"),
    (9, "task-switch"),
    (10, "cpuid"),
    (12, "hlt"),
    (13, "invd"),
    (14, "invlpg"),
    (15, "rdpmc"),
    (18, "vmcall"),
    (28, "control-register"),
    (29, "debug-register"),
    (30, "io"),
    (31, "rdmsr"),
    (32, "wrmsr"),
    (36, "mwait"),
    (39, "monitor"),
    (40, "pause"),
    (43, "tpr-below-threshold"),
    (44, "apic-access"),
    (45, "virtualized-eoi"),
    (48, "memory"),
    (49, "memory-misconfiguration"),
    (52, "timer"),
    (54, "wbinvd"),
    (55, "xsetbv"),
    (56, "apic-write"),
];

/// An exit, by the number under which it is counted.
pub fn exit(number: u64) -> String {
    const DEADLINE: u64 = EXIT_SLICE + ExitReason::Deadline as u64;
    const FAILED: u64 = EXIT_SLICE + ExitReason::EntryFailed as u64;
    match number {
        EXIT_SLICE => "slice".to_owned(),
        DEADLINE => "deadline".to_owned(),
        FAILED => "entry-failed".to_owned(),
        _ => match EXITS.iter().find(|(reason, _)| *reason == number) {
            Some((_, name)) => (*name).to_owned(),
            None => format!("exit-{number}"),
        },
    }
}

/// A system call.
pub fn syscall(number: u64) -> String {
    let name = match Syscall::from_number(number) {
        Some(Syscall::Call) => "call",
        Some(Syscall::ReplyReceive) => "reply-receive",
        Some(Syscall::Signal) => "signal",
        Some(Syscall::Wait) => "wait",
        Some(Syscall::Run) => "run",
        Some(Syscall::Yield) => "yield",
        Some(Syscall::Invoke) => "invoke",
        None => return format!("syscall-{number}"),
    };
    name.to_owned()
}

/// An event, with what it is of; nothing for what slices show.
pub fn event(kind: u16, [first, second]: [u64; 2]) -> Option<String> {
    Some(match TraceKind::from_number(u64::from(kind))? {
        TraceKind::Switch | TraceKind::HandOver | TraceKind::Enter => return None,
        TraceKind::Syscall => syscall(first),
        TraceKind::Exit => format!("exit {}", exit(bulkhead_trace_log::totals::exit(first, second))),
        TraceKind::Interrupt => format!("interrupt {first:#x}"),
        TraceKind::Fault => format!("fault {first}"),
        TraceKind::Throttle => "budget used up".to_owned(),
    })
}
