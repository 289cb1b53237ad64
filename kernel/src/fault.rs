//! An exception in a native partition: it stops the thread and tells whoever watches over it.

use crate::arch::control::fault_address;
use crate::arch::cpu::Cpu;
use crate::arch::traps::vector;
use crate::object::bound;
use crate::object::notification::Notification;
use crate::object::thread::{State, Thread};
use crate::trace;
use bulkhead_abi::TraceKind;
use bulkhead_core::phys::Ref;

const GENERAL_PROTECTION: u8 = 13;
const PAGE_FAULT: u8 = 14;
const _: () = assert!(vector::FIRST_DEVICE >= 32);

/// Handles exception `number` of the current thread.
pub fn from_thread(cpu: &Cpu, thread: Ref<Thread>, number: u8, error: u64) {
    if number == GENERAL_PROTECTION && error == 0 && mend_ports(cpu, thread) {
        // Perhaps a port of its own; the instruction is tried again.
        return;
    }
    trace::record(cpu, TraceKind::Fault, || [u64::from(number), thread.rip.get()]);
    thread.fault_vector.set(u64::from(number));
    thread.fault_error.set(error);
    thread.fault_address.set(if number == PAGE_FAULT { fault_address() } else { 0 });
    thread.state.set(State::Faulted);
    cpu.reschedule.set(true);
    match bound::<Notification>(&thread.fault) {
        Some(watcher) => watcher.signal(thread.fault.badge()),
        None if crate::boot::init::is_init(thread) => crate::boot::init::faulted(thread),
        None => {}
    }
}

/// Loads the partition's ports into the processor's bitmap, if another partition's are there or a guest's exit made the
/// processor forget the bitmap. Whether anything changed.
fn mend_ports(cpu: &Cpu, thread: Ref<Thread>) -> bool {
    let loaded = thread.partition.get().is_some_and(|partition| partition.load_ports());
    cpu.vmx.restore_task_limit() || loaded
}
