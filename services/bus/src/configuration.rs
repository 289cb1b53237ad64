//! The two ways to configuration space: in memory, where the machine has it there, and by the ports of mechanism 1.

use bulkhead_pci::{Address, ConfigurationSpace};
use bulkhead_runtime::Program;
use bulkhead_runtime::device::DeviceRegisters;
use bulkhead_runtime::driver::Registers;
use bulkhead_runtime::ports::PortRange;

/// Name of the device with the ports.
const DEVICE: &str = "pci";
/// Configuration mechanism 1 (PCI Local Bus Specification 3.0, 3.2.2.3.2): what to read or write, and its value.
const SELECT: u16 = 0;
const DATA: u16 = 4;
const ENABLE: u32 = 1 << 31;
/// Bytes of a function's configuration space in memory, as a power of two (PCI Express Base Specification 3.0, 7.2.2).
const FUNCTION_SHIFT: u32 = 12;

/// Configuration space.
pub struct Configuration {
    ports: PortRange,
    memory: Option<(DeviceRegisters, u8)>,
}

impl Configuration {
    /// What the program's environment names.
    pub fn new(program: &Program) -> Option<Self> {
        let ports = program.ports(DEVICE, 0).filter(|ports| ports.count() == 8)?;
        Some(Self { ports, memory: program.configuration_space() })
    }

    /// Whether there is one in memory.
    pub fn is_in_memory(&self) -> bool {
        self.memory.is_some()
    }

    /// A register in memory, if its bus is there.
    fn in_memory(&self, function: Address, register: u8) -> Option<(DeviceRegisters, u32)> {
        let (memory, first_bus) = self.memory?;
        let bus = function.bus().checked_sub(first_bus)?;
        let place = u32::from(bus) << 8 | u32::from(function.0 & 0xff);
        let offset = place << FUNCTION_SHIFT | u32::from(register & !3);
        (offset < memory.len()).then_some((memory, offset))
    }

    fn select(&self, function: Address, register: u8) {
        let value = ENABLE | u32::from(function.0) << 8 | u32::from(register & !3);
        // There are eight ports, see `new`; so for the data.
        let _ = self.ports.write_u32(SELECT, value);
    }
}

impl ConfigurationSpace for Configuration {
    fn read(&self, function: Address, register: u8) -> u32 {
        if let Some((memory, offset)) = self.in_memory(function, register) {
            return memory.read_u32(offset);
        }
        self.select(function, register);
        self.ports.read_u32(DATA).unwrap_or(u32::MAX)
    }

    fn write(&self, function: Address, register: u8, value: u32) {
        if let Some((memory, offset)) = self.in_memory(function, register) {
            return memory.write_u32(offset, value);
        }
        self.select(function, register);
        let _ = self.ports.write_u32(DATA, value);
    }
}
