//! A driver that has its device reach for what is not its own.
//!
//! Its environment names the device, memory for DMA (`buffers`), memory that is its own but not its device's (`secret`), and as texts the
//! physical addresses of that (`secret`) and of something else that it must not touch (`target`). It must never do harm but by its device.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

mod edu;

use bulkhead_driver::DmaMemory;
use bulkhead_runtime::device::DeviceRegisters;
use bulkhead_runtime::plan::StatusReport;
use bulkhead_runtime::time::Tsc;
use bulkhead_runtime::{Program, entry, println};
use edu::{Edu, REGISTERS_BAR};

entry!(main);

/// Bytes of each copy.
const BYTES: u32 = 64;
/// What the program writes to its memory for DMA, and to the other.
const OWN: u64 = 0x1122_3344_5566_7788;
const SECRET: u64 = 0x5ec1_e75e_c1e7_5ec1;
/// Where a device writes to signal the interrupt of entry 0, which nobody has (VT-d specification, 5.1.2.2). Messages of the old format
/// would show more, but QEMU 7.2 lets them pass where a real unit blocks them.
const MESSAGE: u32 = 0xfee0_0010;
/// More than the bus service bears.
const INSISTENCE: usize = 40;

fn main(program: Program) {
    match run(&program) {
        Ok(()) => program.report(StatusReport::Finished, 0, "the device is confined"),
        Err(text) => {
            println!("{text}");
            program.report(StatusReport::Failed, 0, text);
        }
    }
}

fn address(program: &Program, name: &str) -> Option<u32> {
    let text = program.environment().text(name)?;
    u32::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

fn fill(memory: &DmaMemory<'_>, value: u64) {
    for offset in (0..BYTES as usize).step_by(8) {
        memory.write_u64(offset, value);
    }
}

fn holds(memory: &DmaMemory<'_>, value: u64) -> bool {
    (0..BYTES as usize).step_by(8).all(|offset| memory.read_u64(offset) == value)
}

/// The memory of this name, at a physical address, or at that which the environment tells.
fn memory(program: &Program, name: &str, physical: Option<u32>) -> Option<DmaMemory<'static>> {
    let (memory, entry) = program.memory(name)?;
    let words = memory.atomics(0, memory.len() / 8).ok()?;
    Some(DmaMemory::new(words, physical.map_or(entry.physical, u64::from)))
}

fn run(program: &Program) -> Result<(), &'static str> {
    let registers: DeviceRegisters =
        program.first_device().and_then(|device| device.registers(REGISTERS_BAR)).ok_or("there is no device")?;
    let edu = Edu::new(registers, Tsc).ok_or("the device is another one")?;
    let own = memory(program, "buffers", None).ok_or("there is no memory for DMA")?;
    let at = address(program, "secret").ok_or("nothing says where the secret is")?;
    let secret = memory(program, "secret", Some(at)).ok_or("there is no secret")?;
    let target = address(program, "target").ok_or("there is no target")?;
    let (first, second) = own.part(0, 512).zip(own.part(512, 512)).ok_or("the memory for DMA is too small")?;
    let place = |part: &DmaMemory<'_>| part.physical() as u32;
    let done = |done: bool| if done { Ok(()) } else { Err("a copy does not end") };

    fill(&first, OWN);
    fill(&secret, SECRET);
    done(edu.read(place(&first), BYTES))?;
    done(edu.write(place(&second), BYTES))?;
    if !holds(&second, OWN) {
        return Err("the device does not reach its own memory");
    }
    println!("the device reaches its own memory");

    for (what, from) in [("the secret", at), ("the target", target)] {
        // What the buffer holds is known before.
        done(edu.read(place(&first), BYTES))?;
        done(edu.read(from, BYTES))?;
        done(edu.write(place(&second), BYTES))?;
        // What a device reads that it may not is up to it: what it had before, zeroes, ones.
        if ![OWN, 0, u64::MAX].iter().any(|nothing| holds(&second, *nothing)) {
            println!("the device has read {what}");
            return Err("the device is not confined");
        }
        println!("the device cannot read {what}");
    }
    done(edu.write(at, BYTES))?;
    if !holds(&secret, SECRET) {
        return Err("the device has overwritten the secret");
    }
    println!("the device cannot overwrite the secret");
    // Fatal, if it were possible.
    done(edu.write(target, BYTES))?;
    done(edu.write(MESSAGE, 4))?;
    for _ in 0..INSISTENCE {
        done(edu.write(at, 8))?;
    }
    fill(&second, 0);
    done(edu.write(place(&second), BYTES))?;
    println!("the device is {}on the bus", if holds(&second, OWN) { "still " } else { "no longer " });
    Ok(())
}
