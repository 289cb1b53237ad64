//! The end of guest objects, and how threads and vCPUs let go of each other.

use crate::object::hooks::{KernelHooks, drain, embedded};
use crate::object::thread::{Resume, Thread};
use crate::object::{engine, guest::unmap_state};
use crate::shootdown;
use crate::vmx::guest_space::{GuestSpace, forget_guest_space};
use crate::vmx::vcpu::Vcpu;
use crate::vmx::vpid::release_vpid;
use bulkhead_abi::Error;
use bulkhead_core::Progress;
use bulkhead_core::page_table::{Ept, PageTable};
use bulkhead_core::phys::Ref;

/// A thread begins to run a vCPU; one at a time.
#[inline(always)]
pub fn begin_run(thread: Ref<Thread>, vcpu: Ref<Vcpu>) -> Result<Ref<Vcpu>, Error> {
    Error::WrongCpu.when(vcpu.cpu.get() != thread.cpu.get())?;
    Error::WrongState.when(vcpu.runner.get().is_some_and(|other| other != thread))?;
    prepare_entry(vcpu)?;
    vcpu.runner.set(Some(thread));
    thread.vcpu.set(Some(vcpu));
    Ok(vcpu)
}

/// A thread goes on with a run after its processor did something else.
pub fn resume_run(vcpu: Ref<Vcpu>) {
    // A run whose space goes is ended; there is nothing to resume.
    let _ = prepare_entry(vcpu);
}

/// Sees to it that the processor of a vCPU has nothing outdated cached of its space. The kernel lock is held.
fn prepare_entry(vcpu: Ref<Vcpu>) -> Result<(), Error> {
    if vcpu.may_enter.get() { Ok(()) } else { refresh(vcpu) }
}

#[cold]
fn refresh(vcpu: Ref<Vcpu>) -> Result<(), Error> {
    let space = vcpu.space.get().ok_or(Error::Gone)?;
    space.freshness.enter(vcpu.cpu.get(), || forget_guest_space(space.root().0));
    vcpu.may_enter.set(true);
    Ok(())
}

/// A thread does not run a vCPU any more, if it did.
pub fn end_run(thread: Ref<Thread>) {
    if let Some(vcpu) = thread.vcpu.replace(None) {
        vcpu.runner.set(None);
    }
}

/// Ends a run because the vCPU or its space is about to go: the thread's system call fails. Answers whether there was a run.
fn abort_run(vcpu: Ref<Vcpu>) -> bool {
    let Some(thread) = vcpu.runner.get() else { return false };
    end_run(thread);
    thread.resume.set(Resume::Syscall);
    thread.set_status(Err(Error::Gone));
    true
}

/// Ends a vCPU's run and takes it off the processor that has its state, wherever that is. The kernel lock is held; when this
/// returns, that processor is out of the guest and will look at the thread's vCPU anew.
fn take_off(vcpu: Ref<Vcpu>) {
    // A processor may be on its way into the guest, without the lock, before it has the vCPU's state.
    let was_running = abort_run(vcpu);
    if was_running || vcpu.home.get() != 0 {
        shootdown::release(vcpu);
    }
}

/// Takes a vCPU apart.
pub fn destroy_vcpu(vcpu: Ref<Vcpu>) -> Progress {
    unmap_state(vcpu);
    take_off(vcpu);
    release_vpid(vcpu.vpid.replace(0));
    if let Some(space) = vcpu.space.replace(None) {
        space.vcpus.remove(vcpu);
    }
    Progress::Done
}

/// Takes a guest space apart: its vCPUs lose it for good, then doorbells, page tables and pool go.
pub fn destroy_guest_space(space: Ref<GuestSpace>) -> Progress {
    if let Some(vcpu) = space.vcpus.first() {
        take_off(vcpu);
        vcpu.space.set(None);
        vcpu.may_enter.set(false);
        space.vcpus.remove(vcpu);
        return Progress::Again;
    }
    // One at a time.
    if let Some(binding) = space.bindings.iter().find(|binding| !binding.is_vacant()) {
        let _ = engine().unbind_step(embedded(binding), &KernelHooks);
        return Progress::Again;
    }
    let again = space.shadow.destroy_step(&space.pool) == Progress::Again
        || PageTable::<Ept>::new(space.root()).destroy_step(&space.pool) == Progress::Again
        || drain(&space.pool);
    if again { Progress::Again } else { Progress::Done }
}
