//! The common configuration structure (virtio 1.2, 4.1.4.3) and the device status (2.1).

use super::msix::{NO_VECTOR, valid_vector};
use super::{DriverConfiguration, MAX_QUEUES, QueueAddresses};
use crate::bus::Width;

/// Bytes of the structure.
pub const SIZE: u64 = 0x3c;
/// `VIRTIO_F_VERSION_1`.
pub const VERSION_1: u64 = 1 << 32;

const DRIVER_OK: u8 = 4;
const FEATURES_OK: u8 = 8;
const NEEDS_RESET: u8 = 64;
/// Bits that the driver may set.
const DRIVER_BITS: u8 = 1 | 2 | DRIVER_OK | FEATURES_OK | 128;

/// Offsets of the fields.
mod field {
    pub const DEVICE_FEATURE_SELECT: u64 = 0x00;
    pub const DRIVER_FEATURE_SELECT: u64 = 0x08;
    pub const DRIVER_FEATURE: u64 = 0x0c;
    pub const CONFIGURATION_VECTOR: u64 = 0x10;
    pub const STATUS: u64 = 0x14;
    pub const QUEUE_SELECT: u64 = 0x16;
    pub const QUEUE_SIZE: u64 = 0x18;
    pub const QUEUE_VECTOR: u64 = 0x1a;
    pub const QUEUE_ENABLE: u64 = 0x1c;
    pub const QUEUE_DESCRIPTORS: u64 = 0x20;
    pub const QUEUE_DRIVER: u64 = 0x28;
    pub const QUEUE_DEVICE: u64 = 0x30;
}

/// What the device offers, as far as this structure shows it.
#[derive(Clone, Copy, Debug)]
pub struct Offer {
    /// Features, [`VERSION_1`] among them.
    pub features: u64,
    /// Number of queues, at most [`MAX_QUEUES`].
    pub queues: u16,
    /// Largest queue.
    pub queue_size: u16,
}

/// What a write to the structure brought about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing that concerns others.
    None,
    /// A queue has another vector.
    Vector,
    /// The driver asks for a reset.
    Reset,
    /// The driver has set `DRIVER_OK`.
    Ready,
}

#[derive(Clone, Copy, Debug)]
struct Queue {
    addresses: QueueAddresses,
    vector: u16,
    enabled: bool,
}

/// The registers.
#[derive(Clone, Debug)]
pub struct Common {
    offer: Offer,
    device_feature_select: u32,
    driver_feature_select: u32,
    driver_features: u64,
    configuration_vector: u16,
    status: u8,
    resetting: bool,
    generation: u8,
    queue_select: u16,
    queues: [Queue; MAX_QUEUES],
}

impl Common {
    /// The state after reset.
    pub fn new(offer: Offer) -> Self {
        let queue = Queue {
            addresses: QueueAddresses { size: offer.queue_size, ..QueueAddresses::default() },
            vector: NO_VECTOR,
            enabled: false,
        };
        Self {
            offer,
            device_feature_select: 0,
            driver_feature_select: 0,
            driver_features: 0,
            configuration_vector: NO_VECTOR,
            status: 0,
            resetting: false,
            generation: 0,
            queue_select: 0,
            queues: [queue; MAX_QUEUES],
        }
    }

    /// Ends a reset: everything is as new, but for the generation of the configuration.
    pub fn reset(&mut self) {
        *self = Self { generation: self.generation, ..Self::new(self.offer) };
    }

    /// Changes the offer, at once. What the driver has chosen stays until the next reset.
    pub fn set_offer(&mut self, offer: Offer) {
        self.offer = offer;
    }

    /// The driver has set `DRIVER_OK`, and no reset is under way.
    pub fn ready(&self) -> bool {
        self.status & DRIVER_OK != 0 && !self.resetting
    }

    /// A reset is under way.
    pub fn resetting(&self) -> bool {
        self.resetting
    }

    /// Tells the driver, by the status, that only a reset helps. Whether that is news to it.
    pub fn set_needs_reset(&mut self) -> bool {
        let news = self.status & DRIVER_BITS != 0 && self.status & NEEDS_RESET == 0 && !self.resetting;
        if news {
            self.status |= NEEDS_RESET;
        }
        news
    }

    /// The device-specific configuration has changed.
    pub fn configuration_changed(&mut self) {
        self.generation = self.generation.wrapping_add(1);
    }

    /// The vector for configuration changes.
    pub fn configuration_vector(&self) -> u16 {
        self.configuration_vector
    }

    /// The vector of `queue`.
    pub fn queue_vector(&self, queue: u16) -> u16 {
        self.queues.get(usize::from(queue)).map_or(NO_VECTOR, |queue| queue.vector)
    }

    /// What the driver has chosen.
    pub fn driver_configuration(&self) -> DriverConfiguration {
        DriverConfiguration {
            features: self.driver_features,
            queues: self.queues.map(|queue| queue.enabled.then_some(queue.addresses)),
        }
    }

    fn selected(&self) -> Option<&Queue> {
        if self.queue_select < self.offer.queues { self.queues.get(usize::from(self.queue_select)) } else { None }
    }

    /// Reads any bytes of the structure; those beyond it are 0.
    pub fn read(&self, offset: u64, width: Width) -> u64 {
        let mut bytes = [0u8; SIZE as usize];
        let mut put = |at: u64, value: &[u8]| {
            if let Some(target) = bytes.get_mut(at as usize..).and_then(|rest| rest.get_mut(..value.len())) {
                target.copy_from_slice(value);
            }
        };
        let half = |features: u64, select: u32| match select {
            0 => features as u32,
            1 => (features >> 32) as u32,
            _ => 0,
        };
        put(field::DEVICE_FEATURE_SELECT, &self.device_feature_select.to_le_bytes());
        put(0x04, &half(self.offer.features, self.device_feature_select).to_le_bytes());
        put(field::DRIVER_FEATURE_SELECT, &self.driver_feature_select.to_le_bytes());
        put(field::DRIVER_FEATURE, &half(self.driver_features, self.driver_feature_select).to_le_bytes());
        put(field::CONFIGURATION_VECTOR, &self.configuration_vector.to_le_bytes());
        put(0x12, &self.offer.queues.to_le_bytes());
        put(field::STATUS, &[self.status, self.generation]);
        put(field::QUEUE_SELECT, &self.queue_select.to_le_bytes());
        if let Some(queue) = self.selected() {
            put(field::QUEUE_SIZE, &queue.addresses.size.to_le_bytes());
            put(field::QUEUE_VECTOR, &queue.vector.to_le_bytes());
            put(field::QUEUE_ENABLE, &u16::from(queue.enabled).to_le_bytes());
            // queue_notify_off: each queue has a notification port of its own.
            put(0x1e, &self.queue_select.to_le_bytes());
            put(field::QUEUE_DESCRIPTORS, &queue.addresses.descriptors.to_le_bytes());
            put(field::QUEUE_DRIVER, &queue.addresses.driver.to_le_bytes());
            put(field::QUEUE_DEVICE, &queue.addresses.device.to_le_bytes());
        } else {
            put(field::QUEUE_VECTOR, &NO_VECTOR.to_le_bytes());
        }
        read_bytes(&bytes, offset, width)
    }

    /// Writes one field, or half of a 64-bit one.
    pub fn write(&mut self, offset: u64, width: Width, value: u64) -> Effect {
        match (offset, width) {
            (field::DEVICE_FEATURE_SELECT, Width::Dword) => self.device_feature_select = value as u32,
            (field::DRIVER_FEATURE_SELECT, Width::Dword) => self.driver_feature_select = value as u32,
            (field::DRIVER_FEATURE, Width::Dword) => self.set_driver_features(value as u32),
            (field::CONFIGURATION_VECTOR, Width::Word) => self.configuration_vector = valid_vector(value as u16),
            (field::STATUS, Width::Byte) => return self.set_status(value as u8),
            (field::QUEUE_SELECT, Width::Word) => self.queue_select = value as u16,
            _ => return self.write_queue(offset, width, value),
        }
        Effect::None
    }

    fn set_driver_features(&mut self, value: u32) {
        if self.status & FEATURES_OK != 0 || self.resetting {
            return;
        }
        let value = u64::from(value);
        self.driver_features = match self.driver_feature_select {
            0 => self.driver_features & !0xffff_ffff | value,
            1 => self.driver_features & 0xffff_ffff | value << 32,
            _ => self.driver_features,
        };
    }

    fn write_queue(&mut self, offset: u64, width: Width, value: u64) -> Effect {
        let (ready, largest) = (self.status & DRIVER_OK != 0 || self.resetting, self.offer.queue_size);
        if self.queue_select >= self.offer.queues {
            return Effect::None;
        }
        let Some(queue) = self.queues.get_mut(usize::from(self.queue_select)) else {
            return Effect::None;
        };
        if (offset, width) == (field::QUEUE_VECTOR, Width::Word) {
            queue.vector = valid_vector(value as u16);
            return Effect::Vector;
        }
        // An enabled queue stays as it is until the reset.
        if queue.enabled || ready {
            return Effect::None;
        }
        let addresses = &mut queue.addresses;
        match (offset & !7, offset & 7, width) {
            (_, _, Width::Word) if offset == field::QUEUE_SIZE => {
                let size = value as u16;
                if size.is_power_of_two() && size <= largest {
                    addresses.size = size;
                }
            }
            (_, _, Width::Word) if offset == field::QUEUE_ENABLE => queue.enabled = value == 1,
            (start, within @ (0 | 4), Width::Dword | Width::Qword) => {
                let target = match start {
                    field::QUEUE_DESCRIPTORS => &mut addresses.descriptors,
                    field::QUEUE_DRIVER => &mut addresses.driver,
                    field::QUEUE_DEVICE => &mut addresses.device,
                    _ => return Effect::None,
                };
                *target = match (within, width) {
                    (0, Width::Qword) => value,
                    (0, _) => *target & !0xffff_ffff | value & 0xffff_ffff,
                    (_, Width::Dword) => *target & 0xffff_ffff | value << 32,
                    _ => *target,
                };
            }
            _ => (),
        }
        Effect::None
    }

    fn set_status(&mut self, value: u8) -> Effect {
        if self.resetting {
            return Effect::None;
        }
        if value == 0 {
            if self.status == 0 {
                // Nothing to undo: drivers begin with this.
                self.reset();
                return Effect::None;
            }
            self.resetting = true;
            return Effect::Reset;
        }
        let before = self.status;
        // The driver sets bits; only a reset clears them.
        let mut new = before | value & DRIVER_BITS;
        let acceptable = self.driver_features & !self.offer.features == 0 && self.driver_features & VERSION_1 != 0;
        if new & FEATURES_OK != 0 && before & FEATURES_OK == 0 && !acceptable {
            new &= !FEATURES_OK;
        }
        if new & FEATURES_OK == 0 {
            new &= !DRIVER_OK;
        }
        self.status = new;
        if new & DRIVER_OK != 0 && before & DRIVER_OK == 0 { Effect::Ready } else { Effect::None }
    }
}

/// The bytes of `bytes` that an access covers, as a number; what is outside reads as 0.
pub fn read_bytes(bytes: &[u8], offset: u64, width: Width) -> u64 {
    let Ok(start) = usize::try_from(offset) else {
        return 0;
    };
    let covered = bytes.get(start..).unwrap_or(&[]).iter().take(width.bytes() as usize);
    covered.rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}
