//! `Memory::Create`: kernel objects of memory that somebody brought.

use super::{Call, DONE, Outcome};
use crate::arch::cpu;
use crate::memory;
use crate::object::endpoint::Endpoint;
use crate::object::engine;
use crate::object::hooks::embedded;
use crate::object::notification::Notification;
use crate::object::partition::Partition;
use crate::object::thread::Thread;
use crate::object::window::Window;
use crate::vmx::{self, GuestSpace, Vcpu};
use bulkhead_abi::{Error, GuestPaging, ObjectType, PAGE_SIZE, Rights};
use bulkhead_core::phys::{Array, HostPhysical, Ref, TypedObject};
use bulkhead_core::slot::Slot;
use bulkhead_core::table::Table;

/// Most slots of a capability table.
const MAX_SLOTS: u64 = 1 << 16;

/// `Create`: what the object is made with is checked before its memory is touched.
pub fn create(call: &Call) -> Result<Outcome, Error> {
    let [what, _, _, argument] = call.arguments;
    let (low, high) = (argument & 0xffff_ffff, argument >> 32);
    match ObjectType::from_number(what & 0xff).ok_or(Error::BadArgument)? {
        ObjectType::Partition if (1..=MAX_SLOTS).contains(&argument) => {
            let table_pages = (argument * size_of::<Slot>() as u64).div_ceil(PAGE_SIZE);
            make(call, 2 + table_pages, |partition| initialise_partition(partition, argument))
        }
        ObjectType::Thread => {
            let partition = call.object::<Partition>(low, Rights::CONTROL)?;
            let window = call.slot_at(high)?;
            window.expect_object::<Window>(Rights::CONTROL)?;
            partition.table.get().ok_or(Error::Gone)?;
            make(call, 1, |thread| initialise_thread(thread, partition, window))
        }
        ObjectType::Vcpu => {
            let space = call.object(low, Rights::CONTROL)?;
            let cpu = call.object::<Thread>(high, Rights::CONTROL)?.cpu.get();
            vmx::available()?;
            make(call, Vcpu::PAGES, |vcpu: Ref<Vcpu>| vcpu.initialise(space, cpu))
        }
        ObjectType::GuestSpace => {
            let paging = GuestPaging::from_number(argument).ok_or(Error::BadArgument)?;
            vmx::paging_available(paging)?;
            make(call, GuestSpace::PAGES, |space: Ref<GuestSpace>| space.initialise(paging))
        }
        ObjectType::Endpoint if low < u64::from(cpu::count()) => make(call, 1, |endpoint: Ref<Endpoint>| {
            endpoint.cpu.set(low as u32);
            endpoint.worst_case.set(high as u32);
        }),
        ObjectType::Endpoint => Err(Error::WrongCpu),
        ObjectType::Notification => make(call, 1, |_: Ref<Notification>| {}),
        ObjectType::Window => {
            let parent = call.object::<Window>(argument, Rights::CONTROL)?;
            make(call, 1, |window: Ref<Window>| window.configure(parent.cpu.get(), parent.priority.get(), 0, 0))
        }
        _ => Err(Error::BadArgument),
    }
}

/// Makes an object of at least so many pages, and initialises it when its memory is zeroed.
fn make<T: TypedObject>(call: &Call, least: u64, initialise: impl FnOnce(Ref<T>)) -> Result<Outcome, Error> {
    let [what, destination, offset, _] = call.arguments;
    let pages = if what >> 8 == 0 { least } else { what >> 8 };
    Error::OutOfRange.when(pages < least)?;
    let Some(object) = engine().create_step(call.slot, T::TYPE, offset, pages, call.table, destination)? else {
        return Ok(Outcome::Again);
    };
    initialise(object.downcast().ok_or(Error::WrongType)?);
    DONE
}

/// Makes a fresh partition usable: its own root table with the kernel half, and an empty capability table.
pub fn initialise_partition(partition: Ref<Partition>, slots: u64) {
    let page = partition.page().0;
    partition.root.set(HostPhysical(page + PAGE_SIZE));
    memory::copy_kernel_half(HostPhysical(page + PAGE_SIZE));
    // SAFETY: the object was created with room for the slots after the first two pages, all zero: empty slots.
    let slots = unsafe { Array::new(HostPhysical(page + 2 * PAGE_SIZE).object::<Slot>(), slots) };
    partition.table.set(Some(Table::new(partition.header(), slots)));
}

/// Makes a fresh thread one of the partition's, paid by the window.
pub fn initialise_thread(thread: Ref<Thread>, partition: Ref<Partition>, window: Ref<Slot>) {
    if let Ok(share) = window.expect_object::<Window>(Rights::empty()) {
        thread.cpu.set(share.cpu.get());
    }
    // The slot is vacant, as everything in a fresh object; deriving cannot fail.
    let bound = engine().derive_to(window, Rights::all(), 0, embedded(&thread.window));
    debug_assert!(bound.is_ok(), "a fresh thread has no window");
    thread.payer.set(Some(thread));
    thread.fault_vector.set(u64::MAX);
    thread.partition.set(Some(partition));
    thread.table.set(partition.table.get());
    thread.address_space.set(partition.root.get().0);
    partition.threads.push_front(thread);
}
