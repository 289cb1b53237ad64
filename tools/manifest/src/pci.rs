//! Devices on the PCI bus: the models that emulators have, and how the bus service finds a device.

use crate::{diagnostic::Span, model::Located};
use bulkhead_plan::DeviceSelector;

/// Name of the partition that the compiler adds when a manifest has devices on the PCI bus, of its program, and of its device.
pub(crate) const BUS: &str = "bus";
/// The device of that partition: the ports of configuration space.
pub(crate) const CONFIGURATION: &str = "pci";
/// Message interrupts of a device that does not say how many.
pub(crate) const DEFAULT_VECTORS: u64 = 1;
/// Bytes of the disk of a controller whose manifest does not say how many.
const DEFAULT_DISK: u64 = 64 << 20;

/// A device that `bulkhead run` can put into an emulated machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Model {
    /// A SATA controller with one disk.
    Ahci,
    /// An NVMe controller with one namespace.
    Nvme,
    /// A network card of Intel's, 82540EM.
    E1000,
    /// A network card of Intel's, 82574L.
    E1000e,
    /// A virtio disk.
    VirtioBlk,
    /// A virtio network card.
    VirtioNet,
    /// QEMU's device for teaching: it copies between memory and a buffer of its own.
    Edu,
}

impl Model {
    /// Every model.
    pub const ALL: [Self; 7] =
        [Self::Ahci, Self::Nvme, Self::E1000, Self::E1000e, Self::VirtioBlk, Self::VirtioNet, Self::Edu];

    /// Its name in manifests.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ahci => "ahci",
            Self::Nvme => "nvme",
            Self::E1000 => "e1000",
            Self::E1000e => "e1000e",
            Self::VirtioBlk => "virtio-blk",
            Self::VirtioNet => "virtio-net",
            Self::Edu => "edu",
        }
    }

    /// Whether it has a disk.
    pub const fn has_disk(self) -> bool {
        matches!(self, Self::Ahci | Self::Nvme | Self::VirtioBlk)
    }

    /// Whether it is a network card.
    pub const fn has_network(self) -> bool {
        matches!(self, Self::E1000 | Self::E1000e | Self::VirtioNet)
    }

    /// The model of this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|model| model.name() == name)
    }

    /// How the bus service finds it: by class where a driver serves any of the class, else by vendor and device. Virtio devices
    /// have two numbers: transitional and modern (virtio 1.3, 4.1.2).
    pub(crate) const fn selector(self) -> (DeviceSelector, [u32; 2]) {
        match self {
            Self::Ahci => (DeviceSelector::Class, [CLASS_AHCI, 0]),
            Self::Nvme => (DeviceSelector::Class, [CLASS_NVME, 0]),
            Self::E1000 => (DeviceSelector::Identifier, [0x100e_8086; 2]),
            Self::E1000e => (DeviceSelector::Identifier, [0x10d3_8086; 2]),
            Self::VirtioBlk => (DeviceSelector::Identifier, [0x1001_1af4, 0x1042_1af4]),
            Self::VirtioNet => (DeviceSelector::Identifier, [0x1000_1af4, 0x1041_1af4]),
            Self::Edu => (DeviceSelector::Identifier, [0x11e8_1234; 2]),
        }
    }
}

/// SATA controllers with AHCI, NVMe controllers, Ethernet controllers (PCI Code and ID Assignment Specification 1.11).
const CLASS_AHCI: u32 = 0x01_06_01;
const CLASS_NVME: u32 = 0x01_08_02;
const CLASS_ETHERNET: u32 = 0x02_00_00;

/// The class of network cards.
const ETHERNET: &str = "ethernet";
/// Classes by the names that manifests use.
pub(crate) const CLASSES: [(&str, u32); 3] = [("ahci", CLASS_AHCI), ("nvme", CLASS_NVME), (ETHERNET, CLASS_ETHERNET)];

/// `pci = { ... }`, as it stands in the manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Selection {
    pub(crate) span: Span,
    pub(crate) vendor: Option<Located<u64>>,
    pub(crate) device: Option<Located<u64>>,
    pub(crate) class: Option<Located<String>>,
    pub(crate) address: Option<Located<String>>,
}

/// What makes a device one on the PCI bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PciDevice {
    pub(crate) model: Option<Located<String>>,
    pub(crate) selection: Option<Selection>,
    pub(crate) vectors: Located<u64>,
    pub(crate) disk: Option<Located<u64>>,
}

impl PciDevice {
    /// Its model, if it names one that there is.
    pub(crate) fn known_model(&self) -> Option<Model> {
        Model::named(&self.model.as_ref()?.value)
    }

    /// Bytes of its disk, if its model has one.
    pub(crate) fn disk_bytes(&self) -> Option<u64> {
        let has_disk = self.known_model().is_some_and(Model::has_disk);
        has_disk.then(|| self.disk.as_ref().map_or(DEFAULT_DISK, |disk| disk.value))
    }

    /// Whether it may be the controller of a disk, as far as the manifest says.
    pub(crate) fn may_have_disk(&self) -> bool {
        match (&self.model, &self.selection) {
            (Some(_), _) => self.known_model().is_none_or(Model::has_disk),
            (None, Some(selection)) => selection.class.as_ref().is_none_or(|class| class.value != ETHERNET),
            (None, None) => false,
        }
    }

    /// How the bus service finds it; `None` if what the manifest says is wrong.
    pub(crate) fn selector(&self) -> Option<(DeviceSelector, [u32; 2])> {
        self.known_model().map(Model::selector).or_else(|| self.selection.as_ref()?.selector())
    }
}

impl Selection {
    /// How the bus service finds it; `None` unless exactly one way is described, and with possible values.
    pub(crate) fn selector(&self) -> Option<(DeviceSelector, [u32; 2])> {
        match (&self.vendor, &self.device, &self.class, &self.address) {
            (Some(vendor), Some(device), None, None) => {
                let (vendor, device) = (u16::try_from(vendor.value).ok()?, u16::try_from(device.value).ok()?);
                Some((DeviceSelector::Identifier, [u32::from(vendor) | u32::from(device) << 16; 2]))
            }
            (None, None, Some(class), None) => {
                let (_, class) = CLASSES.iter().find(|(name, _)| *name == class.value)?;
                Some((DeviceSelector::Class, [*class, 0]))
            }
            (None, None, None, Some(address)) => Some((DeviceSelector::Address, [parse_address(&address.value)?, 0])),
            _ => None,
        }
    }
}

/// `"00:03.0"`: bus, device and function in hexadecimal, as bus << 8 | device << 3 | function.
pub(crate) fn parse_address(text: &str) -> Option<u32> {
    let (bus, rest) = text.split_once(':')?;
    let (device, function) = rest.split_once('.')?;
    let number = |text: &str, digits: usize, most: u32| {
        let is_plain = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        u32::from_str_radix(text, 16).ok().filter(|number| is_plain && *number <= most)
    };
    Some(number(bus, 2, 0xff)? << 8 | number(device, 2, 31)? << 3 | number(function, 1, 7)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        assert_eq!(parse_address("00:03.0"), Some(0x18));
        assert_eq!(parse_address("ff:1f.7"), Some(0xffff));
        for wrong in ["", "0:3.0", "00:20.0", "00:03.8", "00:03", "00:+3.0", "0000:00:03.0"] {
            assert_eq!(parse_address(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn models_are_known_by_their_names() {
        for model in Model::ALL {
            assert_eq!(Model::named(model.name()), Some(model));
        }
        assert_eq!(Model::named("rtl8139"), None);
    }
}
