//! Methods of `Thread`.

use super::{Call, DONE, Outcome};
use crate::memory;
use crate::object::engine;
use crate::object::hooks::{KernelHooks, embedded};
use crate::object::notification::Notification;
use crate::object::thread::{State, Thread};
use crate::schedule;
use crate::syscall::ipc::dismiss_caller;
use bulkhead_abi::{Error, FaultReport, PAGE_SIZE, Rights, ThreadMethod, USER_END};
use bulkhead_core::Progress;
use bulkhead_core::page_table::{Native, PageTable};
use bulkhead_core::phys::Ref;
use bulkhead_core::slot::Slot;

/// A method of `Thread`.
pub fn invoke(call: &Call, method: u64) -> Result<Outcome, Error> {
    let [first, second, third, _] = call.arguments;
    let thread = call.slot.expect_object::<Thread>(Rights::empty())?;
    let method = ThreadMethod::from_number(method).ok_or(Error::UnknownMethod)?;
    call.slot.expect_rights(match method {
        ThreadMethod::Start | ThreadMethod::Stop => Rights::RUN,
        ThreadMethod::ReadFault => Rights::READ,
        _ => Rights::CONTROL,
    })?;
    match method {
        ThreadMethod::SetRegisters => {
            Error::WrongState.when(!matches!(thread.state.get(), State::Stopped | State::Faulted))?;
            Error::OutOfRange.when(first >= USER_END || second > USER_END || thread.partition.get().is_none())?;
            dismiss_caller(thread);
            thread.state.set(State::Stopped);
            thread.prepare(first, second, third);
            DONE
        }
        ThreadMethod::Start => {
            Error::WrongState.when(thread.state.get() != State::Stopped || !thread.prepared.get())?;
            Error::WrongState.when(thread.partition.get().is_none())?;
            // It may have been told to stop and have blocked or faulted instead: that does not hold any more.
            thread.stopping.set(false);
            thread.payer.set(Some(thread));
            thread.state.set(State::Ready);
            schedule::make_ready(thread);
            DONE
        }
        ThreadMethod::Stop => {
            let is_stopped = thread.state.get() == State::Faulted || schedule::stop(thread);
            if is_stopped { DONE } else { Ok(Outcome::Again) }
        }
        ThreadMethod::BindNotification => {
            let slot = call.slot_at(first)?;
            let notification = slot.expect_object::<Notification>(Rights::WAIT)?;
            Error::WrongState.when(notification.bound_to.get().is_some_and(|other| other != thread))?;
            if let Some(old) = thread.bound_notification() {
                old.bound_to.set(None);
            }
            rebind(slot, &thread.bound, || notification.bound_to.set(Some(thread)))
        }
        ThreadMethod::SetFaultNotification => rebind(call.notification(first, Rights::SIGNAL)?, &thread.fault, || {}),
        ThreadMethod::SetReceiveSlot => {
            Error::SlotOutOfRange.when(first >= 0xffff)?;
            thread.receive_slot.set(first + 1);
            DONE
        }
        ThreadMethod::ReadFault => read_fault(call, thread, first),
    }
}

/// Empties a binding and fills it again.
pub fn rebind<T>(source: Ref<Slot>, binding: &Slot, then: impl FnOnce() -> T) -> Result<Outcome, Error> {
    let binding = embedded(binding);
    if engine().unbind_step(binding, &KernelHooks) == Progress::Again {
        return Ok(Outcome::Again);
    }
    engine().derive_to(source, Rights::all(), 0, binding)?;
    then();
    DONE
}

fn read_fault(call: &Call, thread: Ref<Thread>, address: u64) -> Result<Outcome, Error> {
    Error::WrongState.when(!matches!(thread.state.get(), State::Stopped | State::Faulted))?;
    Error::Misaligned.when(!address.is_multiple_of(PAGE_SIZE))?;
    Error::OutOfRange.when(address >= USER_END)?;
    let partition = call.thread.partition.get().ok_or(Error::Gone)?;
    let place = PageTable::<Native>::new(partition.root.get()).translate(address).ok_or(Error::NotMapped)?;
    Error::MissingRight.when(!place.attributes.rights.contains(Rights::WRITE))?;
    let report = FaultReport {
        registers: thread.registers.each_ref().map(core::cell::Cell::get),
        rip: thread.rip.get(),
        rflags: thread.rflags.get(),
        vector: thread.fault_vector.get(),
        error_code: thread.fault_error.get(),
        address: thread.fault_address.get(),
    };
    memory::write_to_page(place.physical, &report).and(DONE)
}
