//! The PCI bus: configuration mechanism 1, the host bridge, and the functions behind it.

use super::message::MsiMessage;
use crate::bus::Width;

/// The two address spaces of PCI base address registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Space {
    /// I/O ports.
    Ports,
    /// Guest-physical memory.
    Memory,
}

/// A place within a function's base address register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BarOffset {
    /// Index of the base address register, 0 to 5.
    pub bar: u8,
    /// Bytes from the start of the window.
    pub offset: u64,
}

/// A PCI function (of type 0) on bus 0. The owner of the bus places it; it decodes its own base address registers.
pub trait PciFunction {
    /// Reads the configuration space at `offset` (a multiple of `width`; `width` is at most 4 bytes).
    fn read_config(&mut self, offset: u8, width: Width) -> u32;

    /// Writes the configuration space at `offset` (a multiple of `width`; `width` is at most 4 bytes).
    fn write_config(&mut self, offset: u8, width: Width, value: u32);

    /// The place in one of this function's windows that `address` falls into, as base address registers and the command
    /// register stand now.
    fn decode(&self, space: Space, address: u64) -> Option<BarOffset>;

    /// Reads from a window, at a place that [`decode`](Self::decode) gave.
    fn read_bar(&mut self, place: BarOffset, width: Width) -> u64;

    /// Writes to a window, at a place that [`decode`](Self::decode) gave.
    fn write_bar(&mut self, place: BarOffset, width: Width, value: u64);

    /// Whether the function asserts its INTx pin (INTA#).
    fn interrupt_asserted(&self) -> bool;

    /// The next message-signalled interrupt to send; asked until there is none.
    fn take_message(&mut self) -> Option<MsiMessage>;
}
