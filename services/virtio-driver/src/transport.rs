//! The device's side that is the same for all kinds: status, features, queues, interrupts, configuration (virtio 1.2, 3.1, 4.1.4).

use crate::structures::Structures;
use crate::unusable::Unusable;
use crate::virtqueue::{QueueMemory, Virtqueue};
use bulkhead_driver::{Clock, Registers};

/// Fields of the common structure (4.1.4.3).
const DEVICE_FEATURE_SELECT: u32 = 0x00;
const DEVICE_FEATURE: u32 = 0x04;
const DRIVER_FEATURE_SELECT: u32 = 0x08;
const DRIVER_FEATURE: u32 = 0x0c;
const CONFIGURATION_VECTOR: u32 = 0x10;
const QUEUES: u32 = 0x12;
const STATUS: u32 = 0x14;
const GENERATION: u32 = 0x15;
const QUEUE_SELECT: u32 = 0x16;
const QUEUE_SIZE: u32 = 0x18;
const QUEUE_VECTOR: u32 = 0x1a;
const QUEUE_ENABLE: u32 = 0x1c;
const QUEUE_NOTIFY: u32 = 0x1e;
const QUEUE_DESCRIPTORS: u32 = 0x20;
const QUEUE_DRIVER: u32 = 0x28;
const QUEUE_DEVICE: u32 = 0x30;

/// Device status (2.1).
const ACKNOWLEDGE: u8 = 1;
const DRIVER: u8 = 2;
const DRIVER_OK: u8 = 4;
const FEATURES_OK: u8 = 8;

/// Features of all kinds of devices (6).
pub const INDIRECT: u64 = 1 << 28;
pub const VERSION_1: u64 = 1 << 32;
/// The device's addresses are those of the bus, behind an IOMMU if there is one: they are the only ones that this driver knows.
pub const ACCESS_PLATFORM: u64 = 1 << 33;

/// The MSI-X vector of all interrupts.
const VECTOR: u16 = 0;
/// How often the configuration is read until it does not change meanwhile.
const LOOKS: usize = 16;
/// How long a reset may take, in milliseconds.
pub const RESET_LIMIT: u64 = 5_000;
/// How long a device may take to answer at the start.
pub const START_LIMIT: u64 = 5_000;

/// Device status.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Status(u8);

impl Status {
    /// A reset is over: the device has forgotten its queues, and does not reach memory (2.4.1).
    pub fn is_reset(self) -> bool {
        self.0 == 0
    }

    /// The device cannot go on without a reset (2.1.1).
    pub fn is_failed(self) -> bool {
        self.0 & 0x40 != 0
    }

    /// Nothing answers on the bus.
    pub fn is_gone(self) -> bool {
        self.0 == u8::MAX
    }
}

/// A device's registers.
pub struct Transport<R> {
    registers: R,
    structures: Structures,
}

impl<R: Registers> Transport<R> {
    /// The device with its structures in the first `window` bytes of the registers. It is not touched but for its status.
    pub fn new(registers: R, window: u32, structures: &Structures) -> Result<Self, Unusable> {
        if !structures.are_usable(window) {
            return Err(Unusable::Structures);
        }
        let transport = Self { registers, structures: *structures };
        if transport.status().is_gone() { Err(Unusable::Absent) } else { Ok(transport) }
    }

    /// Where a field of the common structure is. All fields lie in it, and it in the window: this does not overflow.
    fn common(&self, field: u32) -> u32 {
        self.structures.common.offset + field
    }

    pub fn status(&self) -> Status {
        Status(self.registers.read_u8(self.common(STATUS)))
    }

    fn set_status(&self, bits: u8) {
        let status = self.registers.read_u8(self.common(STATUS));
        self.registers.write_u8(self.common(STATUS), status | bits);
    }

    /// Begins a reset, which is over when the status says so (4.1.4.3.2).
    pub fn reset(&self) {
        self.registers.write_u8(self.common(STATUS), 0);
    }

    /// Resets the device and waits until that is over, within limits.
    pub fn reset_and_wait(&self, clock: &impl Clock) -> Result<(), Unusable> {
        self.reset();
        let ended = clock.wait_until(RESET_LIMIT, || self.status().is_reset());
        if ended { Ok(()) } else { Err(Unusable::Timeout) }
    }

    /// The first steps after a reset (3.1.1, 1 to 4): returns the features that are offered.
    pub fn offered(&self) -> u64 {
        self.set_status(ACKNOWLEDGE);
        self.set_status(DRIVER);
        let half = |select| {
            self.registers.write_u32(self.common(DEVICE_FEATURE_SELECT), select);
            u64::from(self.registers.read_u32(self.common(DEVICE_FEATURE)))
        };
        half(0) | half(1) << 32
    }

    /// Chooses features (3.1.1, 4 to 6).
    pub fn accept(&self, features: u64) -> Result<(), Unusable> {
        for (select, half) in [(0, features as u32), (1, (features >> 32) as u32)] {
            self.registers.write_u32(self.common(DRIVER_FEATURE_SELECT), select);
            self.registers.write_u32(self.common(DRIVER_FEATURE), half);
        }
        self.set_status(FEATURES_OK);
        let status = self.registers.read_u8(self.common(STATUS));
        if status & FEATURES_OK != 0 && !Status(status).is_gone() { Ok(()) } else { Err(Unusable::Features) }
    }

    /// Lets changes of the configuration cause the interrupt.
    pub fn set_configuration_vector(&self) -> Result<(), Unusable> {
        self.set_vector(CONFIGURATION_VECTOR)
    }

    /// A device that has no room for a vector has none when it is read back (4.1.5.1.2.2).
    fn set_vector(&self, field: u32) -> Result<(), Unusable> {
        self.registers.write_u16(self.common(field), VECTOR);
        let taken = self.registers.read_u16(self.common(field)) == VECTOR;
        if taken { Ok(()) } else { Err(Unusable::Interrupts) }
    }

    /// Sets a queue up (4.1.5.1.3), with at most `most` entries, a power of two, and at least `fewest`.
    pub fn queue<'a>(
        &self,
        index: u16,
        memory: QueueMemory<'a>,
        fewest: u16,
        most: u16,
    ) -> Result<Virtqueue<'a>, Unusable> {
        if index >= self.registers.read_u16(self.common(QUEUES)) {
            return Err(Unusable::Queue);
        }
        self.registers.write_u16(self.common(QUEUE_SELECT), index);
        let offered = self.registers.read_u16(self.common(QUEUE_SIZE));
        let size = offered.min(most);
        if !offered.is_power_of_two() || size < fewest {
            return Err(Unusable::Queue);
        }
        let doorbell = self.doorbell(self.registers.read_u16(self.common(QUEUE_NOTIFY))).ok_or(Unusable::Queue)?;
        let queue = Virtqueue::new(memory, index, size, doorbell).ok_or(Unusable::Memory)?;
        self.registers.write_u16(self.common(QUEUE_SIZE), size);
        self.set_vector(QUEUE_VECTOR)?;
        let [descriptors, driver, device] = queue.addresses();
        self.registers.write_u64(self.common(QUEUE_DESCRIPTORS), descriptors);
        self.registers.write_u64(self.common(QUEUE_DRIVER), driver);
        self.registers.write_u64(self.common(QUEUE_DEVICE), device);
        self.registers.write_u16(self.common(QUEUE_ENABLE), 1);
        Ok(queue)
    }

    /// Where the doorbell of this number is; `None` if it does not lie in the structure (4.1.4.4).
    fn doorbell(&self, number: u16) -> Option<u32> {
        let within = u32::from(number).checked_mul(self.structures.notify_multiplier)?;
        let end = within.checked_add(2)?;
        if end > self.structures.notify.length {
            return None;
        }
        self.structures.notify.offset.checked_add(within)
    }

    /// Sets the device going (3.1.1, 8).
    pub fn go(&self) {
        self.set_status(DRIVER_OK);
    }

    /// Tells the device of new buffers, unless it does not want to know (4.1.5.2).
    pub fn notify(&self, queue: &Virtqueue<'_>) {
        if queue.wants_notification() {
            self.registers.write_u16(queue.doorbell(), queue.index());
        }
    }

    /// A field of 16 bits of the device-specific configuration; all ones if it has none.
    pub fn field_u16(&self, offset: u32) -> u16 {
        let end = offset.checked_add(2).filter(|end| *end <= self.structures.device.length);
        let place = end.and_then(|_| self.structures.device.offset.checked_add(offset));
        place.map_or(u16::MAX, |place| self.registers.read_u16(place))
    }

    /// Reads the device-specific configuration, field by field, as 4.1.3.1 demands: `widths` are their bytes in their order. What
    /// the device does not have is 0. The bytes belong together, see 2.5.1.
    pub fn configuration(&self, widths: &[u8], bytes: &mut [u8]) -> Result<(), Unusable> {
        for _ in 0..LOOKS {
            let before = self.registers.read_u8(self.common(GENERATION));
            self.read_fields(widths, bytes);
            if self.registers.read_u8(self.common(GENERATION)) == before {
                return Ok(());
            }
        }
        Err(Unusable::Configuration)
    }

    fn read_fields(&self, widths: &[u8], mut bytes: &mut [u8]) {
        let mut offset = 0;
        for width in widths {
            let Some((field, rest)) = bytes.split_at_mut_checked((*width).into()) else { return };
            let end = offset + u32::from(*width);
            let place = self.structures.device.offset.checked_add(offset);
            let value = match place.filter(|_| end <= self.structures.device.length) {
                None => 0,
                Some(place) => match width {
                    1 => self.registers.read_u8(place).into(),
                    2 => self.registers.read_u16(place).into(),
                    _ => self.registers.read_u32(place),
                },
            };
            for (to, from) in field.iter_mut().zip(value.to_le_bytes()) {
                *to = from;
            }
            (bytes, offset) = (rest, end);
        }
    }
}
