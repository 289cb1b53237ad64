//! The PCI bus: configuration by ports (mechanism 1) and by memory, the host bridge, and the functions behind it.

use alloc::vec::Vec;

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

/// Address register (32 bits).
pub const ADDRESS_PORT: u16 = 0xcf8;
/// First of the four data ports.
pub const DATA_PORT: u16 = 0xcfc;
/// Device numbers on the bus.
const DEVICES: usize = 32;
/// Interrupt requests of INTA# to INTD# of device 0; the next device's pins are rotated by one. They are inputs that 8259A and
/// I/O APIC share, so that one routing serves operating systems that use either.
pub const INTERRUPT_REQUESTS: [u8; 4] = [10, 11, 5, 10];

/// The interrupt request that INTA# of `device` is wired to.
pub const fn interrupt_request(device: usize) -> u8 {
    let [a, b, c, d] = INTERRUPT_REQUESTS;
    match device & 3 {
        0 => a,
        1 => b,
        2 => c,
        _ => d,
    }
}

/// Whether an access `within` bytes from the start of a doubleword is aligned, and so does not cross it.
const fn is_within_doubleword(within: u16, width: Width) -> bool {
    match width {
        Width::Byte => true,
        Width::Word => within & 1 == 0,
        Width::Dword => within == 0,
        Width::Qword => false,
    }
}

/// The host bridge at 00:00.0, with the identity of the i440FX.
#[derive(Clone, Debug)]
struct HostBridge {
    command: u16,
}

impl HostBridge {
    fn read_config(&self, offset: u8, width: Width) -> u32 {
        let register = match offset & !3 {
            0x00 => 0x1237_8086,
            0x04 => u32::from(self.command),
            // Bridge, host; revision 2.
            0x08 => 0x0600_0002,
            0x2c => 0x1100_1af4,
            _ => 0,
        };
        (register >> (8 * u32::from(offset & 3))) & width.mask() as u32
    }

    fn write_config(&mut self, offset: u8, value: u32) {
        if offset == 4 {
            self.command = value as u16 & 0x0147;
        }
    }
}

/// A register of a function's configuration space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Register {
    /// Device number on bus 0; the function is 0.
    device: usize,
    /// Offset, up to 4 KiB: only memory reaches beyond the first 256 bytes.
    offset: u16,
}

/// Bus 0 with its configuration spaces. Function `i` of the list is device `i + 1`, function 0.
#[derive(Clone, Debug)]
pub struct PciBus<F> {
    address: u32,
    bridge: HostBridge,
    functions: Vec<F>,
}

impl<F: PciFunction> PciBus<F> {
    /// A bus with these functions; those beyond the 31st have no device number and are dropped.
    pub fn new(mut functions: Vec<F>) -> Self {
        functions.truncate(DEVICES - 1);
        Self { address: 0, bridge: HostBridge { command: 0x0007 }, functions }
    }

    /// The functions, in the order of their device numbers from 1.
    pub fn functions(&self) -> &[F] {
        &self.functions
    }

    /// The functions, for their owner to tell them news. The machine must be told to look at their interrupts afterwards.
    pub fn functions_mut(&mut self) -> &mut [F] {
        &mut self.functions
    }

    /// Reads the address register.
    pub const fn address(&self) -> u32 {
        self.address
    }

    /// Writes the address register.
    pub const fn set_address(&mut self, value: u32) {
        self.address = value & 0x80ff_fffc;
    }

    /// Reads `width` at `port`, one of the four data ports.
    pub fn read_data(&mut self, port: u16, width: Width) -> u32 {
        self.read_register(self.selected(port, width), width)
    }

    /// Writes `width` at `port`, one of the four data ports. The index of the function that was written, if any.
    pub fn write_data(&mut self, port: u16, width: Width, value: u32) -> Option<usize> {
        self.write_register(self.selected(port, width), width, value)
    }

    /// Reads the configuration space in memory, `offset` bytes from its start.
    #[inline(never)]
    pub fn read_enhanced(&mut self, offset: u64, width: Width) -> u64 {
        match width {
            // The root complex makes two requests of it.
            Width::Qword => {
                let low = self.read_enhanced(offset, Width::Dword);
                low | self.read_enhanced(offset.wrapping_add(4), Width::Dword) << 32
            }
            _ => u64::from(self.read_register(Self::addressed(offset, width), width)),
        }
    }

    /// Writes the configuration space in memory, `offset` bytes from its start. The index of the function that was
    /// written, if any.
    #[inline(never)]
    pub fn write_enhanced(&mut self, offset: u64, width: Width, value: u64) -> Option<usize> {
        match width {
            Width::Qword => {
                self.write_enhanced(offset, Width::Dword, value);
                self.write_enhanced(offset.wrapping_add(4), Width::Dword, value >> 32)
            }
            _ => self.write_register(Self::addressed(offset, width), width, value as u32),
        }
    }

    fn read_register(&mut self, register: Option<Register>, width: Width) -> u32 {
        let absent = width.mask() as u32;
        let Some(Register { device, offset }) = register else {
            return absent;
        };
        let function = match device.checked_sub(1) {
            None => None,
            Some(index) => match self.functions.get_mut(index) {
                Some(function) => Some(function),
                None => return absent,
            },
        };
        match (function, u8::try_from(offset)) {
            // No extended capability: its list begins with its end, all zero (PCI Express 5.0, 7.6.1).
            (_, Err(_)) => 0,
            (None, Ok(offset)) => self.bridge.read_config(offset, width),
            (Some(function), Ok(offset)) => function.read_config(offset, width) & absent,
        }
    }

    fn write_register(&mut self, register: Option<Register>, width: Width, value: u32) -> Option<usize> {
        let Register { device, offset } = register?;
        let offset = u8::try_from(offset).ok()?;
        let Some(index) = device.checked_sub(1) else {
            self.bridge.write_config(offset, value);
            return None;
        };
        self.functions.get_mut(index)?.write_config(offset, width, value & width.mask() as u32);
        Some(index)
    }

    /// What the address register selects, for an access that does not cross a doubleword.
    fn selected(&self, port: u16, width: Width) -> Option<Register> {
        let within = port & 3;
        // Enabled, bus 0, function 0.
        if !is_within_doubleword(within, width) || self.address & 0x80ff_0700 != 0x8000_0000 {
            return None;
        }
        let offset = u16::from(self.address as u8) | within;
        Some(Register { device: (self.address >> 11 & 0x1f) as usize, offset })
    }

    /// What an offset in the configuration space in memory selects: device from bit 15, function from bit 12.
    fn addressed(offset: u64, width: Width) -> Option<Register> {
        let register = (offset & 0xfff) as u16;
        // Bus 0, function 0.
        if offset >= 1 << 20 || offset & 0x7000 != 0 || !is_within_doubleword(register & 3, width) {
            return None;
        }
        Some(Register { device: (offset >> 15) as usize, offset: register })
    }

    /// Reads at an address of `space`; none if no function claims it. Also the index of the function.
    pub fn read(&mut self, space: Space, address: u64, width: Width) -> Option<(usize, u64)> {
        for (index, function) in self.functions.iter_mut().enumerate() {
            if let Some(place) = function.decode(space, address) {
                return Some((index, function.read_bar(place, width) & width.mask()));
            }
        }
        None
    }

    /// Writes at an address of `space`; none if no function claims it, otherwise its index.
    pub fn write(&mut self, space: Space, address: u64, width: Width, value: u64) -> Option<usize> {
        for (index, function) in self.functions.iter_mut().enumerate() {
            if let Some(place) = function.decode(space, address) {
                function.write_bar(place, width, value & width.mask());
                return Some(index);
            }
        }
        None
    }

    /// The interrupt requests that INTx pins assert, as a set of bits.
    pub fn asserted(&self) -> u16 {
        let lines = self.functions.iter().enumerate().filter(|(_, function)| function.interrupt_asserted());
        lines.fold(0, |set, (index, _)| set | 1 << interrupt_request(index + 1))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A function with 32 bytes of configuration space, one port window and one memory window.
    #[derive(Debug, Default)]
    pub(crate) struct Scratch {
        pub(crate) configuration: [u8; 32],
        pub(crate) register: u64,
        pub(crate) line: bool,
        pub(crate) message: Option<MsiMessage>,
    }

    impl PciFunction for Scratch {
        fn read_config(&mut self, offset: u8, width: Width) -> u32 {
            let bytes = (0..width.bytes() as usize).rev();
            bytes.fold(0, |value, byte| {
                value << 8 | u32::from(self.configuration.get(usize::from(offset) + byte).copied().unwrap_or(0))
            })
        }

        fn write_config(&mut self, offset: u8, width: Width, value: u32) {
            for byte in 0..width.bytes() as usize {
                if let Some(place) = self.configuration.get_mut(usize::from(offset) + byte) {
                    *place = (value >> (8 * byte)) as u8;
                }
            }
        }

        fn decode(&self, space: Space, address: u64) -> Option<BarOffset> {
            let start = if space == Space::Ports { 0xc000 } else { 0xe000_0000 };
            let offset = address.checked_sub(start).filter(|offset| *offset < 0x100)?;
            Some(BarOffset { bar: 0, offset })
        }

        fn read_bar(&mut self, place: BarOffset, _: Width) -> u64 {
            self.line = false;
            self.register + place.offset
        }

        fn write_bar(&mut self, place: BarOffset, _: Width, value: u64) {
            self.register = value;
            self.line = place.offset == 8;
        }

        fn interrupt_asserted(&self) -> bool {
            self.line
        }

        fn take_message(&mut self) -> Option<MsiMessage> {
            self.message.take()
        }
    }

    #[test]
    fn enumeration() {
        let mut bus = PciBus::new(alloc::vec![Scratch::default()]);
        assert_eq!(bus.read_data(DATA_PORT, Width::Dword), u32::MAX, "not enabled");
        bus.set_address(0x8000_0000);
        assert_eq!(bus.address(), 0x8000_0000);
        assert_eq!(bus.read_data(DATA_PORT, Width::Dword), 0x1237_8086);
        assert_eq!(bus.read_data(DATA_PORT + 2, Width::Word), 0x1237);
        bus.set_address(0x8000_0008);
        assert_eq!(bus.read_data(DATA_PORT + 3, Width::Byte), 0x06);
        bus.set_address(0x8000_0804);
        assert_eq!(bus.write_data(DATA_PORT + 2, Width::Word, 0xbeef), Some(0));
        assert_eq!(bus.read_data(DATA_PORT, Width::Dword), 0xbeef_0000);
        assert_eq!(bus.read_data(DATA_PORT + 2, Width::Dword), u32::MAX, "crosses the doubleword");
        for absent in [0x8000_0900u32, 0x8000_1000, 0x8001_0000] {
            bus.set_address(absent);
            assert_eq!(bus.read_data(DATA_PORT, Width::Dword), u32::MAX);
        }
    }

    #[test]
    fn configuration_in_memory() {
        let mut bus = PciBus::new(alloc::vec![Scratch::default()]);
        assert_eq!(bus.read_enhanced(0, Width::Dword), 0x1237_8086);
        assert_eq!(bus.read_enhanced(2, Width::Word), 0x1237);
        assert_eq!(bus.read_enhanced(8, Width::Qword) as u32, 0x0600_0002);
        assert_eq!(bus.write_enhanced(0x8006, Width::Word, 0xbeef), Some(0));
        assert_eq!(bus.read_enhanced(0x8004, Width::Dword), 0xbeef_0000);
        assert_eq!(bus.write_enhanced(0x8010, Width::Qword, 0x1_0000_0002), Some(0));
        assert_eq!(bus.read_enhanced(0x8010, Width::Qword), 0x1_0000_0002);
        bus.set_address(0x8000_0804);
        assert_eq!(bus.read_data(DATA_PORT, Width::Dword), 0xbeef_0000, "the same registers");
        for present in [0x100, 0xffc, 0x8100] {
            assert_eq!(bus.read_enhanced(present, Width::Dword), 0, "no extended capabilities");
            assert_eq!(bus.write_enhanced(present, Width::Dword, 7), None);
        }
        for absent in [0x1000, 0x9000, 0x1_0000, 0x1_0100, 0x10_0000, 0x8001] {
            assert_eq!(bus.read_enhanced(absent, Width::Dword), 0xffff_ffff);
        }
    }

    #[test]
    fn windows() {
        let mut bus = PciBus::new(alloc::vec![Scratch::default()]);
        assert_eq!(bus.write(Space::Ports, 0xc008, Width::Dword, 7), Some(0));
        assert_eq!(bus.asserted(), 1 << 11);
        assert_eq!(bus.read(Space::Memory, 0xe000_0001, Width::Dword), Some((0, 8)));
        assert_eq!(bus.asserted(), 0);
        assert_eq!(bus.read(Space::Memory, 0xd000_0001, Width::Dword), None);
    }
}
