//! Kernel objects, one a file, and the engine that gives and takes capabilities to them.

pub mod endpoint;
pub mod guest;
pub mod hooks;
pub mod interrupt;
pub mod notification;
pub mod partition;
pub mod thread;
pub mod window;

use crate::object::thread::Thread;
use bulkhead_abi::{Error, ObjectType, Rights};
use bulkhead_core::engine::Engine;
use bulkhead_core::phys::{Ref, TypedObject};
use bulkhead_core::slot::Slot;
use spin::Once;

struct Shared(Engine);
// SAFETY: used under the kernel lock only.
unsafe impl Sync for Shared {}
// SAFETY: nothing in it belongs to one processor.
unsafe impl Send for Shared {}

static ENGINE: Once<Shared> = Once::new();

/// Installs the engine. Once, at boot.
pub fn install(engine: Engine) {
    ENGINE.call_once(|| Shared(engine));
}

/// The capability engine; the caller holds the kernel lock.
#[inline]
pub fn engine() -> &'static Engine {
    match ENGINE.get() {
        Some(shared) => &shared.0,
        None => crate::panic::fatal("a capability was used before there were any"),
    }
}

/// The object that slot `index` of a thread's table names, and the capability's badge.
#[inline(always)]
pub fn lookup<T: TypedObject>(thread: Ref<Thread>, index: u64, rights: Rights) -> Result<(Ref<T>, u64), Error> {
    let slot = thread.table.get().ok_or(Error::Gone)?.lookup(index)?;
    Ok((slot.expect_object::<T>(rights)?, slot.badge()))
}

/// The object that a slot embedded in another object names, if there is one.
#[inline(always)]
pub fn bound<T: TypedObject>(slot: &Slot) -> Option<Ref<T>> {
    slot.expect_object::<T>(Rights::empty()).ok()
}

/// Objects and their types.
macro_rules! typed {
    ($($object:ty => $kind:ident,)*) => { $(
        // SAFETY: `repr(C)`, the header first, and created with enough pages: see `syscall::invoke::create`.
        unsafe impl TypedObject for $object { const TYPE: ObjectType = ObjectType::$kind; }
    )* };
}

typed! {
    partition::Partition => Partition,
    thread::Thread => Thread,
    endpoint::Endpoint => Endpoint,
    notification::Notification => Notification,
    window::Window => Window,
    crate::vmx::Vcpu => Vcpu,
    crate::vmx::GuestSpace => GuestSpace,
}

/// The lists that objects can be in: `object, marker => member that links it;`.
macro_rules! linked {
    ($($object:ty, $marker:ty => $member:ident;)*) => { $(
        impl bulkhead_core::queue::Linked<$marker> for $object {
            fn links(&self) -> &bulkhead_core::queue::Links<Self> { &self.$member }
        }
    )* };
}
pub(crate) use linked;
