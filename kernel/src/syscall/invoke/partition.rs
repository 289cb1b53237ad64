//! Methods of `Partition`.

use super::{Call, Outcome, repeat, rights};
use crate::object::engine;
use crate::object::hooks::KernelHooks;
use crate::object::partition::Partition;
use bulkhead_abi::{Error, MAP_UNCACHED, ObjectType, PartitionMethod, Rights, USER_END};
use bulkhead_core::object::ObjectHeader;
use bulkhead_core::page_table::Mapping;
use bulkhead_core::phys::Ref;

/// A method of `Partition`.
pub fn invoke(call: &Call, method: u64) -> Result<Outcome, Error> {
    let partition = call.slot.expect_object::<Partition>(Rights::CONTROL)?;
    let space = partition.header();
    match PartitionMethod::from_number(method).ok_or(Error::UnknownMethod)? {
        PartitionMethod::Map => map(call, space, MAP_UNCACHED, Rights::WRITE | Rights::EXECUTE, USER_END),
        PartitionMethod::Unmap => unmap(call, space),
        PartitionMethod::Donate => donate(call, space),
        PartitionMethod::MapPorts => {
            let ports = call.slot_at(call.arguments[0])?;
            ports.expect(ObjectType::IoPorts, Rights::READ)?;
            repeat(|| engine().map_step(ports, space, 0, 0, &KernelHooks))
        }
        PartitionMethod::Inspect => {
            let slots = partition.table.get().map_or(0, |table| table.length());
            Ok(Outcome::Results([0, 0, partition.pool.count(), slots, partition.header.generation(), 0]))
        }
        PartitionMethod::InspectSlot => {
            call.slot.expect_rights(Rights::READ)?;
            let slot = partition.table.get().ok_or(Error::Gone)?.lookup(call.arguments[0])?;
            engine().inspect(slot).map(Outcome::Results).ok_or(Error::WrongState)
        }
    }
}

/// `Map` of a partition or guest space whose addresses end at `end`: slot of the memory, address, rights and attributes. It must
/// be readable, and have not all rights of `never`.
pub fn map(call: &Call, space: Ref<ObjectHeader>, attributes: u64, never: Rights, end: u64) -> Result<Outcome, Error> {
    let [index, address, word, _] = call.arguments;
    let rights = rights(word & !attributes)?;
    let allowed = Rights::READ | Rights::WRITE | Rights::EXECUTE;
    Error::BadArgument.when(!allowed.contains(rights) || !rights.contains(Rights::READ) || rights.contains(never))?;
    let memory = call.slot_at(index)?;
    memory.expect(ObjectType::Memory, rights)?;
    let mapping = Mapping::new(address, memory.physical(), memory.count())?;
    Error::OutOfRange.when(mapping.address >= end || mapping.length > end - mapping.address)?;
    repeat(|| engine().map_step(memory, space, address, word, &KernelHooks))
}

/// `Donate` of a partition or guest space: slot of the memory.
pub fn donate(call: &Call, space: Ref<ObjectHeader>) -> Result<Outcome, Error> {
    let memory = call.slot_at(call.arguments[0])?;
    repeat(|| engine().donate_step(memory, space, &KernelHooks))
}

/// `Unmap` of a partition or guest space: slot of the memory.
pub fn unmap(call: &Call, space: Ref<ObjectHeader>) -> Result<Outcome, Error> {
    let memory = call.slot_at(call.arguments[0])?;
    Error::NotMapped.when(memory.space() != Some(space))?;
    repeat(|| engine().unmap_step(memory, &KernelHooks))
}
