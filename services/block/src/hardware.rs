//! The controller's ports, as the driver wants to see them.

use bulkhead_ide::{Bank, Ports};
use bulkhead_runtime::Program;
use bulkhead_runtime::ports::PortRange;

/// First port of the first channel's command block.
const COMMAND_BLOCK: u16 = 0x1f0;
/// The first channel's port of device control and alternate status.
const CONTROL: u16 = 0x3f6;
/// First port of PCI configuration mechanism 1.
const CONFIGURATION: u16 = 0xcf8;

/// The controller's port ranges, told apart by where they are: those of an IDE channel are fixed (PCI IDE Controller 1.0, 2.1).
pub struct IdePorts {
    device: &'static str,
    command: Option<(PortRange, u16)>,
    control: Option<(PortRange, u16)>,
    bus_master: Option<PortRange>,
    configuration: Option<(PortRange, u16)>,
}

/// A range that holds a port, with the port's offset in it.
fn holding(range: PortRange, port: u16) -> Option<(PortRange, u16)> {
    let offset = port.checked_sub(range.base())?;
    (u32::from(offset) < range.count()).then_some((range, offset))
}

impl IdePorts {
    /// The ranges that the environment names.
    pub fn new(program: &Program) -> Self {
        let mut ports = Self { device: "", command: None, control: None, bus_master: None, configuration: None };
        for entry in program.environment().ports() {
            let Some(range) = program.ports(entry.name, entry.index) else {
                continue;
            };
            if let Some(found) = holding(range, COMMAND_BLOCK) {
                (ports.command, ports.device) = (Some(found), entry.name);
            } else if let Some(found) = holding(range, CONTROL) {
                ports.control = Some(found);
            } else if let Some(found) = holding(range, CONFIGURATION) {
                ports.configuration = Some(found);
            } else {
                ports.bus_master = Some(range);
            }
        }
        ports
    }

    /// Name of the device; empty if there is none.
    pub fn device(&self) -> &'static str {
        self.device
    }

    /// Where the bus-master registers are wanted, if that can be configured.
    pub fn configurable(&self) -> Option<u16> {
        self.configuration?;
        Some(self.bus_master?.base())
    }

    /// The range of a bank, and the offset in it.
    fn find(&self, bank: Bank, offset: u16) -> Option<(PortRange, u16)> {
        let (range, start) = match bank {
            Bank::Command => self.command?,
            Bank::Control => self.control?,
            Bank::BusMaster => (self.bus_master?, 0),
            Bank::Configuration => self.configuration?,
        };
        Some((range, start.checked_add(offset)?))
    }
}

impl Ports for IdePorts {
    fn read_u8(&self, bank: Bank, offset: u16) -> u8 {
        self.find(bank, offset).and_then(|(range, at)| range.read_u8(at).ok()).unwrap_or(u8::MAX)
    }

    fn read_u16(&self, bank: Bank, offset: u16) -> u16 {
        self.find(bank, offset).and_then(|(range, at)| range.read_u16(at).ok()).unwrap_or(u16::MAX)
    }

    fn read_u32(&self, bank: Bank, offset: u16) -> u32 {
        self.find(bank, offset).and_then(|(range, at)| range.read_u32(at).ok()).unwrap_or(u32::MAX)
    }

    fn write_u8(&self, bank: Bank, offset: u16, value: u8) {
        if let Some((range, at)) = self.find(bank, offset) {
            let _ = range.write_u8(at, value);
        }
    }

    fn write_u32(&self, bank: Bank, offset: u16, value: u32) {
        if let Some((range, at)) = self.find(bank, offset) {
            let _ = range.write_u32(at, value);
        }
    }
}
