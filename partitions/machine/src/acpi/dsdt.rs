//! The differentiated system description table: the devices that cannot be found by probing, in AML.

use super::AcpiParameters;
use super::aml::{Resources, Terms};
use super::table::Table;
use crate::devices::interrupts::SERIAL_REQUEST;
use crate::devices::pci::{self, interrupt_request};
use crate::devices::{hpet, power, rtc};
use crate::layout::{PCI_CONFIGURATION, PCI_MEMORY, PCI_PORTS};
use alloc::vec::Vec;

pub(super) fn build(parameters: &AcpiParameters) -> Vec<u8> {
    let sleep_type = || Terms::new().integer(u64::from(power::SLEEP_TYPE_OFF));
    let zero = || Terms::new().integer(0);
    let soft_off = Terms::new().package(&[sleep_type(), sleep_type(), zero(), zero()]);
    let mut system_bus = Terms::new()
        .device("PCI0", host_bridge(parameters))
        .device("COM1", serial_port())
        .device("RTC0", clock())
        .device("SYSR", board_resources());
    if parameters.hpet {
        system_bus = system_bus.device("HTIM", event_timer());
    }
    let terms = Terms::new().name("\\_S5", soft_off).scope("\\_SB", system_bus);
    let mut table = Table::new(b"DSDT", 2);
    table.bytes(&terms.into_bytes());
    table.finish()
}

/// The PCI root bus with its windows, and the wiring of its interrupt pins straight to inputs of the interrupt controllers.
fn host_bridge(parameters: &AcpiParameters) -> Terms {
    let ports = (PCI_PORTS.start as u16, (PCI_PORTS.end - 1) as u16);
    let memory = (PCI_MEMORY.start as u32, (PCI_MEMORY.end - 1) as u32);
    let resources = Resources::new()
        .buses(0, 0)
        .ports(pci::ADDRESS_PORT, 8)
        .port_window(ports.0, ports.1)
        .memory_window(memory.0, memory.1);
    let routes: Vec<Terms> = (1..=parameters.pci_functions.min(31))
        .map(|device| {
            Terms::new().package(&[
                // Any function of the device.
                Terms::new().integer((device as u64) << 16 | 0xffff),
                // INTA#.
                Terms::new().integer(0),
                // No link device: the input itself.
                Terms::new().integer(0),
                Terms::new().integer(u64::from(interrupt_request(device))),
            ])
        })
        .collect();
    Terms::new()
        .name("_HID", Terms::new().eisa("PNP0A03"))
        .name("_UID", Terms::new().integer(0))
        .name("_ADR", Terms::new().integer(0))
        .name("_BBN", Terms::new().integer(0))
        .name("_CRS", Terms::new().resources(resources))
        .name("_PRT", Terms::new().package(&routes))
}

fn serial_port() -> Terms {
    Terms::new()
        .name("_HID", Terms::new().eisa("PNP0501"))
        .name("_UID", Terms::new().integer(1))
        .name("_STA", Terms::new().integer(0x0f))
        .name("_CRS", Terms::new().resources(Resources::new().ports(0x3f8, 8).interrupt(SERIAL_REQUEST)))
}

fn clock() -> Terms {
    Terms::new()
        .name("_HID", Terms::new().eisa("PNP0B00"))
        .name("_CRS", Terms::new().resources(Resources::new().ports(0x70, 2).interrupt(rtc::IRQ)))
}

fn event_timer() -> Terms {
    let registers = Resources::new().memory(hpet::BASE as u32, (hpet::END - hpet::BASE) as u32);
    Terms::new().name("_HID", Terms::new().eisa("PNP0103")).name("_CRS", Terms::new().resources(registers))
}

/// What is taken without a device of its own: the fixed ACPI registers, and the configuration space in memory, which
/// operating systems use only where it is reserved (PCI firmware specification 3.3, 4.1.2).
fn board_resources() -> Terms {
    let length = (PCI_CONFIGURATION.end - PCI_CONFIGURATION.start) as u32;
    let resources = Resources::new().ports(power::EVENT_PORT, 16).memory(PCI_CONFIGURATION.start as u32, length);
    Terms::new()
        .name("_HID", Terms::new().eisa("PNP0C02"))
        .name("_UID", Terms::new().integer(0))
        .name("_CRS", Terms::new().resources(resources))
}
