//! Methods that every capability has.

use super::{Call, DONE, Outcome, repeat, rights};
use crate::object::engine;
use crate::object::hooks::KernelHooks;
use crate::object::partition::Partition;
use bulkhead_abi::{AnyMethod, Error, ObjectType, Rights, SELF_TABLE};

/// A method of any capability.
pub fn invoke(call: &Call, method: u64) -> Result<Outcome, Error> {
    let [first, second, third, fourth] = call.arguments;
    match AnyMethod::from_number(method).ok_or(Error::UnknownMethod)? {
        AnyMethod::Derive => {
            let table = if fourth == SELF_TABLE {
                call.table
            } else {
                call.object::<Partition>(fourth, Rights::CONTROL)?.table.get().ok_or(Error::Gone)?
            };
            engine().derive(call.slot, rights(second)?, third, table, first).and(DONE)
        }
        AnyMethod::DeriveRange => {
            engine().derive_range(call.slot, rights(second)?, third, fourth, call.table, first).and(DONE)
        }
        AnyMethod::Revoke => repeat(|| engine().revoke_step(call.slot, &KernelHooks)),
        AnyMethod::Delete => repeat(|| engine().delete_step(call.slot, &KernelHooks)),
        AnyMethod::Inspect => inspect(call),
    }
}

fn inspect(call: &Call) -> Result<Outcome, Error> {
    let slot = call.slot;
    let first = match slot.object_type() {
        ObjectType::None => return Err(Error::SlotEmpty),
        ObjectType::IoPorts | ObjectType::Interrupt => slot.first(),
        ObjectType::Memory if slot.rights().contains(Rights::DMA) => slot.first(),
        _ => 0,
    };
    let rights = u64::from(slot.rights().bits());
    Ok(Outcome::Results([slot.object_type() as u64, rights, slot.badge(), slot.count(), first, 0]))
}
