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
    Error::OutOfRange.when(call.slot.count() != 1)?;
    match InterruptMethod::from_number(method).ok_or(Error::UnknownMethod)? {
        InterruptMethod::Bind => {
            let [notification, target, flags, _] = call.arguments;
            let slot = call.notification(notification, Rights::SIGNAL)?;
            let target = u32::try_from(target).ok().and_then(cpu::by_number).ok_or(Error::WrongCpu)?;
            Error::BadArgument.when(flags > 7)?;
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

/// Shortest budget and slot: 10 us, in ticks.
fn shortest() -> u64 {
    time::frequency() / 100_000
}

/// A method of `Window`.
pub fn invoke_window(call: &Call, method: u64) -> Result<Outcome, Error> {
    let window = call.slot.expect_object::<Window>(Rights::CONTROL)?;
    match WindowMethod::from_number(method).ok_or(Error::UnknownMethod)? {
        _ if engine().is_sealed() => Err(Error::Sealed),
        WindowMethod::Configure => {
            let [target, priority, budget, period] = call.arguments;
            Error::WrongCpu.when(target != u64::from(window.cpu.get()))?;
            let priority = Priority::new(priority).filter(|wanted| *wanted <= window.priority.get());
            let sensible = period == 0 || (budget > 0 && budget <= period && budget >= shortest());
            let priority = priority.filter(|_| sensible).ok_or(Error::BadArgument)?;
            window.configure(window.cpu.get(), priority, budget, period);
            DONE
        }
        WindowMethod::Seal => {
            Error::MissingRight.when(!window.root.get())?;
            engine().seal();
            DONE
        }
        WindowMethod::AddSlot => {
            let [start, end, length, quiet] = call.arguments;
            Error::BadArgument.when(quiet > 1 || end.saturating_sub(start) < shortest())?;
            window.frame.add(length, start, end)?;
            window.quiet.set(quiet == 1);
            DONE
        }
    }
}
