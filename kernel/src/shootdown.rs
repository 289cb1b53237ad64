//! The kernel's side of [`bulkhead_core::shootdown`]: what processors have loaded, how they are interrupted, and what they do
//! when they are asked. Each vCPU keeps its space's answer whether it may enter (`Vcpu::may_enter`), so that an entry looks at one
//! byte; what is unmapped from the space takes it back.

use crate::arch::cpu::{self, Cpu, MAX_CPUS};
use crate::arch::{apic, traps::vector};
use crate::memory;
use crate::object::partition::Partition;
use crate::vmx::{self, GuestSpace, Vcpu};
use bulkhead_core::phys::Ref;
use bulkhead_core::shootdown::{Mailbox, Processor, Request, ask, shoot_down_guest, shoot_down_native};

// A bit each in a guest space.
const _: () = assert!(MAX_CPUS <= u64::BITS as usize);

impl Processor for Cpu {
    fn number(&self) -> u32 {
        self.number.get()
    }

    fn native_root(&self) -> u64 {
        self.address_space.get()
    }

    fn guest_root(&self) -> u64 {
        // A thread has a guest processor from the beginning of a run to its end; while it is current, its processor is inside.
        let vcpu = self.current.get().and_then(|thread| thread.vcpu.get());
        vcpu.and_then(|vcpu| vcpu.space.get()).map_or(0, |space| space.root().0)
    }

    fn mailbox(&self) -> &Mailbox {
        &self.mailbox
    }

    fn interrupt(&self) {
        apic::send(self.apic_id.get(), vector::REQUEST);
    }

    fn perform(&self, request: Request) {
        match request {
            // SAFETY: the space is the one that is loaded; loading it again only forgets translations.
            Request::ForgetNative(root) => unsafe { memory::load_space(root) },
            Request::ForgetGuest(root) => vmx::forget_guest_space(root),
            Request::Release(address) => {
                // SAFETY: the processor that asks holds the kernel lock and waits for this one, so the vCPU is alive.
                if let Some(vcpu) = unsafe { Ref::<Vcpu>::from_address(address) } {
                    vcpu.clear(&self.vmx);
                }
            }
        }
    }
}

/// Does what another processor asks of this one.
#[inline]
pub fn answer(cpu: &Cpu) {
    cpu.mailbox.answer(|request| cpu.perform(request));
}

/// To be called after something was unmapped from a partition: when it returns, nobody can use it any more.
pub fn unmapped_from_partition(partition: Ref<Partition>) {
    shoot_down_native(cpu::all(), cpu::this(), partition.root.get().0);
}

/// To be called after something was unmapped from a guest space: when it returns, nobody can use it any more.
pub fn unmapped_from_guest(space: Ref<GuestSpace>) {
    space.delay_entries();
    shoot_down_guest(cpu::all(), cpu::this(), space.root().0, &space.freshness);
}

/// Has the processor of a vCPU leave its guest and let go of it.
pub fn release(vcpu: Ref<Vcpu>) {
    let is_home = |cpu: &Cpu| cpu.number.get() == vcpu.cpu.get();
    ask(cpu::all(), cpu::this(), is_home, Request::Release(vcpu.address()));
}
