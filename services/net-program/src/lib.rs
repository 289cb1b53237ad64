//! From a network card on the PCI bus to its driver.
//!
//! Owns: which driver a card has. Must never: go by anything but the card's identifier.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::boxed::Box;
use bulkhead_driver::{DmaMemory, Nic};
use bulkhead_e1000::{E1000, Model};
use bulkhead_runtime::device::Device;
use bulkhead_runtime::println;
use bulkhead_runtime::program::DeviceInterrupt;
use bulkhead_runtime::time::Tsc;
use bulkhead_virtio_driver::{Structures, VirtioNet};

/// A virtio network card that follows virtio 1.0 or later (virtio 1.2, 4.1.2).
const VIRTIO_NET: u32 = 0x1041_1af4;

/// A card that runs.
pub struct Card {
    /// Its driver.
    pub nic: Box<dyn Nic>,
    /// Its interrupt.
    pub interrupt: DeviceInterrupt,
}

/// Starts a card; its driver takes what it needs of the memory.
pub fn start(device: &Device, memory: &mut DmaMemory<'static>) -> Result<Card, &'static str> {
    let identifier = u32::from(device.function.vendor) | u32::from(device.function.device) << 16;
    let interrupt = device.enable_message(0).map_err(|_| "the card has no interrupt")?;
    let registers = |bar| device.registers(bar).ok_or("the card has no registers");
    let nic: Box<dyn Nic> = if let Some(model) = Model::of(identifier) {
        let card = E1000::start(model, registers(bulkhead_e1000::REGISTERS_BAR)?, &Tsc, memory);
        Box::new(card.map_err(|error| {
            println!("{error:?}");
            "the card does not start"
        })?)
    } else if identifier == VIRTIO_NET {
        let found = device.virtio_structures().ok_or("the card does not say where its structures are")?;
        let structures = Structures::from(found);
        let registers = registers(found.bar)?;
        let card = VirtioNet::start(registers, registers.len(), &structures, Tsc, memory);
        Box::new(card.map_err(|error| {
            println!("{error:?}");
            "the card does not start"
        })?)
    } else {
        return Err("there is no driver for the card");
    };
    Ok(Card { nic, interrupt })
}
