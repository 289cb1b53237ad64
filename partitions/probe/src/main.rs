//! A program that looks at the devices it owns on the PCI bus.
//!
//! Owns: nothing but what the manifest gives it. It says of each device what it is and what its registers hold, and makes a network
//! card of Intel's, and a SATA controller, interrupt it. Its text is compared by the system tests.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

use bulkhead_runtime::device::{Device, DeviceRegisters};
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
/// Class of SATA controllers; their registers (AHCI 1.3.1, 3.1 and 3.3).
const CLASS_AHCI: u32 = 0x01_06_01;
const GLOBAL: u32 = 0x04;
const GLOBAL_RESET: u32 = 1 << 0;
/// AHCI, with interrupts.
const GLOBAL_ENABLE: u32 = 1 << 31 | 1 << 1;
/// The first port begins with the address of its command list; and its other registers.
const PORT: u32 = 0x100;
const PORT_RECEIVED: u32 = 0x08;
const PORT_STATUS: u32 = 0x10;
const PORT_ENABLE: u32 = 0x14;
const PORT_COMMAND: u32 = 0x18;
const COMMAND_RECEIVE: u32 = 1 << 4;
/// How long an interrupt may take.
const PATIENCE_MS: u64 = 2000;

fn main(program: Program) {
    let mut complete = true;
    let names = program.environment().entries().iter().filter(|entry| entry.kind() == Some(EntryKind::PciFunction));
    for name in names.map(|entry| entry.name.as_str()) {
        match program.device(name) {
            Some(device) => complete &= look_at(&program, &device),
            None => complete = false,
        }
    }
    let report = if complete { StatusReport::Finished } else { StatusReport::Failed };
    program.report(report, 0, "all devices looked at");
}

/// Says what a device is. Whether it is as it should be.
fn look_at(program: &Program, device: &Device) -> bool {
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
    if INTEL.contains(&(function.vendor, function.device)) {
        return interrupt(device, 0, set_cause, CAUSE_READ);
    }
    match program.memory("rings").map(|(_, entry)| entry.physical) {
        Some(physical) if function.class == CLASS_AHCI => {
            let start = |registers: &DeviceRegisters, _| receive(registers, physical);
            interrupt(device, 5, start, PORT + PORT_STATUS)
        }
        _ => true,
    }
}

/// Has a card raise an interrupt.
fn set_cause(registers: &DeviceRegisters, by_table: bool) {
    if by_table {
        registers.write_u32(VECTORS, OTHER_TO_VECTOR_0);
    }
    registers.write_u32(CAUSE_MASK_SET, CAUSES);
    registers.write_u32(CAUSE_SET, CAUSES);
}

/// Has a controller receive what the drive on its first port sends after a reset, with an interrupt.
fn receive(registers: &DeviceRegisters, physical: u64) {
    registers.write_u32(GLOBAL, GLOBAL_RESET);
    let deadline = time::now().saturating_add(time::milliseconds(PATIENCE_MS));
    while registers.read_u32(GLOBAL) & GLOBAL_RESET != 0 && time::now() < deadline {}
    registers.write_u32(GLOBAL, GLOBAL_ENABLE);
    registers.write_u64(PORT, physical);
    registers.write_u64(PORT + PORT_RECEIVED, physical + 0x400);
    registers.write_u32(PORT + PORT_STATUS, u32::MAX);
    registers.write_u32(PORT + PORT_ENABLE, u32::MAX);
    registers.write_u32(PORT + PORT_COMMAND, COMMAND_RECEIVE);
}

/// Has a device raise an interrupt by `start`, with the registers of a BAR. Whether it came.
fn interrupt(device: &Device, bar: u8, start: impl Fn(&DeviceRegisters, bool), cause: u32) -> bool {
    let Some(registers) = device.registers(bar) else {
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
    start(&registers, device.function.msix.is_some());
    let deadline = time::now().saturating_add(time::milliseconds(PATIENCE_MS));
    let mut signals = 0;
    while signals & interrupt.signal == 0 && time::now() < deadline {
        signals |= events::wait(deadline);
    }
    let causes = registers.read_u32(cause);
    let came = signals & interrupt.signal != 0;
    println!(
        "device {}: interrupt {}, causes {causes:08x}",
        device.function.name,
        if came { "came" } else { "is missing" }
    );
    came
}
