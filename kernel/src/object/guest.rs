//! The pages that kernel and monitor share for a vCPU, as a mapping in the monitor's partition; and doorbells.

use crate::object::engine;
use crate::object::hooks::{KernelHooks, embedded};
use crate::object::partition::Partition;
use crate::shootdown;
use crate::syscall::invoke::{DONE, Outcome};
use crate::vmx::{GuestSpace, Vcpu};
use bulkhead_abi::{Error, PAGE_SIZE, Rights, USER_END};
use bulkhead_core::Progress;
use bulkhead_core::page_table::{Attributes, Mapping, Native, PageSize, PageTable};
use bulkhead_core::phys::Ref;
use bulkhead_core::slot::Slot;
use core::cell::Cell;

/// Bytes of what a vCPU shares with its monitor: the state page and the virtual-APIC page.
const STATE_BYTES: u64 = 2 * PAGE_SIZE;

/// Maps the shared pages for the monitor's partition.
pub fn map_state(vcpu: Ref<Vcpu>, partition: Ref<Partition>, address: u64) -> Result<(), Error> {
    Error::AlreadyMapped.when(vcpu.state_mapping.get().is_some())?;
    let mapping = Mapping::new(address, vcpu.state_page(), STATE_BYTES)?;
    Error::OutOfRange.when(mapping.address >= USER_END - PAGE_SIZE)?;
    let attributes = Attributes { rights: Rights::READ | Rights::WRITE, uncached: false, user: true };
    let table = PageTable::<Native>::new(partition.root.get());
    table.map(&mapping, attributes, &partition.pool, PageSize::Small)?;
    vcpu.state_mapping.set(Some((partition, address)));
    partition.vcpus.push_front(vcpu);
    Ok(())
}

/// Undoes the mapping of the shared pages, if there is one.
pub fn unmap_state(vcpu: Ref<Vcpu>) {
    let Some((partition, address)) = vcpu.state_mapping.take() else { return };
    let done = Cell::new(STATE_BYTES);
    // Two pages are one step.
    let _ = PageTable::<Native>::new(partition.root.get()).unmap_step(address, &done);
    shootdown::unmapped_from_partition(partition);
    partition.vcpus.remove(vcpu);
}

/// Binds a doorbell: the capability goes into the space, so that revoking it silences the port.
pub fn bind_doorbell(space: Ref<GuestSpace>, port: u16, source: Ref<Slot>) -> Result<Outcome, Error> {
    let binding = space.prepare_doorbell(port)?;
    Error::AlreadyMapped.when(!binding.is_vacant())?;
    engine().derive_to(source, Rights::all(), 0, embedded(binding)).and(DONE)
}

/// Withdraws a doorbell.
pub fn unbind_doorbell(space: Ref<GuestSpace>, port: u16) -> Result<Outcome, Error> {
    let binding = space.doorbell(port).ok_or(Error::NotMapped)?;
    if engine().unbind_step(embedded(binding), &KernelHooks) == Progress::Again {
        return Ok(Outcome::Again);
    }
    space.forget_doorbell(port);
    DONE
}
