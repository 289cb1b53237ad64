//! Trace rings: what happens on a processor, written to memory that somebody brought.
//!
//! The memory stays a partition's, which may read it, and spoil it: where the next record goes is known here alone. The kernel holds a
//! capability to it in a slot of its own, which is emptied when the memory is taken back. Rings are written under the kernel lock, each by
//! its own processor. While there is one, the processor's system calls take the slow way (`syscall_slow`), so that the usual ones
//! cost nothing more.

use crate::arch::cpu::{self, Cpu};
use crate::arch::msr;
use crate::memory::words_of;
use crate::object::window::Window;
use crate::syscall::DIRECT;
use crate::syscall::invoke::{Outcome, thread::rebind};
use bulkhead_abi::{Error, ObjectType, Rights, TraceKind, TraceRecord};
use bulkhead_core::phys::Ref;
use bulkhead_core::slot::Slot;
use bulkhead_core::trace;
use core::cell::Cell;

/// A processor's ring. Zero: there is none.
pub struct Ring {
    memory: Slot,
    next: Cell<u64>,
    last: Cell<u32>,
}

/// Makes memory the ring of the window's processor.
pub fn bind(memory: Ref<Slot>, window: Ref<Window>) -> Result<Outcome, Error> {
    memory.expect(ObjectType::Memory, Rights::READ | Rights::WRITE)?;
    let cpu = cpu::by_number(window.cpu.get()).filter(|_| window.root.get() && memory.count().is_power_of_two());
    let cpu = cpu.ok_or(Error::BadArgument)?;
    rebind(memory, &cpu.trace.memory, || {
        cpu.trace.next.set(1);
        cpu.direct.set(0);
    })
}

/// Lets system calls take the usual way again, if there is no ring any more.
pub fn forget_gone(cpu: &Cpu) {
    if cpu.trace.memory.first() == 0 {
        cpu.direct.set(DIRECT);
    }
}

/// Records something, if there is a ring. `arguments` are found out only then.
#[inline(always)]
pub fn record(cpu: &Cpu, kind: TraceKind, arguments: impl FnOnce() -> [u64; 2]) {
    if cpu.trace.memory.first() != 0 {
        write(cpu, kind, arguments());
    }
}

#[cold]
#[inline(never)]
fn write(cpu: &Cpu, kind: TraceKind, arguments: [u64; 2]) {
    let (ring, current) = (&cpu.trace, cpu.current.get());
    let partition = current.and_then(|thread| thread.partition.get());
    let partition = partition.map_or(0, |partition| partition.header.generation() as u16);
    let thread = current.map_or(0, |thread| thread.header.generation() as u32);
    if ring.last.replace(thread) == thread && matches!(kind, TraceKind::Switch | TraceKind::HandOver) {
        return;
    }
    let record = TraceRecord { tsc: msr::tsc(), kind: kind as u16, partition, thread, arguments };
    let mask = (ring.memory.count() / size_of::<TraceRecord>() as u64).wrapping_sub(1);
    let number = trace::number(ring.next.get(), mask);
    // Of no use to anybody, but no danger either, if the memory is the kernel's by now.
    if let (Ok([head]), Ok(place)) = (words_of(&ring.memory, 0), words_of(&ring.memory, number & mask)) {
        trace::write(head, place, number, &zerocopy::transmute!(record));
        ring.next.set(number + 1);
    }
}
