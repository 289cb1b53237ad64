//! What the kernel writes to trace rings.

use crate::syscall::numbered;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A record of a trace ring. A ring has as many places as records fit in its memory, numbered like the records: record `n` lies at
/// place `n` modulo their number. Place 0 has no record: its first eight bytes are the number of the next record, which is written
/// after each record is complete.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TraceRecord {
    /// Time-stamp counter.
    pub tsc: u64,
    /// [`TraceKind`].
    pub kind: u16,
    /// Partition of the CPU's thread: its generation, as `PartitionMethod::Inspect` tells it, modulo 2^16; 0 when the CPU is idle.
    pub partition: u16,
    /// The CPU's thread, by the number of its making, modulo 2^32; 0 when the CPU is idle.
    pub thread: u32,
    /// What the kind says.
    pub arguments: [u64; 2],
}

numbered! {
    /// What a [`TraceRecord`] is of.
    pub enum TraceKind {
        /// The scheduler has chosen the thread, or idleness.
        Switch = 1,
        /// The thread got the CPU by a call or a reply: the system call's number, as below.
        HandOver = 2,
        /// System call: its number, its first argument | its second one << 32. `Run` is also the entry to the guest.
        Syscall = 3,
        /// The CPU goes on with the guest that the thread runs.
        Enter = 4,
        /// Exit of the guest: basic exit reason, or [`EXIT_UNKNOWN`]; [`crate::ExitReason`], or [`EXIT_KEPT`] or [`EXIT_TIMED`] if the guest goes on.
        Exit = 5,
        /// Interrupt: its vector.
        Interrupt = 6,
        /// Exception of the thread: vector, instruction pointer.
        Fault = 7,
        /// The budget of a window is used up: the thread for which it would have paid, its priority.
        Throttle = 8,
    }
}

/// Argument of [`TraceKind::Exit`]: the kernel has done what there was to do.
pub const EXIT_KEPT: u64 = 0x100;
/// Argument of [`TraceKind::Exit`]: time was up, perhaps before the guest was entered.
pub const EXIT_TIMED: u64 = 0x101;
/// Argument of [`TraceKind::Exit`]: the guest processor left the CPU before its exit was recorded, or was not entered.
pub const EXIT_UNKNOWN: u64 = 0xffff;
