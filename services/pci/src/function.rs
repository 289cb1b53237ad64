//! Functions, their addresses, and the first registers of their configuration space (PCI Local Bus Specification 3.0, 6.1 and 6.2).

use core::fmt;

/// Where a function is: bus << 8 | device << 3 | function.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Address(pub u16);

impl Address {
    /// Bus.
    pub const fn bus(self) -> u8 {
        (self.0 >> 8) as u8
    }

    /// Device, 0 to 31.
    pub const fn device(self) -> u8 {
        (self.0 >> 3) as u8 & 31
    }

    /// Function, 0 to 7.
    pub const fn function(self) -> u8 {
        self.0 as u8 & 7
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}:{:02x}.{}", self.bus(), self.device(), self.function())
    }
}

/// Access to the configuration space of every function. `register` is a byte offset, a multiple of 4.
pub trait ConfigurationSpace {
    /// Reads 32 bits: all ones where there is no function.
    fn read(&self, function: Address, register: u8) -> u32;
    /// Writes 32 bits.
    fn write(&self, function: Address, register: u8, value: u32);
}

const IDENTIFIER: u8 = 0x00;
/// Command in the lower half; status in the upper one, whose bits are cleared by writing 1.
const COMMAND: u8 = 0x04;
const CLASS: u8 = 0x08;
const HEADER: u8 = 0x0c;

const COMMAND_MASK: u32 = 0xffff;
/// Bits of the command register.
pub const COMMAND_PORTS: u32 = 1 << 0;
/// The function answers to its memory BARs.
pub const COMMAND_MEMORY: u32 = 1 << 1;
/// The function may master the bus: DMA and messages.
pub const COMMAND_BUS_MASTER: u32 = 1 << 2;
/// The function must not use its interrupt pin.
pub const COMMAND_NO_PIN: u32 = 1 << 10;

/// Class and subclass of IDE controllers, whose two channels have lines of the interrupt controllers of their own.
const CLASS_IDE: u32 = 0x0101;
/// Class of bridges.
const CLASS_BRIDGE: u32 = 0x06;

/// What a function says it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// Where it is.
    pub address: Address,
    /// Vendor | device << 16.
    pub identifier: u32,
    /// Class << 16 | subclass << 8 | programming interface.
    pub class: u32,
    /// Layout of the header, without the bit for further functions: 0 for devices.
    pub layout: u8,
    /// The device may have further functions.
    pub has_siblings: bool,
}

impl Identity {
    /// The function at an address, if there is one.
    pub fn read(space: &impl ConfigurationSpace, address: Address) -> Option<Self> {
        let identifier = space.read(address, IDENTIFIER);
        if identifier as u16 == u16::MAX {
            return None;
        }
        let header = (space.read(address, HEADER) >> 16) as u8;
        let class = space.read(address, CLASS) >> 8;
        Some(Self { address, identifier, class, layout: header & 0x7f, has_siblings: header & 0x80 != 0 })
    }

    /// Whether it leads to other buses, or belongs to the chipset.
    pub const fn is_bridge(&self) -> bool {
        self.class >> 16 == CLASS_BRIDGE || self.layout != 0
    }

    /// Whether its interrupts are not those of a pin of the bus.
    pub const fn is_ide(&self) -> bool {
        self.class >> 8 == CLASS_IDE
    }
}

/// The command register.
pub fn command(space: &impl ConfigurationSpace, function: Address) -> u32 {
    space.read(function, COMMAND) & COMMAND_MASK
}

/// Sets and clears bits of the command register; the status register stays as it is.
pub fn change_command(space: &impl ConfigurationSpace, function: Address, set: u32, clear: u32) {
    space.write(function, COMMAND, (command(space, function) & !clear | set) & COMMAND_MASK);
}

/// The status register.
pub fn status(space: &impl ConfigurationSpace, function: Address) -> u16 {
    (space.read(function, COMMAND) >> 16) as u16
}

/// Line in the lowest byte, as firmware routed it; pin in the next one, 0 for none.
const INTERRUPT: u8 = 0x3c;

/// The interrupt line of the 16 of the ISA that firmware has routed a function's pin to; `None` without a pin or a line.
pub fn interrupt_line(space: &impl ConfigurationSpace, function: Address) -> Option<u8> {
    let [line, pin, ..] = space.read(function, INTERRUPT).to_le_bytes();
    ((1..=4).contains(&pin) && (1..=15).contains(&line)).then_some(line)
}

/// Keeps a function from mastering the bus and, unless it is an IDE controller, from using its interrupt pin. Bridges are let be:
/// what is behind them may be in use.
pub fn silence(space: &impl ConfigurationSpace, identity: &Identity) {
    if !identity.is_bridge() {
        let pin = if identity.is_ide() { 0 } else { COMMAND_NO_PIN };
        change_command(space, identity.address, pin, COMMAND_BUS_MASTER);
    }
}
