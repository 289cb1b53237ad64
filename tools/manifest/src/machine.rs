//! The devices of a PC by their logical names, as far as manifests may hand them out.

use crate::{
    diagnostic::Span,
    pci::{CONFIGURATION, PciDevice},
};

/// A range of I/O ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PortRange {
    pub(crate) first: u64,
    pub(crate) count: u64,
}

/// An interrupt line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InterruptLine {
    pub(crate) line: u64,
    pub(crate) level: bool,
    pub(crate) active_low: bool,
}

/// A device: the ports and interrupts that its owner gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) name: String,
    pub(crate) ports: Vec<PortRange>,
    pub(crate) interrupts: Vec<InterruptLine>,
    /// What is said of a device on the PCI bus, whose ports and interrupts are found there.
    pub(crate) pci: Option<PciDevice>,
    /// Where the manifest describes it; none for a built-in one.
    pub(crate) span: Option<Span>,
}

/// Bytes of a disk's sector.
pub(crate) const SECTOR: u64 = 512;

/// The IDE controllers: they master the bus, as no other device with fixed ports does.
pub(crate) const IDE: [&str; 2] = ["ide0", "ide1"];

/// PCI configuration mechanism 1 (PCI Local Bus Specification 3.0, 3.2.2.3.2).
const PCI_CONFIGURATION: PortRange = PortRange { first: 0xcf8, count: 8 };

/// The devices that every PC has. `bus_master` below is where the driver of the IDE controller puts BAR 4.
pub(crate) fn built_in() -> Vec<Device> {
    let edge = |line| InterruptLine { line, level: false, active_low: false };
    let ports = |first, count| PortRange { first, count };
    let device =
        |name: &str, ports, interrupts| Device { name: name.to_owned(), ports, interrupts, pci: None, span: None };
    let bus_master = |channel: u64| ports(0xf000 + 8 * channel, 8);
    vec![
        device("com1", vec![ports(0x3f8, 8)], vec![edge(4)]),
        device("com2", vec![ports(0x2f8, 8)], vec![edge(3)]),
        device("ide0", vec![ports(0x1f0, 8), ports(0x3f6, 1), bus_master(0), PCI_CONFIGURATION], vec![edge(14)]),
        device("ide1", vec![ports(0x170, 8), ports(0x376, 1), bus_master(1), PCI_CONFIGURATION], vec![edge(15)]),
        device(CONFIGURATION, vec![PCI_CONFIGURATION], Vec::new()),
        device("power", vec![ports(0x604, 2), ports(0xb004, 2), ports(0x8900, 1)], Vec::new()),
    ]
}

/// Whether two devices may both have this range: it only selects, it does not belong to either.
pub(crate) fn is_shared(range: PortRange) -> bool {
    range == PCI_CONFIGURATION
}
