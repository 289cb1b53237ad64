//! Methods of `Partition`.

use super::{Call, Outcome, repeat};
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
    let other = call.arguments[0];
    match PartitionMethod::from_number(method).ok_or(Error::UnknownMethod)? {
        PartitionMethod::Map => {
            let [_, address, word, _] = call.arguments;
            let memory = call.slot_at(other)?;
            let rights = mapping_rights(word & !MAP_UNCACHED)?;
            memory.expect(ObjectType::Memory, rights)?;
            let mapping = Mapping::new(address, memory.physical(), memory.count())?;
            if mapping.address >= USER_END || mapping.length > USER_END - mapping.address {
                return Err(Error::OutOfRange);
            }
            repeat(|| engine().map_step(memory, space, address, word, &KernelHooks))
        }
        PartitionMethod::Unmap => unmap(call, other, space),
        PartitionMethod::Donate => {
            let memory = call.slot_at(other)?;
            repeat(|| engine().donate_step(memory, space, &KernelHooks))
        }
        PartitionMethod::MapPorts => {
            let ports = call.slot_at(other)?;
            ports.expect(ObjectType::IoPorts, Rights::READ)?;
            repeat(|| engine().map_step(ports, space, 0, 0, &KernelHooks))
        }
        PartitionMethod::Inspect => {
            let slots = partition.table.get().map_or(0, |table| table.length());
            Ok(Outcome::Results([0, 0, partition.pool.count(), slots, partition.header.generation(), 0]))
        }
    }
}

/// The rights of a mapping: readable at least, and never both writable and executable.
pub fn mapping_rights(word: u64) -> Result<Rights, Error> {
    let rights = u16::try_from(word).ok().and_then(Rights::from_bits).ok_or(Error::BadArgument)?;
    let allowed = Rights::READ | Rights::WRITE | Rights::EXECUTE;
    let both = Rights::WRITE | Rights::EXECUTE;
    if !allowed.contains(rights) || !rights.contains(Rights::READ) || rights.contains(both) {
        return Err(Error::BadArgument);
    }
    Ok(rights)
}

/// Undoes the mapping, in `space`, of the capability in slot `index`.
pub fn unmap(call: &Call, index: u64, space: Ref<ObjectHeader>) -> Result<Outcome, Error> {
    let memory = call.slot_at(index)?;
    if memory.space() != Some(space) {
        return Err(Error::NotMapped);
    }
    repeat(|| engine().unmap_step(memory, &KernelHooks))
}
