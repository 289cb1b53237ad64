//! Tiny guests, for tests and for machines without a Linux to boot: one file, whose command line names what it does.
//!
//! It starts in 32-bit protected mode (by its PVH note), says so, and goes on in 64-bit mode with one of these, the first word
//! of the command line:
//! - `hello`: prints what it finds, and powers off;
//! - `bench`: measures exits, a JSON object for each figure, and powers off;
//! - `real`: goes down to real mode, prints from there, and powers off;
//! - `hostile`: does what no well-behaved guest does, says how it went, and powers off;
//! - `rampage SEED MILLIONS`: the same and more in random order, for so many million ticks, with the rings of virtio devices;
//! - `corner AREA...`: checks the architecture's corner cases, all or those of some areas, and powers off;
//! - `paging-log`: logs what accesses meet under all combinations of rights;
//! - `storm KIND`: one kind of exit for ever, as fast as it goes;
//! - `idle MILLIONS`: halts for so many million ticks, and powers off;
//! - `msr NUMBER...`: says what reading and writing these model-specific registers (in hexadecimal) does;
//! - `spin`: computes for ever, to see that others get their share;
//! - `crash`: causes a triple fault;
//! - `smp`: starts the other processors in every way;
//! - `ipi [COUNT [maskable]]`: sends interrupts between processors in every mode, and counts what comes; or all but NMIs;
//! - `shadow-bench`: measures changes of page tables;
//! - `shadow-smp`: all processors change the same page table;
//! - `ipi-bench`: measures interrupts between processors;
//! - `smp-memory BASE LENGTH SECONDS`: all processors use that part of guest-physical memory (in hexadecimal) at once;
//! - `exit N`: ends by the exit port with code N.
//!
//! The guests must never depend on anything of the rest of the system but what a PC offers.
#![no_std]
#![no_main]

mod acpi;
mod apic;
mod bench;
mod console;
mod corner;
mod delay;
mod echo;
mod emulators;
mod exceptions;
mod halting;
mod hostile;
mod idle;
mod instructions;
mod interrupts;
mod ipi;
mod ipi_bench;
mod ledger;
mod machine;
mod modes;
mod msr;
mod priorities;
mod rampage;
mod receiver;
mod shadow_bench;
mod shadow_smp;
mod smp;
mod smp_memory;
mod startup;
mod storm;
mod timers;

// Compiled code calls its functions by name.
use bulkhead_intrinsics as _;
use core::arch::global_asm;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};
use machine::{Ports, StartInformation};

global_asm!(include_str!("start.s"));
global_asm!(include_str!("real.s"));
global_asm!(include_str!("multiboot2.s"));

/// Where the start-up code goes on, in 64-bit mode.
#[unsafe(no_mangle)]
extern "C" fn guest_main(start_information: u32) -> ! {
    exceptions::install();
    let information = StartInformation::at(start_information);
    let mut line = [0; 256];
    let line = information.as_ref().map_or("", |information| information.command_line(&mut line));
    println!("guest: long mode, command line \"{line}\"");
    let mut words = line.split_ascii_whitespace();
    match words.next() {
        Some("bench") => bench::run(""),
        Some("real") => machine::enter_real_mode(),
        Some("hostile") => hostile::run(words.next().and_then(|seed| seed.parse().ok()).unwrap_or(1)),
        Some("rampage") => {
            let mut number = || words.next().and_then(|number| number.parse().ok());
            rampage::run(number().unwrap_or(1), number().unwrap_or(100));
        }
        Some("smp") => startup::run(),
        Some("ipi") => {
            let count = words.next().and_then(|count| count.parse().ok()).unwrap_or(1_000_000);
            ipi::run(count, words.next() != Some("maskable"));
        }
        Some("shadow-bench") => shadow_bench::run(),
        Some("shadow-smp") => shadow_smp::run(),
        Some("ipi-bench") => ipi_bench::run(),
        Some("smp-memory") => smp_memory::run(words),
        Some("corner") => corner::run(words),
        Some("paging-log") => corner::paging_log::run(),
        Some("crash") => machine::triple_fault(),
        Some("spin") => spin(),
        Some("msr") => words.for_each(msr::show),
        Some("idle") => idle::run(words.next().and_then(|number| number.parse().ok()).unwrap_or(1000)),
        Some("storm") => storm::run(words.next().unwrap_or("cpuid")),
        Some("exit") => machine::exit(words.next().and_then(|code| code.parse().ok()).unwrap_or(0)),
        Some("hello") | None => hello(),
        Some(other) => {
            println!("guest: there is no test \"{other}\"");
            machine::exit(2);
        }
    }
    println!("guest: off");
    machine::power_off()
}

/// Prints what a guest can find out about its machine.
fn hello() {
    let (vendor, highest) = machine::vendor();
    println!("guest: processor {}, leaves up to {highest:#x}", vendor.as_str());
    let features = machine::cpuid(1, 0);
    println!("guest: hypervisor bit {}, x2APIC bit {}", features.ecx >> 31, features.ecx >> 21 & 1);
    let hypervisor = machine::cpuid(0x4000_0000, 0);
    println!("guest: hypervisor \"{}\"", machine::text([hypervisor.ebx, hypervisor.ecx, hypervisor.edx]).as_str());
    let before = machine::ticks();
    for _ in 0..1000 {
        Ports::read_u8(0x80);
    }
    println!("guest: 1000 port reads took {} ticks", machine::ticks().wrapping_sub(before));
}

/// Computes, and says every now and then how far it has got.
fn spin() -> ! {
    let mut value = 1u64;
    for round in 1u64.. {
        for _ in 0..10_000_000 {
            value = core::hint::black_box(value.wrapping_mul(6364136223846793005).wrapping_add(1));
        }
        println!("guest: round {round}");
    }
    machine::power_off()
}

#[panic_handler]
fn panic(information: &PanicInfo<'_>) -> ! {
    /// Only the first of several processors tells.
    static HAS_PANICKED: AtomicBool = AtomicBool::new(false);
    if HAS_PANICKED.swap(true, Ordering::SeqCst) {
        instructions::stop();
    }
    println!("guest: {information}");
    machine::exit(101)
}
