//! What each processor has of its own: current thread, stacks, descriptor tables, queues.

use crate::arch::descriptors::{GlobalDescriptors, TaskState};
use crate::memory::layout::Area;
use crate::object::partition::MAX_PORT_RANGES;
use crate::object::thread::{Queued, Sleeping, Thread};
use crate::vmx::VmxCpu;
use bulkhead_core::phys::Ref;
use bulkhead_core::queue::{Priority, ReadyQueue, TimerQueue};
use bulkhead_core::shootdown::Mailbox;
use core::arch::asm;
use core::cell::Cell;
use core::sync::atomic::{AtomicU32, Ordering};

/// Most processors that the kernel runs on.
pub const MAX_CPUS: usize = 64;

/// A processor's own data. Its address is the GS base in kernel mode; the assembly knows the first four fields.
#[repr(C)]
pub struct Cpu {
    /// This structure's address.
    own_address: Cell<u64>,
    /// The thread whose registers a kernel entry saves.
    pub current: Cell<Option<Ref<Thread>>>,
    /// Where a kernel entry starts its stack.
    pub stack_top: Cell<u64>,
    /// The user's stack pointer, for the few instructions of a system-call entry that have no register for it.
    pub scratch: Cell<u64>,
    /// Number, from 0.
    pub number: Cell<u32>,
    /// Local APIC identifier.
    pub apic_id: Cell<u32>,
    /// Priority of the current thread.
    pub priority: Cell<Priority>,
    /// Physical address in CR3.
    pub address_space: Cell<u64>,
    /// Partition whose port ranges the I/O bitmap holds, as an address; 0 for none.
    pub ports_of: Cell<u64>,
    /// The ranges that the I/O bitmap allows: first port and count.
    pub loaded_ports: [Cell<(u16, u32)>; MAX_PORT_RANGES],
    /// Threads that could run here.
    pub ready: ReadyQueue<Thread, Queued>,
    /// Threads here that wait for a time.
    pub timers: TimerQueue<Thread, Sleeping>,
    /// Those whose time is within the quiet slot that runs: how long it takes to be among them depends on nobody else.
    pub soon: TimerQueue<Thread, Sleeping>,
    /// TSC value for which the local timer is armed; `u64::MAX` if for none.
    pub armed: Cell<u64>,
    /// TSC value at which the current thread's slice or its window's budget ends; `u64::MAX` for never.
    pub budget_end: Cell<u64>,
    /// TSC value until which device interrupts are held back.
    pub quiet_until: Cell<u64>,
    /// They are.
    pub quiet: Cell<bool>,
    /// TSC value since when the current window is charged.
    pub window_since: Cell<u64>,
    /// A thread of higher priority than the current one became ready.
    pub reschedule: Cell<bool>,
    /// Interrupts sent to other processors.
    pub interrupts_sent: Cell<u64>,
    /// VMX state of the processor.
    pub vmx: VmxCpu,
    /// What another processor asks of this one.
    pub mailbox: Mailbox,
    /// Descriptor tables.
    pub descriptors: GlobalDescriptors,
    /// Task state: stacks for exceptions, and the I/O bitmap.
    pub task: TaskState,
}

static COUNT: AtomicU32 = AtomicU32::new(0);

/// Processors that run; their numbers are those below.
pub fn count() -> u32 {
    COUNT.load(Ordering::Acquire)
}

/// The processor with this number.
pub fn by_number(number: u32) -> Option<&'static Cpu> {
    // SAFETY: the structure of a processor that runs is complete, and lives for ever.
    (number < count()).then(|| unsafe { &*(Area::of(number).cpu() as *const Cpu) })
}

/// All processors that run.
pub fn all() -> impl Iterator<Item = &'static Cpu> + Clone {
    (0..count()).filter_map(by_number)
}

/// The processor that executes this. Interrupts are off in the kernel, so it cannot change under the caller.
#[inline(always)]
pub fn this() -> &'static Cpu {
    let address: *const Cpu;
    // SAFETY: in kernel mode GS points to this processor's `Cpu`, whose first field is its own address.
    unsafe {
        asm!("mov {}, gs:[0]", out(reg) address, options(nostack, readonly, pure, preserves_flags));
        &*address
    }
}

impl Cpu {
    /// Makes zeroed memory the structure of processor `number`.
    ///
    /// # Safety
    /// `place` must be zeroed, aligned memory of the right size that is never freed.
    pub unsafe fn initialise(place: *mut Cpu, number: u32, stack_top: u64) -> &'static Cpu {
        // SAFETY: all fields are cells, atomics and tables for which zero is valid.
        let cpu = unsafe { &*place };
        cpu.own_address.set(place as u64);
        cpu.number.set(number);
        cpu.stack_top.set(stack_top);
        cpu.armed.set(u64::MAX);
        cpu.budget_end.set(u64::MAX);
        cpu
    }

    /// Counts the processor among those that run.
    pub fn announce(&self) {
        COUNT.fetch_add(1, Ordering::AcqRel);
    }
}
