//! A native flow of control, bound to one CPU.

use crate::object::endpoint::Endpoint;
use crate::object::notification::Notification;
use crate::object::partition::Partition;
use crate::object::window::Window;
use crate::object::{bound, linked};
use crate::vmx::Vcpu;
use bulkhead_abi::{Error, MESSAGE_WORDS, Syscall};
use bulkhead_core::object::ObjectHeader;
use bulkhead_core::phys::{KernelObject, Ref};
use bulkhead_core::queue::{Links, Timed, Timer};
use bulkhead_core::slot::Slot;
use bulkhead_core::table::Table;
use core::cell::Cell;
use core::mem::offset_of;

/// How a thread returns to user mode. The assembly knows the numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Resume {
    /// By SYSRET: it is in a system call, only the ABI's registers count.
    Syscall = 0,
    /// By IRET: it was interrupted, all registers count.
    Interrupt = 1,
    /// It is running a guest processor.
    Guest = 2,
}

/// What a thread is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum State {
    /// Not started, or stopped.
    Stopped = 0,
    /// On a CPU or in its ready queue.
    Ready = 1,
    /// In an endpoint's queue of callers.
    Calling = 2,
    /// Waiting for the reply of the thread in `server`.
    AwaitingReply = 3,
    /// Waiting in an endpoint for a message.
    Receiving = 4,
    /// Waiting for a notification.
    Waiting = 5,
    /// Its window's budget is used up.
    Throttled = 6,
    /// Stopped by an exception.
    Faulted = 7,
}

/// A thread. Zero is a stopped one.
#[repr(C)]
pub struct Thread {
    /// Common to all objects.
    pub header: ObjectHeader,
    /// General registers, in encoding order.
    pub registers: [Cell<u64>; 16],
    /// Instruction pointer.
    pub rip: Cell<u64>,
    /// Flags.
    pub rflags: Cell<u64>,
    /// How to return.
    pub resume: Cell<Resume>,
    /// What it does.
    pub state: Cell<State>,
    /// Its CPU.
    pub cpu: Cell<u32>,
    /// Registers have been set.
    pub prepared: Cell<bool>,
    /// Told to stop as soon as it leaves its CPU.
    pub stopping: Cell<bool>,
    /// The partition it belongs to; none once that is destroyed.
    pub partition: Cell<Option<Ref<Partition>>>,
    /// The partition's capability table.
    pub table: Cell<Option<Table>>,
    /// Among the threads of its partition.
    pub siblings: Links<Thread>,
    /// Root of the partition's page tables, kept here for the switch.
    pub address_space: Cell<u64>,
    /// Whose window pays for it: itself, or the first of the chain of callers that it serves.
    pub payer: Cell<Option<Ref<Thread>>>,
    /// TSC ticks that it may run before its equals get their turn; 0: a full slice when it next runs.
    pub slice: Cell<u64>,
    /// Who waits for its reply.
    pub caller: Cell<Option<Ref<Thread>>>,
    /// Whose reply it waits for.
    pub server: Cell<Option<Ref<Thread>>>,
    /// The endpoint in which it is queued or receives.
    pub endpoint: Cell<Option<Ref<Endpoint>>>,
    /// Badge of the capability by which it called, while it is queued.
    pub badge: Cell<u64>,
    /// The notification for which it waits.
    pub waits_for: Cell<Option<Ref<Notification>>>,
    /// The guest processor that it runs.
    pub vcpu: Cell<Option<Ref<Vcpu>>>,
    /// Slot of its table for capabilities that messages bring, plus 1.
    pub receive_slot: Cell<u64>,
    /// Exception that stopped it.
    pub fault_vector: Cell<u64>,
    /// Its error code.
    pub fault_error: Cell<u64>,
    /// CR2 of a page fault.
    pub fault_address: Cell<u64>,
    /// In a ready queue or an endpoint's queue.
    pub queued: Links<Thread>,
    /// In a timer queue.
    pub timer: Timer<Thread>,
    /// In that of the quiet slot.
    pub is_soon: Cell<bool>,
    /// Capability to its window, a child of the one that bound it.
    pub window: Slot,
    /// Capability to its bound notification.
    pub bound: Slot,
    /// Capability to the notification that its faults signal.
    pub fault: Slot,
}

// SAFETY: cells and numbers; the enums have a variant of value 0, and `None` of a reference is zero.
unsafe impl KernelObject for Thread {}

const _: () = {
    assert!(offset_of!(Thread, registers) == 64);
    assert!(offset_of!(Thread, rip) == 192);
    assert!(offset_of!(Thread, rflags) == 200);
    assert!(offset_of!(Thread, resume) == 208);
    assert!(size_of::<Thread>() <= 4096);
};

/// Marks the queues that a thread is in because of what it does: a ready queue, or an endpoint's callers.
pub struct Queued;
/// Marks the lists of partitions' threads.
pub struct Sibling;
/// Marks the timer queues.
pub struct Sleeping;

linked! {
    Thread, Queued => queued;
    Thread, Sibling => siblings;
}

impl Timed<Sleeping> for Thread {
    fn timer(&self) -> &Timer<Self> {
        &self.timer
    }
}

/// Index in `registers` of those that results use.
mod index {
    pub const RAX: usize = 0;
    pub const RDX: usize = 2;
    pub const RSP: usize = 4;
    pub const RSI: usize = 6;
    pub const RDI: usize = 7;
}

impl Thread {
    /// Keeps what a trap pushed.
    pub fn store_registers(&self, registers: &[u64; 16], rip: u64, rflags: u64) {
        for (cell, value) in self.registers.iter().zip(registers) {
            cell.set(*value);
        }
        self.rip.set(rip);
        self.rflags.set(rflags);
    }

    /// Sets the status of the system call that it is in.
    #[inline(always)]
    pub fn set_status(&self, status: Result<(), Error>) {
        self.registers[index::RAX].set(match status {
            Ok(()) => 0,
            Err(error) => error as u64,
        });
    }

    /// The registers of arguments and results: `rdi`, `rsi`, `rdx`, `r10`, `r8`, `r9`.
    #[inline(always)]
    fn result_registers(&self) -> [&Cell<u64>; 6] {
        let [_, _, rdx, _, _, _, rsi, rdi, r8, r9, r10, ..] = &self.registers;
        [rdi, rsi, rdx, r10, r8, r9]
    }

    /// Sets the six result registers, and success.
    #[inline(always)]
    pub fn set_results(&self, results: [u64; 6]) {
        self.set_status(Ok(()));
        for (register, value) in self.result_registers().into_iter().zip(results) {
            register.set(value);
        }
    }

    /// Sets the message that its system call returns, and success.
    #[inline(always)]
    pub fn set_message(&self, badge: u64, info: u64, [w0, w1, w2, w3]: [u64; MESSAGE_WORDS]) {
        self.set_results([badge, info, w0, w1, w2, w3]);
    }

    /// What it keeps of its call while it is queued at an endpoint: slot, info and words.
    pub fn message(&self) -> (u64, u64, [u64; MESSAGE_WORDS]) {
        let [slot, info, words @ ..] = self.result_registers().map(Cell::get);
        (slot, info, words)
    }

    /// Sets `rdx`, where `Wait` returns the signal bits, and success.
    #[inline(always)]
    pub fn set_bits(&self, bits: u64) {
        self.registers[index::RAX].set(0);
        self.registers[index::RDX].set(bits);
    }

    /// Sets `rsi`, where `Run` returns the exit reason, and success.
    #[inline(always)]
    pub fn set_exit(&self, reason: u64) {
        self.registers[index::RAX].set(0);
        self.registers[index::RSI].set(reason);
        self.resume.set(Resume::Syscall);
    }

    /// Prepares a start at `rip`.
    pub fn prepare(&self, rip: u64, rsp: u64, argument: u64) {
        for register in &self.registers {
            register.set(0);
        }
        self.registers[index::RSP].set(rsp);
        self.registers[index::RDI].set(argument);
        self.rip.set(rip);
        self.rflags.set(0x202);
        self.resume.set(Resume::Interrupt);
        self.vcpu.set(None);
        self.fault_vector.set(u64::MAX);
        self.prepared.set(true);
    }

    /// Makes a system call happen again, with the same arguments, when the thread next runs: how long
    /// operations let interrupts in.
    pub fn restart_syscall(&self, call: Syscall, arguments: [u64; 6]) {
        self.set_results(arguments);
        self.registers[index::RAX].set(call as u64);
        // SYSCALL is two bytes.
        self.rip.set(self.rip.get().wrapping_sub(2));
    }

    /// Ends its waiting for a notification.
    pub fn end_wait(&self) {
        if let Some(notification) = self.waits_for.replace(None) {
            notification.waiter.set(None);
        }
    }

    /// The window that pays for it, if it still exists.
    pub fn paying_window(&self) -> Option<Ref<Window>> {
        bound(&self.payer.get()?.window)
    }

    /// Its bound notification, if any.
    #[inline(always)]
    pub fn bound_notification(&self) -> Option<Ref<Notification>> {
        bound(&self.bound)
    }
}
