//! Finding an IDE controller by PCI configuration mechanism 1, and making it ready for bus mastering.

use crate::{Bank, Ports};

const ADDRESS: u16 = 0;
const DATA: u16 = 4;
const ENABLE: u32 = 1 << 31;

const REGISTER_ID: u8 = 0x00;
const REGISTER_COMMAND: u8 = 0x04;
const REGISTER_CLASS: u8 = 0x08;
const REGISTER_HEADER: u8 = 0x0c;
const REGISTER_BUS_MASTER: u8 = 0x20;

const COMMAND_IO: u32 = 1 << 0;
const COMMAND_BUS_MASTER: u32 = 1 << 2;
/// The upper half is the status register, whose bits are cleared by writing 1.
const COMMAND_MASK: u32 = 0xffff;

const CLASS_IDE: u32 = 0x0101;
const INTERFACE_NATIVE_FIRST: u8 = 1 << 0;
const INTERFACE_BUS_MASTER: u8 = 1 << 7;

/// A function in configuration space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Function {
    /// Bus.
    pub bus: u8,
    /// Device, below 32.
    pub device: u8,
    /// Function, below 8.
    pub function: u8,
}

/// Why a controller cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PciError {
    /// There is no IDE controller.
    NotFound,
    /// The controller cannot master the bus.
    NoBusMaster,
    /// The first channel does not use the ports 0x1f0 and 0x3f6.
    NativeMode,
    /// The bus-master registers could not be put where they are wanted.
    BusMasterBase {
        /// The base register's content instead.
        found: u32,
    },
}

impl Function {
    fn select(self, ports: &impl Ports, register: u8) {
        let address = ENABLE
            | u32::from(self.bus) << 16
            | u32::from(self.device) << 11
            | u32::from(self.function) << 8
            | u32::from(register & 0xfc);
        ports.write_u32(Bank::Configuration, ADDRESS, address);
    }

    fn read(self, ports: &impl Ports, register: u8) -> u32 {
        self.select(ports, register);
        ports.read_u32(Bank::Configuration, DATA)
    }

    fn write(self, ports: &impl Ports, register: u8, value: u32) {
        self.select(ports, register);
        ports.write_u32(Bank::Configuration, DATA, value);
    }

    fn exists(self, ports: &impl Ports) -> bool {
        self.read(ports, REGISTER_ID) as u16 != u16::MAX
    }
}

/// The first IDE controller on the buses.
pub fn find(ports: &impl Ports) -> Result<Function, PciError> {
    for bus in 0..=u8::MAX {
        for device in 0..32 {
            let first = Function { bus, device, function: 0 };
            if !first.exists(ports) {
                continue;
            }
            let several = first.read(ports, REGISTER_HEADER) & 0x80_0000 != 0;
            for function in 0..if several { 8 } else { 1 } {
                let candidate = Function { function, ..first };
                if candidate.exists(ports) && candidate.read(ports, REGISTER_CLASS) >> 16 == CLASS_IDE {
                    return Ok(candidate);
                }
            }
        }
    }
    Err(PciError::NotFound)
}

/// Puts the bus-master registers at port `base` (a multiple of 16) and lets the controller decode ports and master the bus.
pub fn enable(ports: &impl Ports, controller: Function, base: u16) -> Result<(), PciError> {
    let interface = (controller.read(ports, REGISTER_CLASS) >> 8) as u8;
    if interface & INTERFACE_BUS_MASTER == 0 {
        return Err(PciError::NoBusMaster);
    }
    if interface & INTERFACE_NATIVE_FIRST != 0 {
        return Err(PciError::NativeMode);
    }
    let wanted = u32::from(base) | 1;
    if controller.read(ports, REGISTER_BUS_MASTER) != wanted {
        controller.write(ports, REGISTER_BUS_MASTER, wanted);
        let found = controller.read(ports, REGISTER_BUS_MASTER);
        if found != wanted {
            return Err(PciError::BusMasterBase { found });
        }
    }
    let command = controller.read(ports, REGISTER_COMMAND) & COMMAND_MASK;
    controller.write(ports, REGISTER_COMMAND, command | COMMAND_IO | COMMAND_BUS_MASTER);
    Ok(())
}
