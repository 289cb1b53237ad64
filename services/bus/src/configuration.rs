//! PCI configuration mechanism 1 (PCI Local Bus Specification 3.0, 3.2.2.3.2).

use bulkhead_pci::{Address, ConfigurationSpace};
use bulkhead_runtime::Program;
use bulkhead_runtime::ports::PortRange;

/// Name of the device with the ports.
const DEVICE: &str = "pci";
const SELECT: u16 = 0;
const DATA: u16 = 4;
const ENABLE: u32 = 1 << 31;

/// The two registers, at port 0xcf8.
pub struct Mechanism1(PortRange);

impl Mechanism1 {
    /// The ports of the program's environment.
    pub fn new(program: &Program) -> Option<Self> {
        program.ports(DEVICE, 0).filter(|ports| ports.count() == 8).map(Self)
    }

    fn select(&self, function: Address, register: u8) {
        let value = ENABLE | u32::from(function.0) << 8 | u32::from(register & !3);
        // There are eight ports, see `new`; so for the data.
        let _ = self.0.write_u32(SELECT, value);
    }
}

impl ConfigurationSpace for Mechanism1 {
    fn read(&self, function: Address, register: u8) -> u32 {
        self.select(function, register);
        self.0.read_u32(DATA).unwrap_or(u32::MAX)
    }

    fn write(&self, function: Address, register: u8, value: u32) {
        self.select(function, register);
        let _ = self.0.write_u32(DATA, value);
    }
}
