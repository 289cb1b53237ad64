//! Init: the first program, which the kernel starts with every capability of the machine.
//!
//! Owns: carrying out the plan (building every partition), sealing the system, and then starting partitions, reporting their
//! faults, starting them anew as the manifest says, and noticing the system's end. Must never: do I/O, parse text, or hold
//! more authority than that after the seal.
//!
//! In the order in which things happen: [`modules`] (map, verify), [`devices`] (what is on the PCI bus), [`construct`], [`nodes`] and [`grants`]
//! (build), [`supervise`]
//! (start, restart), [`faults`] (reports), [`dump`] (what everybody has), [`end`]; [`trace`] at both ends.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

extern crate alloc;

mod acpi;
mod allocator;
mod configuration;
mod construct;
mod devices;
mod dump;
mod end;
mod failure;
mod faults;
mod grants;
mod image;
mod modules;
mod nodes;
mod remapping;
mod supervise;
mod trace;
mod trial;

use crate::allocator::Allocator;
use crate::construct::{Construction, OWN, Outcome};
use crate::failure::{Cause, During, Failure};
use crate::modules::Modules;
use crate::supervise::Supervisor;
use crate::trace::Rings;
use alloc::vec::Vec;
use bulkhead_runtime::abi::{BootInfo, init_slot};
use bulkhead_runtime::object::{Capability, Interrupt, IoPorts, Memory, Window};
use bulkhead_runtime::plan::Plan;
use bulkhead_runtime::syscall::Slot;
use bulkhead_runtime::{die_with, init_entry, println, time};

init_entry!(main);

fn main(boot: &'static BootInfo) {
    match start(boot) {
        Ok(mut supervisor) => supervisor.run(),
        // The kernel prints the text when init faults: there may be no console to do it.
        Err(failure) => die_with(format_args!("bulkhead: end: failed: {failure}")),
    }
}

/// Builds everything, and seals the system.
fn start(boot: &'static BootInfo) -> Result<Supervisor, Failure> {
    time::set_frequency(boot.tsc_hz);
    let mut allocator = Allocator::new(boot);
    let mut modules = Modules::new(boot);
    let pool = allocator.pool(modules.table_pages()).during("allocate the page tables of", "init")?;
    OWN.donate(pool).during("give page tables to", "init")?;

    let bytes = modules.plan(&mut allocator)?;
    let plan = Plan::parse(bytes).map_err(|error| Failure::new("read", "the plan", Cause::Plan(error)))?;
    if let Some(own) = plan.partition(0) {
        allocator.reserve_slots_below(u64::from(own.record.table_slots));
    }
    let before = time::now();
    let modules = modules.verified(&plan, &mut allocator)?;
    let verified = time::now();

    let mut construction = Construction::new(boot, plan, allocator, modules)?;
    construction.furnish_init()?;
    println!(
        "bulkhead: {}: {} modules verified in {} us",
        plan.name(),
        plan.modules().len(),
        time::to_microseconds(verified.saturating_sub(before))
    );
    let mut outcomes = Vec::new();
    let bus = plan.bus();
    if let Some(bus) = bus {
        // Before all others: what they get depends on what it finds.
        let mut outcome = construction.build(bus)?;
        if let Outcome::Built(built) = &mut outcome {
            built.started = true;
            construction.devices = devices::discover(&mut construction, built);
        }
        outcomes.push(outcome);
    }
    for partition in plan.partitions().skip(1).filter(|one| bus.is_none_or(|bus| bus.index != one.index)) {
        let outcome = construction.build(partition)?;
        if let Outcome::Refused(_, failure) = &outcome {
            println!("bulkhead: {failure}");
        }
        outcomes.push(outcome);
    }
    println!(
        "bulkhead: {} partitions built, {} KiB of memory left",
        outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Built(_))).count(),
        construction.allocator.free_bytes() >> 10
    );
    let rings = Rings::bind(&mut construction, &outcomes)?;
    construction.furnish_supervision()?;
    construction.keep_to_slots().during("keep to the slots of", "init")?;
    seal(boot)?;
    Ok(Supervisor::new(boot, plan, outcomes, construction, rings))
}

/// Gives up what is not needed any more, and seals the system.
fn seal(boot: &BootInfo) -> Result<(), Failure> {
    let root = Window(Slot(init_slot::FIRST_WINDOW));
    root.seal().during("seal", "the system")?;
    IoPorts(Slot(init_slot::IO_PORTS)).delete().during("give up", "the root of I/O ports")?;
    Interrupt(Slot(init_slot::INTERRUPTS)).delete().during("give up", "the root of interrupts")?;
    for slot in (init_slot::FIRST_MEMORY..).take(boot.memory_count as usize) {
        Memory(Slot(slot)).delete().during("give up", "the free memory")?;
    }
    for (slot, range) in (init_slot::FIRST_DEVICE_MEMORY..).zip(&boot.device_memory) {
        if range.length != 0 {
            Memory(Slot(slot)).delete().during("give up", "the memory of devices")?;
        }
    }
    Ok(())
}
