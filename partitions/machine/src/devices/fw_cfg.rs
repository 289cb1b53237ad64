//! The firmware configuration device, by which firmware asks the machine what it has (QEMU, docs/specs/fw_cfg).
//!
//! A word written to the selector port chooses an item; each read of the data port gives its next byte. What exists
//! here says how large the machine is, and, as the one file, where its console is. The interface by direct memory
//! access is not offered.

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
    pub const FIRST_FILE: u16 = 0x0020;
}

/// The file by which SeaBIOS learns to show on a serial port what it would show on a screen (its
/// docs/Runtime_config.md).
const FILE: &[u8] = b"etc/sercon-port";
/// What it holds: the port of COM1.
const FILE_CONTENTS: [u8; 2] = 0x3f8u16.to_le_bytes();
/// Bytes of the directory: the count of files, and an entry of 64 bytes.
const DIRECTORY: usize = 4 + 64;
/// Offset of the name in the directory.
const FILE_NAME: usize = 4 + 8;

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
            item::FILES => byte(&directory()),
            item::FIRST_FILE => byte(&FILE_CONTENTS),
            _ => 0,
        }
    }
}

/// The directory, which is big-endian: count; then of each file its size, its key, two bytes reserved, and its name.
fn directory() -> [u8; DIRECTORY] {
    let size = (FILE_CONTENTS.len() as u32).to_be_bytes();
    let fields = 1u32.to_be_bytes().into_iter().chain(size).chain(item::FIRST_FILE.to_be_bytes());
    let mut directory = [0; DIRECTORY];
    for (place, value) in directory.iter_mut().zip(fields) {
        *place = value;
    }
    for (place, value) in directory.iter_mut().skip(FILE_NAME).zip(FILE) {
        *place = *value;
    }
    directory
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
        assert_eq!((item(&mut device, 0x21), item(&mut device, 0x8005)), (0, 0), "not there");
    }

    #[test]
    fn file() {
        let mut device = FirmwareConfiguration::new(1, 1 << 20);
        device.select(0x19);
        let directory = [0; 70].map(|_: u8| device.read());
        assert_eq!(directory[..12], [0, 0, 0, 1, 0, 0, 0, 2, 0, 0x20, 0, 0]);
        assert_eq!(&directory[12..29], b"etc/sercon-port\0\0");
        assert_eq!(item(&mut device, 0x20), 0x3f8);
    }
}
