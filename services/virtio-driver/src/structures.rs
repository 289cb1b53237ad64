//! Where a device has its structures (virtio 1.2, 4.1.4).

use bulkhead_plan::VirtioStructures;

/// Identifier of vendor-specific capabilities (PCI 3.0, appendix H).
const VENDOR: u8 = 9;
/// Capabilities come behind the header.
const FIRST: u8 = 0x40;
/// So many capabilities of 4 bytes have room: a list that is longer has a loop.
const MOST: usize = (0x100 - FIRST as usize) / 4;
/// Bytes of a capability, and of one with the multiplier (4.1.4, 4.1.4.4).
const CAPABILITY_BYTES: u8 = 16;
const NOTIFY_BYTES: u8 = 20;
/// Base address registers of a function.
const BARS: u8 = 6;

/// Kinds of structures: `cfg_type` (4.1.4).
const COMMON: u8 = 1;
const NOTIFY: u8 = 2;
const ISR: u8 = 3;
const DEVICE: u8 = 4;

/// Bytes of the common structure up to `queue_device`, its last field that every device has (4.1.4.3).
const COMMON_BYTES: u32 = 0x38;

/// A range of a BAR.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Number of the BAR, 0 to 5.
    pub bar: u8,
    /// First byte.
    pub offset: u32,
    /// Bytes.
    pub length: u32,
}

impl Place {
    /// At least `bytes` of it, at a multiple of `alignment`, lie in the first `window` bytes of the BAR.
    fn fits(&self, window: u32, alignment: u32, bytes: u32) -> bool {
        let end = self.offset.checked_add(self.length);
        end.is_some_and(|end| end <= window) && self.offset.is_multiple_of(alignment) && self.length >= bytes
    }
}

/// The structures of a device, all in one BAR, whose registers the driver gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Structures {
    /// Common configuration (4.1.4.3).
    pub common: Place,
    /// Doorbells (4.1.4.4).
    pub notify: Place,
    /// Bytes between the doorbells of two numbers, a power of two, or 0.
    pub notify_multiplier: u32,
    /// Interrupt status (4.1.4.5), which is of no use with MSI-X.
    pub isr: Option<Place>,
    /// Device-specific configuration (4.1.4.6).
    pub device: Place,
}

impl From<VirtioStructures<'_>> for Structures {
    /// Those that the bus service has found: in one BAR, without the interrupt status.
    fn from(found: VirtioStructures<'_>) -> Self {
        let place = |(offset, length)| Place { bar: found.bar, offset, length };
        let (common, notify, device) = (place(found.common), place(found.notify), place(found.device));
        Self { common, notify, notify_multiplier: found.notify_multiplier, isr: None, device }
    }
}

impl Structures {
    /// Finds the structures in a function's list of capabilities. `read` reads 32 bits of the configuration space, at a multiple of
    /// 4; the list begins at `first_capability`. `None` if one is missing. Of several of a kind it is the first, which is the one
    /// that the device prefers (4.1.4.1).
    pub fn parse(read: impl Fn(u8) -> u32, first_capability: u8) -> Option<Self> {
        let (mut common, mut notify, mut isr, mut device) = (None, None, None, None);
        let mut at = first_capability & !3;
        for _ in 0..MOST {
            if at < FIRST {
                break;
            }
            let head = read(at);
            let [identifier, next, length, kind] = head.to_le_bytes();
            let place = Self::place(&read, at).filter(|_| identifier == VENDOR && length >= CAPABILITY_BYTES);
            if let Some(place) = place {
                match kind {
                    COMMON => common = common.or(Some(place)),
                    NOTIFY if length >= NOTIFY_BYTES => {
                        let multiplier = at.checked_add(CAPABILITY_BYTES).map(&read);
                        notify = notify.or(multiplier.map(|multiplier| (place, multiplier)));
                    }
                    ISR => isr = isr.or(Some(place)),
                    DEVICE => device = device.or(Some(place)),
                    _ => {}
                }
            }
            at = next & !3;
        }
        let (notify, notify_multiplier) = notify?;
        Some(Self { common: common?, notify, notify_multiplier, isr, device: device? })
    }

    /// The range that the capability at `at` describes; `None` if it does not end in the configuration space, or its BAR is
    /// reserved: such a capability is to be passed over (4.1.4.1).
    fn place(read: impl Fn(u8) -> u32, at: u8) -> Option<Place> {
        let word = |offset: u8| at.checked_add(offset).map(&read);
        let [bar, ..] = word(4)?.to_le_bytes();
        let (offset, length) = (word(8)?, word(12)?);
        (bar < BARS).then_some(Place { bar, offset, length })
    }

    /// Whether all lie in one BAR, in its first `window` bytes, long enough and aligned as 4.1.4 demands.
    pub(crate) fn are_usable(&self, window: u32) -> bool {
        let bar = self.common.bar;
        let together = [Some(self.notify), self.isr, Some(self.device)].into_iter().flatten().all(|one| one.bar == bar);
        let fit = self.common.fits(window, 4, COMMON_BYTES)
            && self.notify.fits(window, 2, 2)
            && self.isr.is_none_or(|isr| isr.fits(window, 1, 1))
            && self.device.fits(window, 4, 0);
        let stride = self.notify_multiplier;
        together && fit && (stride == 0 || (stride.is_power_of_two() && stride != 1))
    }
}
