//! What the two sides of a device channel tell each other, as types that cannot be wrong.

/// Queues that a device can have at most.
pub const MAX_QUEUES: usize = 8;
/// Largest virtqueue, in descriptors (virtio 1.2, 2.7).
pub const MAX_QUEUE_SIZE: u16 = 32768;

/// Why a description or a configuration is not acceptable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Invalid {
    /// There is no such kind of device.
    Kind,
    /// The number of queues is 0 or above [`MAX_QUEUES`].
    QueueCount,
    /// A queue's size is no power of two, is 0, or exceeds the device's largest.
    QueueSize,
    /// A queue's area is not aligned as virtio 1.2, 2.7 demands, or wraps around the end of the address space.
    QueueAddress,
    /// The driver accepted features that the device does not offer.
    Features,
    /// The command is none.
    Command,
}

/// What a device is, by its number in virtio 1.2, chapter 5.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum DeviceKind {
    /// Network card (5.1).
    Network = 1,
    /// Disk (5.2).
    Block = 2,
}

impl DeviceKind {
    /// The kind with this number, if there is one.
    pub const fn from_number(number: u16) -> Option<Self> {
        match number {
            1 => Some(Self::Network),
            2 => Some(Self::Block),
            _ => None,
        }
    }
}

/// A device as its emulator offers it: what the guest's driver finds, but for the transport.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeviceDescription {
    /// What it is.
    pub kind: DeviceKind,
    /// Virtio feature bits, device-independent ones among them, by their number in virtio 1.2.
    pub features: u64,
    /// Queues: 1 to [`MAX_QUEUES`].
    pub queues: u16,
    /// Largest queue, a power of two.
    pub queue_size: u16,
    /// The device-specific configuration (virtio 1.2, 5.1.4, 5.2.4), 0 beyond its end.
    pub configuration: DeviceConfiguration,
}

/// Bytes of a device-specific configuration.
pub const CONFIGURATION_BYTES: usize = 64;
/// A device-specific configuration, little-endian fields at the offsets that virtio gives them.
pub type DeviceConfiguration = [u8; CONFIGURATION_BYTES];

impl DeviceDescription {
    /// Accepts the description if every field is within its documented values.
    pub fn validate(self) -> Result<Self, Invalid> {
        if self.queues == 0 || usize::from(self.queues) > MAX_QUEUES {
            return Err(Invalid::QueueCount);
        }
        if !self.queue_size.is_power_of_two() || self.queue_size > MAX_QUEUE_SIZE {
            return Err(Invalid::QueueSize);
        }
        Ok(self)
    }
}

/// Where a guest's driver put a virtqueue. Addresses are guest-physical.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct QueueConfiguration {
    /// Descriptors: a power of two.
    pub size: u16,
    /// Descriptor table, 16-byte aligned.
    pub descriptors: u64,
    /// Driver area (available ring), 2-byte aligned.
    pub driver: u64,
    /// Device area (used ring), 4-byte aligned.
    pub device: u64,
}

impl QueueConfiguration {
    /// Bytes of the descriptor table.
    pub fn descriptors_length(&self) -> u64 {
        16 * u64::from(self.size)
    }

    /// Bytes of the driver area, event index included.
    pub fn driver_length(&self) -> u64 {
        6 + 2 * u64::from(self.size)
    }

    /// Bytes of the device area, event index included.
    pub fn device_length(&self) -> u64 {
        6 + 8 * u64::from(self.size)
    }

    /// Accepts the configuration if size, alignment and extent are right (virtio 1.2, 2.7). Whether there is memory at the
    /// addresses only the holder of the guest's memory can say.
    pub fn validate(self, largest: u16) -> Result<Self, Invalid> {
        if !self.size.is_power_of_two() || self.size > largest {
            return Err(Invalid::QueueSize);
        }
        let areas = [
            (self.descriptors, self.descriptors_length(), 16),
            (self.driver, self.driver_length(), 2),
            (self.device, self.device_length(), 4),
        ];
        for (address, length, alignment) in areas {
            if address % alignment != 0 || address.checked_add(length).is_none() {
                return Err(Invalid::QueueAddress);
            }
        }
        Ok(self)
    }
}

/// What the driver chose: features, and the queues that it enabled.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Configuration {
    /// Features accepted by the driver: a subset of the offered.
    pub features: u64,
    /// By queue number; `None` for a queue that is not enabled.
    pub queues: [Option<QueueConfiguration>; MAX_QUEUES],
}

/// What the monitor asks of the emulator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(clippy::large_enum_variant, reason = "no_std, no heap: the value lives on the stack for one event")]
pub enum Command {
    /// Forget queues and features; touch the guest's memory no more once acknowledged.
    Reset,
    /// Begin to serve these queues.
    Configure(Configuration),
    /// Go on with these queues, which an earlier generation served.
    Resume(Configuration),
    /// The monitor wrote something that is no valid command; to be acknowledged with this reason.
    Refused(Invalid),
}

/// How the emulator answered a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Not answered yet.
    Pending,
    /// Done.
    Done,
    /// Refused: the driver's configuration was not acceptable; the device needs a reset.
    Refused,
}

/// What the emulator wants the guest to be interrupted for: bit `n` = queue `n` has used buffers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Interrupts(pub u64);

impl Interrupts {
    /// The device's configuration or state changed.
    pub const CONFIGURATION: Self = Self(1 << 63);

    /// Used buffers in queue `queue`; nothing if there is no such queue.
    pub const fn queue(queue: usize) -> Self {
        if queue < MAX_QUEUES { Self(1 << queue) } else { Self(0) }
    }

    /// No interrupt is wanted.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// All of `other` are wanted.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// What an emulator has to tell the monitor by signals, as bits from the channel's first one on: 0 = look at the page, 1 + n = interrupt of
/// queue n.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Signals(pub u64);

impl Signals {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Look at the page.
    pub const LOOK: Self = Self(1);
}

impl core::ops::BitOr for Signals {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl core::ops::BitOrAssign for Signals {
    fn bitor_assign(&mut self, other: Self) {
        *self = *self | other;
    }
}
