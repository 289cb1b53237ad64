//! What the capability engine asks of the kernel: map, unmap, and take objects apart.

use crate::arch::cpu;
use crate::object::endpoint::Endpoint;
use crate::object::notification::Notification;
use crate::object::partition::Partition;
use crate::object::thread::Thread;
use crate::object::{engine, guest};
use crate::schedule;
use crate::shootdown;
use crate::syscall::ipc::dismiss_caller;
use crate::vmx::{self, GuestSpace};
use bulkhead_abi::{Error, MAP_UNCACHED, ObjectType, PAGE_SIZE, Rights};
use bulkhead_core::Progress;
use bulkhead_core::engine::Hooks;
use bulkhead_core::object::ObjectHeader;
use bulkhead_core::page_table::{Attributes, Ept, Mapping, Native, PageSize, PageTable};
use bulkhead_core::phys::{HostPhysical, Ref};
use bulkhead_core::slot::Slot;

/// The kernel's hooks; there is no state in them.
pub struct KernelHooks;

/// What things are mapped in.
enum Space {
    Partition(Ref<Partition>),
    Guest(Ref<GuestSpace>),
}

impl Space {
    fn of(object: Ref<ObjectHeader>) -> Option<Self> {
        object.downcast().map(Self::Partition).or_else(|| object.downcast().map(Self::Guest))
    }
}

fn attributes(slot: &Slot, user: bool) -> Attributes {
    let word = slot.mapped_attributes();
    Attributes { rights: Rights::from_bits_truncate(word as u16), uncached: word & MAP_UNCACHED != 0, user }
}

impl Hooks for KernelHooks {
    fn destroy_step(&self, object: Ref<ObjectHeader>) -> Progress {
        object
            .downcast()
            .map(destroy_thread)
            .or_else(|| object.downcast().map(destroy_partition))
            .or_else(|| object.downcast().map(|endpoint: Ref<Endpoint>| endpoint.dissolve_step()))
            .or_else(|| object.downcast().map(|notification: Ref<Notification>| notification.dissolve()))
            .or_else(|| object.downcast().map(vmx::destroy_vcpu))
            .or_else(|| object.downcast().map(vmx::destroy_guest_space))
            .unwrap_or(Progress::Done)
    }

    fn map_step(&self, slot: &Slot) -> Result<Progress, Error> {
        let space = Space::of(slot.space().ok_or(Error::Gone)?).ok_or(Error::WrongType)?;
        let done = slot.mapped_length();
        let mapping = || Mapping::new(slot.mapped_address(), slot.physical(), slot.count());
        match space {
            Space::Partition(partition) if slot.object_type() == ObjectType::IoPorts => {
                partition.allow_ports(slot.first() as u16, slot.count() as u32)?;
                done.set(slot.count());
                Ok(Progress::Done)
            }
            Space::Partition(partition) => {
                let table = PageTable::<Native>::new(partition.root.get());
                table.map_step(&mapping()?, attributes(slot, true), &partition.pool, PageSize::Large, done)
            }
            Space::Guest(space) => {
                let table = PageTable::<Ept>::new(space.root());
                let largest = cpu::this().vmx.largest_page.get().unwrap_or(PageSize::Small);
                table.map_step(&mapping()?, attributes(slot, false), &space.pool, largest, done)
            }
        }
    }

    fn unmap_step(&self, slot: &Slot) -> Progress {
        let (address, length) = (slot.mapped_address(), slot.mapped_length());
        match slot.space().and_then(Space::of) {
            None => Progress::Done,
            Some(Space::Partition(partition)) if slot.object_type() == ObjectType::IoPorts => {
                if length.replace(0) != 0 {
                    partition.deny_ports(slot.first() as u16, slot.count() as u32);
                }
                Progress::Done
            }
            Some(Space::Partition(partition)) => {
                let progress = PageTable::<Native>::new(partition.root.get()).unmap_step(address, length);
                shootdown::unmapped_from_partition(partition);
                progress
            }
            Some(Space::Guest(space)) => {
                let progress = PageTable::<Ept>::new(space.root()).unmap_step(address, length);
                vmx::forget_shadows(space);
                shootdown::unmapped_from_guest(space);
                progress
            }
        }
    }

    fn give_page(&self, space: Ref<ObjectHeader>, page: HostPhysical) {
        match Space::of(space) {
            Some(Space::Partition(partition)) => partition.pool.give(page),
            Some(Space::Guest(space)) => space.pool.give(page),
            None => {}
        }
    }
}

/// Returns one page of a pool; whether there was one.
pub fn drain(pool: &bulkhead_core::page_table::Pool) -> bool {
    pool.take().map(|page| engine().release(page, PAGE_SIZE)).is_some()
}

/// Stops a thread, ends what others expect of it, empties its bindings.
fn destroy_thread(thread: Ref<Thread>) -> Progress {
    if !schedule::stop(thread) {
        return Progress::Again;
    }
    dismiss_caller(thread);
    if let Some(notification) = thread.bound_notification() {
        notification.bound_to.set(None);
    }
    for slot in [&thread.window, &thread.bound, &thread.fault] {
        if engine().unbind_step(embedded(slot), &KernelHooks) == Progress::Again {
            return Progress::Again;
        }
    }
    if let Some(partition) = thread.partition.replace(None) {
        partition.threads.remove(thread);
    }
    Progress::Done
}

/// A slot that lies inside a kernel object, as the engine names it.
pub fn embedded(slot: &Slot) -> Ref<Slot> {
    // SAFETY: the slot is part of a live object, or static.
    match unsafe { Ref::from_address(core::ptr::from_ref(slot) as u64) } {
        Some(found) => found,
        None => crate::panic::fatal("a slot at address 0"),
    }
}

/// Stops the threads, clears the table, returns page tables and pool.
fn destroy_partition(partition: Ref<Partition>) -> Progress {
    if let Some(thread) = partition.threads.first() {
        if schedule::stop(thread) {
            thread.prepared.set(false);
            thread.table.set(None);
            thread.partition.set(None);
            thread.address_space.set(0);
            partition.threads.remove(thread);
        }
        return Progress::Again;
    }
    if let Some(table) = partition.table.get() {
        if engine().clear_table_step(table, &KernelHooks) == Progress::Done {
            partition.table.set(None);
        }
        return Progress::Again;
    }
    if let Some(vcpu) = partition.vcpus.first() {
        guest::unmap_state(vcpu);
        return Progress::Again;
    }
    partition.forget_loaded();
    let progress = PageTable::<Native>::new(partition.root.get()).destroy_step(&partition.pool);
    if progress == Progress::Again || drain(&partition.pool) { Progress::Again } else { Progress::Done }
}
