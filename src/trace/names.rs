//! Names of numbers in records.

use bulkhead_abi::{ExitReason, Syscall, TraceKind};
use bulkhead_trace_log::{exits, totals::EXIT_SLICE};

/// An exit, by the number under which it is counted.
pub fn exit(number: u64) -> String {
    const DEADLINE: u64 = EXIT_SLICE + ExitReason::Deadline as u64;
    const FAILED: u64 = EXIT_SLICE + ExitReason::EntryFailed as u64;
    match number {
        EXIT_SLICE => "slice".to_owned(),
        DEADLINE => "deadline".to_owned(),
        FAILED => "entry-failed".to_owned(),
        _ => exits::name(number).map_or_else(|| format!("exit-{number}"), str::to_owned),
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
