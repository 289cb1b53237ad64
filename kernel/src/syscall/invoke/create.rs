//! `Memory::Create`: kernel objects of memory that somebody brought.

use super::{Call, DONE, Outcome};
use crate::arch::cpu;
use crate::memory;
use crate::object::endpoint::Endpoint;
use crate::object::engine;
use crate::object::hooks::embedded;
use crate::object::partition::Partition;
use crate::object::thread::Thread;
use crate::object::window::Window;
use crate::vmx::{self, GuestSpace, Vcpu};
use bulkhead_abi::{Error, GuestPaging, ObjectType, PAGE_SIZE, Rights};
use bulkhead_core::engine::Creation;
use bulkhead_core::object::ObjectHeader;
use bulkhead_core::phys::{Array, HostPhysical, Ref};
use bulkhead_core::slot::Slot;
use bulkhead_core::table::Table;

/// Most slots of a capability table.
const MAX_SLOTS: u64 = 1 << 16;

/// What an object is made with, checked before its memory is touched.
enum Parameters {
    Partition { slots: u64 },
    Thread { partition: Ref<Partition>, window: Ref<Slot> },
    Vcpu { space: Ref<GuestSpace>, cpu: u32 },
    GuestSpace(GuestPaging),
    Endpoint { cpu: u32, worst_case: u32 },
    Notification,
    Window { parent: Ref<Window> },
}

/// `Create`.
pub fn create(call: &Call) -> Result<Outcome, Error> {
    let [what, destination, offset, argument] = call.arguments;
    let object_type = ObjectType::from_number(what & 0xff).ok_or(Error::BadArgument)?;
    let parameters = check(call, object_type, argument)?;
    let least = match parameters {
        Parameters::Partition { slots } => 2 + table_pages(slots),
        Parameters::Vcpu { .. } => Vcpu::PAGES,
        Parameters::GuestSpace(_) => GuestSpace::PAGES,
        _ => 1,
    };
    let pages = match what >> 8 {
        0 => least,
        pages if pages < least => return Err(Error::OutOfRange),
        pages => pages,
    };
    match engine().create_step(call.slot, object_type, offset, pages, call.table, destination)? {
        Creation::Again => Ok(Outcome::Again),
        Creation::Ready(object) => initialise(object, parameters).map_or(Err(Error::WrongType), |()| DONE),
    }
}

fn table_pages(slots: u64) -> u64 {
    (slots * size_of::<Slot>() as u64).div_ceil(PAGE_SIZE)
}

fn check(call: &Call, object_type: ObjectType, argument: u64) -> Result<Parameters, Error> {
    let low = argument & 0xffff_ffff;
    let high = argument >> 32;
    match object_type {
        ObjectType::Partition if (1..=MAX_SLOTS).contains(&argument) => Ok(Parameters::Partition { slots: argument }),
        ObjectType::Thread => {
            let partition = call.object::<Partition>(low, Rights::CONTROL)?;
            let window = call.slot_at(high)?;
            window.expect_object::<Window>(Rights::CONTROL)?;
            partition.table.get().ok_or(Error::Gone)?;
            Ok(Parameters::Thread { partition, window })
        }
        ObjectType::Vcpu => {
            let space = call.object(low, Rights::CONTROL)?;
            let cpu = call.object::<Thread>(high, Rights::CONTROL)?.cpu.get();
            vmx::available()?;
            Ok(Parameters::Vcpu { space, cpu })
        }
        ObjectType::GuestSpace => {
            let paging = GuestPaging::from_number(argument).ok_or(Error::BadArgument)?;
            vmx::paging_available(paging)?;
            Ok(Parameters::GuestSpace(paging))
        }
        ObjectType::Endpoint if low < u64::from(cpu::count()) => {
            Ok(Parameters::Endpoint { cpu: low as u32, worst_case: high as u32 })
        }
        ObjectType::Endpoint => Err(Error::WrongCpu),
        ObjectType::Notification => Ok(Parameters::Notification),
        ObjectType::Window => Ok(Parameters::Window { parent: call.object(argument, Rights::CONTROL)? }),
        _ => Err(Error::BadArgument),
    }
}

/// Makes the fresh object what the parameters say; they are those of its type.
fn initialise(object: Ref<ObjectHeader>, parameters: Parameters) -> Option<()> {
    match parameters {
        Parameters::Partition { slots } => initialise_partition(object.downcast()?, slots),
        Parameters::Thread { partition, window } => initialise_thread(object.downcast()?, partition, window),
        Parameters::Vcpu { space, cpu } => object.downcast::<Vcpu>()?.initialise(space, cpu),
        Parameters::GuestSpace(paging) => object.downcast::<GuestSpace>()?.initialise(paging),
        Parameters::Endpoint { cpu, worst_case } => {
            let endpoint = object.downcast::<Endpoint>()?;
            endpoint.cpu.set(cpu);
            endpoint.worst_case.set(worst_case);
        }
        Parameters::Notification => {}
        Parameters::Window { parent } => {
            object.downcast::<Window>()?.configure(parent.cpu.get(), parent.priority.get(), 0, 0);
        }
    }
    Some(())
}

/// Makes a fresh partition usable: its own root table with the kernel half, and an empty capability table.
pub fn initialise_partition(partition: Ref<Partition>, slots: u64) {
    let page = partition.page().0;
    partition.root.set(page + PAGE_SIZE);
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
    thread.address_space.set(partition.root.get());
    partition.threads.push_front(thread);
}
