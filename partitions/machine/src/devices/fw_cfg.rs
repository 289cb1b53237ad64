//! The firmware configuration device, by which firmware asks the machine what it has (QEMU, docs/specs/fw_cfg).
//!
//! A word written to the selector port chooses an item; each read of the data port gives its next byte. Only what says how large
//! the machine is exists here, and an empty directory of files. The interface by direct memory access is not offered.

/// Selector register, 16 bits, write-only.
pub const SELECTOR_PORT: u16 = 0x510;
/// Data register, 8 bits.
pub const DATA_PORT: u16 = 0x511;

/// Keys of items.
mod item {
    pub const SIGNATURE: u16 = 0x0000;
    pub const REVISION: u16 = 0x0001;
    pub const MEMORY: u16 = 0x0003;
    pub const PROCESSORS: u16 = 0x0005;
    pub const MOST_PROCESSORS: u16 = 0x000f;
    pub const FILES: u16 = 0x0019;
}

/// Bit of a key: open the item for writing. The data port takes no writes, so that it makes no difference.
const WRITE: u16 = 1 << 14;
/// Bit of the revision item: the interface by ports.
const BY_PORTS: u32 = 1 << 0;

/// The device.
#[derive(Clone, Debug)]
pub struct FirmwareConfiguration {
    processors: u16,
    memory: u64,
    /// Key of the chosen item.
    selected: u16,
    /// Bytes of it that were read.
    position: usize,
}

impl FirmwareConfiguration {
    /// The device of a machine with so many processors and bytes of RAM.
    pub const fn new(processors: u16, memory: u64) -> Self {
        Self { processors, memory, selected: item::SIGNATURE, position: 0 }
    }

    /// Writes the selector register.
    pub const fn select(&mut self, key: u16) {
        self.selected = key & !WRITE;
        self.position = 0;
    }

    /// Reads the data register: the next byte of the item, 0 behind its end and for items that are not there.
    pub fn read(&mut self) -> u8 {
        let position = self.position;
        self.position = position.saturating_add(1);
        let byte = |bytes: &[u8]| bytes.get(position).copied().unwrap_or(0);
        match self.selected {
            item::SIGNATURE => byte(b"QEMU"),
            item::REVISION => byte(&BY_PORTS.to_le_bytes()),
            item::MEMORY => byte(&self.memory.to_le_bytes()),
            item::PROCESSORS | item::MOST_PROCESSORS => byte(&self.processors.to_le_bytes()),
            // The count of files, which are none.
            item::FILES => byte(&0u32.to_be_bytes()),
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(device: &mut FirmwareConfiguration, key: u16) -> u64 {
        device.select(key);
        u64::from_le_bytes([0; 8].map(|_: u8| device.read()))
    }

    #[test]
    fn items() {
        let mut device = FirmwareConfiguration::new(3, 0x1_8000_0000);
        assert_eq!(device.read(), b'Q', "the signature is chosen after reset");
        assert_eq!(item(&mut device, 0).to_le_bytes(), *b"QEMU\0\0\0\0");
        assert_eq!(item(&mut device, 1), 1, "by ports, not by direct memory access");
        assert_eq!(item(&mut device, 3), 0x1_8000_0000);
        assert_eq!((item(&mut device, 5), item(&mut device, 0x0f)), (3, 3));
        assert_eq!(item(&mut device, 0x4005), 3, "for writing");
        assert_eq!(item(&mut device, 0x19), 0);
        assert_eq!((item(&mut device, 0x20), item(&mut device, 0x8005)), (0, 0), "not there");
    }
}
