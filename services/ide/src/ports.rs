//! The registers, in the four ranges of ports in which a controller has them.

/// A range of ports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bank {
    /// Command block of the channel: 8 ports (the first channel's at 0x1f0).
    Command,
    /// Control block of the channel: the port of device control and alternate status (the first channel's at 0x3f6).
    Control,
    /// Bus-master registers of the channel: 8 ports.
    BusMaster,
    /// PCI configuration mechanism 1: 8 ports at 0xcf8.
    Configuration,
}

/// Access to ports. A port that is not there reads as all ones, and writes to it are lost, as on the bus.
pub trait Ports {
    /// Reads 8 bits.
    fn read_u8(&self, bank: Bank, offset: u16) -> u8;
    /// Reads 16 bits.
    fn read_u16(&self, bank: Bank, offset: u16) -> u16;
    /// Reads 32 bits.
    fn read_u32(&self, bank: Bank, offset: u16) -> u32;
    /// Writes 8 bits.
    fn write_u8(&self, bank: Bank, offset: u16, value: u8);
    /// Writes 32 bits.
    fn write_u32(&self, bank: Bank, offset: u16, value: u32);
}

/// Registers of the command block, by offset.
pub(crate) mod command_block {
    pub const DATA: u16 = 0;
    pub const SECTOR_COUNT: u16 = 2;
    pub const LBA_LOW: u16 = 3;
    pub const LBA_MID: u16 = 4;
    pub const LBA_HIGH: u16 = 5;
    pub const DEVICE: u16 = 6;
    pub const STATUS_COMMAND: u16 = 7;
}

/// Bits of the status register.
pub(crate) mod status {
    pub const ERROR: u8 = 1 << 0;
    pub const DATA_REQUEST: u8 = 1 << 3;
    pub const DEVICE_FAULT: u8 = 1 << 5;
    pub const BUSY: u8 = 1 << 7;
}

/// Bits of the device-control register.
pub(crate) mod control {
    pub const NO_INTERRUPTS: u8 = 1 << 1;
    pub const SOFT_RESET: u8 = 1 << 2;
}

/// Bus-master registers of a channel and their bits.
pub(crate) mod bus_master {
    pub const COMMAND: u16 = 0;
    pub const STATUS: u16 = 2;
    pub const TABLE: u16 = 4;

    pub const START: u8 = 1 << 0;
    /// The controller writes to memory: the drive is read.
    pub const TO_MEMORY: u8 = 1 << 3;

    pub const ACTIVE: u8 = 1 << 0;
    pub const ERROR: u8 = 1 << 1;
    pub const INTERRUPT: u8 = 1 << 2;
    /// Bits that software only passes on: which drives were set up for DMA.
    pub const DRIVES: u8 = 0x60;
}
