//! The PCI configuration space of a virtio function (PCI Local Bus Specification 3.0, chapter 6; virtio 1.2, 4.1).
//!
//! | offset | capability |
//! | --- | --- |
//! | 0x40 | MSI-X |
//! | 0x50 | common configuration |
//! | 0x60 | ISR status |
//! | 0x70 | device-specific configuration |
//! | 0x80 | notification |
//! | 0x94 | access through configuration space |

use super::common;
use super::msix::{MSIX_VECTORS, PENDING_SIZE, TABLE_SIZE};

/// Vendor of virtio functions.
const VENDOR: u32 = 0x1af4;
/// Device number of a virtio function of type 0 without the legacy interface.
const FIRST_DEVICE: u32 = 0x1040;

/// Base address register of the notification ports.
pub const PORT_BAR: u8 = 0;
/// Base address register of everything else.
pub const MEMORY_BAR: u8 = 1;
/// Bytes of the memory window.
pub const MEMORY_SIZE: u32 = 0x4000;

/// Offsets in the memory window; each structure has a page or half of one.
pub mod window {
    pub const COMMON: u64 = 0x0000;
    pub const ISR: u64 = 0x1000;
    pub const DEVICE: u64 = 0x2000;
    pub const TABLE: u64 = 0x3000;
    pub const PENDING: u64 = 0x3800;
}

/// Command-register bits.
pub mod command {
    pub const PORTS: u16 = 1 << 0;
    pub const MEMORY: u16 = 1 << 1;
    pub const INTERRUPT_DISABLE: u16 = 1 << 10;
    /// Ports, memory, bus master, parity response, SERR#, interrupt disable.
    pub const WRITABLE: u16 = 0x0547;
}

pub const MSIX: u8 = 0x40;
pub const COMMON: u8 = 0x50;
const ISR: u8 = 0x60;
const DEVICE: u8 = 0x70;
const NOTIFY: u8 = 0x80;
pub const ACCESS: u8 = 0x94;
/// `pci_cfg_data` of the access capability.
pub const ACCESS_DATA: u8 = ACCESS + 16;

/// What is fixed in a function's configuration space.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    pub device_type: u16,
    pub class: u32,
    pub device_configuration: u32,
    /// Bytes of the port window.
    pub port_size: u32,
    pub notify_multiplier: u32,
}

/// A virtio vendor capability's first double word.
const fn vendor_capability(kind: u32, length: u32, next: u8) -> u32 {
    0x09 | (next as u32) << 8 | length << 16 | kind << 24
}

/// The registers whose value never changes; those of the header and of the capabilities that the driver writes read as 0.
pub fn fixed(identity: &Identity, offset: u8) -> u32 {
    let window = u32::from(MEMORY_BAR);
    match offset {
        0x00 => VENDOR | (FIRST_DEVICE + u32::from(identity.device_type)) << 16,
        // Revision 1: without the legacy interface (4.1.2.1).
        0x08 => identity.class << 8 | 1,
        0x2c => VENDOR | (FIRST_DEVICE + u32::from(identity.device_type)) << 16,
        0x34 => MSIX.into(),
        0x44 => window::TABLE as u32 | window,
        0x48 => window::PENDING as u32 | window,
        0x50 => vendor_capability(1, 16, ISR),
        0x60 => vendor_capability(3, 16, DEVICE),
        0x70 => vendor_capability(4, 16, NOTIFY),
        0x80 => vendor_capability(2, 20, ACCESS),
        0x94 => vendor_capability(5, 20, 0),
        0x54 | 0x64 | 0x74 => window,
        0x84 => PORT_BAR.into(),
        0x58 => window::COMMON as u32,
        0x5c => common::SIZE as u32,
        0x68 => window::ISR as u32,
        0x6c => 1,
        0x78 => window::DEVICE as u32,
        0x7c => identity.device_configuration,
        0x8c => identity.port_size,
        0x90 => identity.notify_multiplier,
        _ => 0,
    }
}

const _: () = assert!(TABLE_SIZE <= window::PENDING - window::TABLE && PENDING_SIZE <= 0x800);
const _: () = assert!(MSIX_VECTORS <= 16, "pending bits are kept in 16 bits");
