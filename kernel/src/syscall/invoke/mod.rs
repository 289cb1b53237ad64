//! Methods of objects.
//!
//! A method either completes, or does a bounded part of its work and has the system call happen again, so that interrupts
//! and other threads come in between.

mod any;
pub mod create;
mod guest;
mod memory;
mod partition;
mod resources;
mod thread;

use super::serve;
use crate::arch::{cpu, msr};
use crate::object::notification::Notification;
use crate::object::thread::Thread;
use crate::schedule;
use bulkhead_abi::{Error, FIRST_OWN_METHOD, ObjectType, Rights, Syscall};
use bulkhead_core::Progress;
use bulkhead_core::phys::{Ref, TypedObject};
use bulkhead_core::slot::Slot;
use bulkhead_core::table::Table;

/// Steps of a long operation in one system call.
const STEPS_AT_ONCE: usize = 8;

/// How a method ended.
pub enum Outcome {
    /// Complete; values for `rdi`, `rsi`, `rdx`, `r10`, `r8`, `r9`.
    Results([u64; 6]),
    /// Not complete: call again.
    Again,
    /// Not complete: call again with other arguments in `rdx`, `r10`, `r8`, `r9`.
    AgainWith([u64; 4]),
}

/// Complete, with nothing to tell.
pub const DONE: Result<Outcome, Error> = Ok(Outcome::Results([0; 6]));

/// A method call: who calls, on what, with what.
pub struct Call {
    /// The calling thread.
    pub thread: Ref<Thread>,
    /// Its table.
    pub table: Table,
    /// The slot that `rdi` names.
    pub slot: Ref<Slot>,
    /// `rdx`, `r10`, `r8`, `r9`.
    pub arguments: [u64; 4],
}

impl Call {
    /// The slot of the caller's table with this index.
    pub fn slot_at(&self, index: u64) -> Result<Ref<Slot>, Error> {
        self.table.lookup(index)
    }

    /// The object that the slot with this index names, with these rights.
    pub fn object<T: TypedObject>(&self, index: u64, rights: Rights) -> Result<Ref<T>, Error> {
        self.slot_at(index)?.expect_object(rights)
    }

    /// The slot with this index, if it names a notification with this right.
    pub fn notification(&self, index: u64, right: Rights) -> Result<Ref<Slot>, Error> {
        let slot = self.slot_at(index)?;
        slot.expect_object::<Notification>(right).map(|_| slot)
    }
}

/// Repeats a step while it is short and no timer is due, and answers as a method does.
pub fn repeat(mut step: impl FnMut() -> Result<Progress, Error>) -> Result<Outcome, Error> {
    for _ in 0..STEPS_AT_ONCE {
        if step()? == Progress::Done {
            return DONE;
        }
        if msr::tsc() >= cpu::this().armed.get() {
            break;
        }
    }
    Ok(Outcome::Again)
}

/// `Invoke`.
pub extern "C" fn invoke(slot: u64, method: u64, a: u64, b: u64, c: u64, d: u64) -> Ref<Thread> {
    serve(|cpu, thread| {
        match dispatch(thread, slot, method, [a, b, c, d]) {
            Ok(Outcome::Results(results)) => thread.set_results(results),
            Ok(Outcome::Again) => thread.restart_syscall(Syscall::Invoke, [slot, method, a, b, c, d]),
            Ok(Outcome::AgainWith([a, b, c, d])) => {
                thread.restart_syscall(Syscall::Invoke, [slot, method, a, b, c, d]);
            }
            Err(error) => thread.set_status(Err(error)),
        }
        // Also after an error: steps before it may have stopped the caller.
        Ok(schedule::next(cpu))
    })
}

fn dispatch(thread: Ref<Thread>, index: u64, method: u64, arguments: [u64; 4]) -> Result<Outcome, Error> {
    let table = thread.table.get().ok_or(Error::Gone)?;
    let slot = table.lookup(index)?;
    let call = Call { thread, table, slot, arguments };
    if method < FIRST_OWN_METHOD {
        return any::invoke(&call, method);
    }
    match slot.object_type() {
        ObjectType::None => Err(Error::SlotEmpty),
        ObjectType::Memory => memory::invoke(&call, method),
        ObjectType::Partition => partition::invoke(&call, method),
        ObjectType::Thread => thread::invoke(&call, method),
        ObjectType::Vcpu => guest::invoke_vcpu(&call, method),
        ObjectType::GuestSpace => guest::invoke_space(&call, method),
        ObjectType::Interrupt => resources::invoke_interrupt(&call, method),
        ObjectType::Window => resources::invoke_window(&call, method),
        ObjectType::Endpoint | ObjectType::Notification | ObjectType::IoPorts => Err(Error::UnknownMethod),
    }
}

/// Rights in a register.
fn rights(word: u64) -> Result<Rights, Error> {
    u16::try_from(word).ok().and_then(Rights::from_bits).ok_or(Error::BadArgument)
}
