//! Methods of `Interrupt` and `Window`.

use super::{Call, DONE, Outcome};
use crate::arch::traps::vector;
use crate::arch::{cpu, ioapic};
use crate::object::engine;
use crate::object::interrupt::binding;
use crate::object::window::Window;
use crate::time;
use bulkhead_abi::{Error, InterruptMethod, ObjectType, Rights, WindowMethod};
use bulkhead_core::queue::Priority;

/// A method of `Interrupt`.
pub fn invoke_interrupt(call: &Call, method: u64) -> Result<Outcome, Error> {
    let first = call.slot.expect(ObjectType::Interrupt, Rights::CONTROL)?;
    let number = u32::try_from(first).map_err(|_| Error::OutOfRange)?;
    if call.slot.count() != 1 {
        return Err(Error::OutOfRange);
    }
    match InterruptMethod::from_number(method).ok_or(Error::UnknownMethod)? {
        InterruptMethod::Bind => {
            let [notification, target, flags, _] = call.arguments;
            let slot = call.notification(notification, Rights::SIGNAL)?;
            let target = u32::try_from(target).ok().and_then(cpu::by_number).ok_or(Error::WrongCpu)?;
            if flags > 7 {
                return Err(Error::BadArgument);
            }
            let (is_message, apic_id) = (!ioapic::exists(number), target.apic_id.get());
            // The address of a message has eight bits for it.
            let place = binding(number).filter(|_| !is_message || apic_id < 0x100).ok_or(Error::Unsupported)?;
            let route = || ioapic::route(number, apic_id, flags);
            let outcome = super::thread::rebind(slot, place, route)?;
            if matches!(outcome, Outcome::Again) {
                return Ok(outcome);
            }
            let vector = u64::from(vector::FIRST_DEVICE) + u64::from(number);
            Ok(Outcome::Results([0, 0, vector, u64::from(apic_id), u64::from(is_message), 0]))
        }
        InterruptMethod::Acknowledge => {
            ioapic::set_masked(number, false);
            DONE
        }
    }
}

/// A method of `Window`.
pub fn invoke_window(call: &Call, method: u64) -> Result<Outcome, Error> {
    let window = call.slot.expect_object::<Window>(Rights::CONTROL)?;
    match WindowMethod::from_number(method).ok_or(Error::UnknownMethod)? {
        _ if engine().is_sealed() => Err(Error::Sealed),
        WindowMethod::Configure => {
            let [target, priority, budget, period] = call.arguments;
            if target != u64::from(window.cpu.get()) {
                return Err(Error::WrongCpu);
            }
            let priority = Priority::new(priority).filter(|wanted| *wanted <= window.priority.get());
            let sensible = period == 0 || (budget > 0 && budget <= period && budget >= time::frequency() / 100_000);
            let priority = priority.filter(|_| sensible).ok_or(Error::BadArgument)?;
            window.configure(window.cpu.get(), priority, budget, period);
            DONE
        }
        WindowMethod::Seal => {
            if !window.root.get() {
                return Err(Error::MissingRight);
            }
            engine().seal();
            DONE
        }
        WindowMethod::AddSlot => {
            let [start, end, length, quiet] = call.arguments;
            if quiet > 1 || end.saturating_sub(start) < time::frequency() / 100_000 {
                return Err(Error::BadArgument);
            }
            window.frame.add(length, start, end)?;
            window.quiet.set(quiet == 1);
            DONE
        }
    }
}
