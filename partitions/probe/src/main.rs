//! A program that looks at the devices it owns on the PCI bus.
//!
//! Owns: nothing but what the manifest gives it. It says of each device what it is and what its registers hold, and makes a network
//! card of Intel's interrupt it. Its text is compared by the system tests.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

use bulkhead_runtime::device::Device;
use bulkhead_runtime::driver::Registers;
use bulkhead_runtime::plan::{EntryKind, StatusReport};
use bulkhead_runtime::{Program, entry, events, println, time};

entry!(main);

/// Vendor and device of the cards that can interrupt at a word: 82574L (Intel 82574 datasheet 3.4, 10.2) and 82540EM (PCI/PCI-X Family
/// of Gigabit Ethernet Controllers Software Developer's Manual, 13.4.17 to 13.4.21).
const INTEL: [(u16, u16); 2] = [(0x8086, 0x10d3), (0x8086, 0x100e)];
/// The registers of both: causes to set, causes to let through, causes to vectors.
const CAUSE_SET: u32 = 0xc8;
const CAUSE_MASK_SET: u32 = 0xd0;
const CAUSE_READ: u32 = 0xc0;
const VECTORS: u32 = 0xe4;
/// Change of the link; some other cause than queues (82574L).
const CAUSES: u32 = 1 << 2 | 1 << 24;
/// "Other causes" have vector 0, and the entry is valid.
const OTHER_TO_VECTOR_0: u32 = 1 << 19;
/// How long the message may take.
const PATIENCE_MS: u64 = 2000;

fn main(program: Program) {
    let mut complete = true;
    let names = program.environment().entries().iter().filter(|entry| entry.kind() == Some(EntryKind::PciFunction));
    for name in names.map(|entry| entry.name.as_str()) {
        match program.device(name) {
            Some(device) => complete &= look_at(&device),
            None => complete = false,
        }
    }
    let report = if complete { StatusReport::Finished } else { StatusReport::Failed };
    program.report(report, 0, "all devices looked at");
}

/// Says what a device is. Whether it is as it should be.
fn look_at(device: &Device) -> bool {
    let function = device.function;
    println!(
        "device {}: {:04x}:{:04x}, class {:06x}, at {:04x}",
        function.name, function.vendor, function.device, function.class, function.address
    );
    for bar in 0..6 {
        if let Some(registers) = device.registers(bar) {
            let first = registers.read_u32(0);
            println!("device {}: BAR {bar}: {} KiB of memory, {first:08x}...", function.name, registers.len() >> 10);
        } else if let Some(ports) = device.ports(bar) {
            println!("device {}: BAR {bar}: {} ports at {:x}", function.name, ports.count(), ports.base());
        }
    }
    let is_message = device.interrupts().all(|interrupt| interrupt.entry.message_address != 0);
    let kind = match (function.msix, is_message) {
        (Some(_), _) => "MSI-X",
        (None, true) => "MSI",
        (None, false) => "line",
    };
    println!("device {}: {} interrupts by {kind}", function.name, device.interrupts().count());
    !INTEL.contains(&(function.vendor, function.device)) || interrupt(device)
}

/// Has the card raise an interrupt. Whether it came.
fn interrupt(device: &Device) -> bool {
    let Some(registers) = device.registers(0) else {
        println!("device {}: no registers", device.function.name);
        return false;
    };
    let interrupt = match device.enable_message(0) {
        Ok(interrupt) => interrupt,
        Err(error) => {
            println!("device {}: no interrupt: {error:?}", device.function.name);
            return false;
        }
    };
    if device.function.msix.is_some() {
        registers.write_u32(VECTORS, OTHER_TO_VECTOR_0);
    }
    registers.write_u32(CAUSE_MASK_SET, CAUSES);
    registers.write_u32(CAUSE_SET, CAUSES);
    let deadline = time::now().saturating_add(time::milliseconds(PATIENCE_MS));
    let mut signals = 0;
    while signals & interrupt.signal == 0 && time::now() < deadline {
        signals |= events::wait(deadline);
    }
    let causes = registers.read_u32(CAUSE_READ);
    let came = signals & interrupt.signal != 0;
    println!(
        "device {}: interrupt {}, causes {causes:08x}",
        device.function.name,
        if came { "came" } else { "is missing" }
    );
    came
}
