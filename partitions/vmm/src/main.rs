//! The virtual machine monitor of one guest.
//!
//! It owns the guest's boot protocol, its emulated devices' control plane and its exits, and the guest's ends of channels. It must never
//! touch a physical device, or memory of another guest: it has no capability to. The device models, loaders and the instruction emulation
//! are those of `bulkhead-machine`; this program joins them to the kernel's vCPU, to the console's channel, to the service that serves the
//! guest's disks, and to the channels that the guest has with others ([`ports`]). Each guest processor has a thread of its own, on the CPU
//! that the manifest says.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

extern crate alloc;

mod control;
mod copied;
mod debug;
mod device;
mod events;
mod exits;
mod guest;
mod interpret;
mod memory;
mod monitor;
mod ports;
mod serial;
mod setup;
mod statistics;

use alloc::string::String;
use bulkhead_runtime::plan::StatusReport;
use bulkhead_runtime::{Program, abi, entry, events as signals, println, time};
use core::sync::atomic::Ordering;
use guest::{End, Guest};
use spin::Once;

entry!(main);

/// How long the other processors may take to end after the first, in milliseconds.
const PATIENCE: u64 = 500;

/// The guest: the first thread builds it, all threads use it.
static GUEST: Once<Guest> = Once::new();

fn main(program: Program) {
    let (report, code, text) = match run(&program) {
        Ok(end) => report_of(end),
        Err(error) => {
            println!("vmm: {error}");
            (StatusReport::Failed, 1, "the guest could not be started")
        }
    };
    println!("vmm: {text}");
    program.report(report, code, text);
    // Init decides what happens next.
    loop {
        signals::wait(abi::NO_DEADLINE);
    }
}

/// Builds the guest and runs its first processor until the guest ends.
fn run(program: &Program) -> Result<End, String> {
    let (guest, start) = setup::build(program)?;
    let guest = GUEST.call_once(|| guest);
    setup::start_threads(program, run_further)?;
    let mut monitor = setup::monitor(guest, 0)?;
    monitor.start(&start);
    let entered = time::now();
    monitor.run();
    // Printed only now, so that the figure delays nothing.
    print_boot_time(program, entered);
    if guest.statistics {
        monitor.print_statistics();
        wait_for_others(guest);
    }
    guest.end.get().copied().ok_or_else(|| String::from("the guest ended without a reason"))
}

/// What each further thread does: it runs its processor until the guest ends.
fn run_further(thread: usize) {
    let Some(guest) = GUEST.get() else { return };
    match setup::monitor(guest, thread) {
        Ok(mut monitor) => {
            monitor.run();
            monitor.print_statistics();
            guest.left.fetch_add(1, Ordering::AcqRel);
        }
        // The guest sees a processor that does not answer.
        Err(error) => println!("vmm: {error}"),
    }
}

/// Waits until the other processors' threads have printed what they have counted; those that do not end are not waited for.
fn wait_for_others(guest: &Guest) {
    let limit = time::now().saturating_add(time::milliseconds(PATIENCE));
    while guest.left.load(Ordering::Acquire) + 1 < guest.processors.len() && time::now() < limit {
        signals::wait(time::now().saturating_add(time::milliseconds(1)));
    }
}

/// Prints when the guest's first instruction was, and how long after the kernel's, in the guest's first life.
fn print_boot_time(program: &Program, entered: u64) {
    let header = program.environment().header();
    if header.generation == 0 {
        println!("vmm: the guest was entered at tsc={entered}");
        let ticks = entered.saturating_sub(header.tsc_at_boot);
        println!(
            "{{\"name\": \"boot.kernel\", \"unit\": \"instructions\", \"n\": 1, \"min\": {ticks}, \"median\": {ticks}, \"p95\": {ticks}}}"
        );
    }
}

/// What init is told of the end of a guest.
fn report_of(end: End) -> (StatusReport, u32, &'static str) {
    match end {
        End::Off => (StatusReport::Finished, 0, "the guest powered off"),
        End::Reset => (StatusReport::Restart, 0, "the guest asked for a reset"),
        End::Exit(0) => (StatusReport::Finished, 0, "the guest ended by its exit port"),
        End::Exit(code) => (StatusReport::Failed, code, "the guest ended by its exit port with an error"),
        End::Crashed(text) => (StatusReport::Failed, 1, text),
    }
}
