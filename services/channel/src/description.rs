//! What the two sides of a device channel tell each other, as types that cannot be wrong.

/// Queues that a device can have at most.
pub const MAX_QUEUES: usize = 8;
/// Largest virtqueue, in descriptors (virtio 1.2, 2.7).
pub const MAX_QUEUE_SIZE: u16 = 32768;
/// Bytes of a disk's serial number (virtio 1.2, 5.2.6).
pub const SERIAL_LENGTH: usize = 20;
/// Bytes in the sectors that capacities and requests count in, whatever the logical block size.
pub const SECTOR: u64 = 512;

/// Why a description or a configuration is not acceptable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Invalid {
    /// The capacity in bytes does not fit into 64 bits, or is not a whole number of logical blocks.
    Capacity,
    /// The logical block is not a power of two from 512 to 4096 bytes, or the physical block exceeds 128 logical ones.
    BlockSize,
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

/// A block device as its emulator offers it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeviceDescription {
    /// Capacity in sectors of [`SECTOR`] bytes.
    pub capacity_sectors: u64,
    /// Bytes in a logical block: a power of two, 512 to 4096.
    pub logical_block_size: u32,
    /// Logical blocks in a physical block, as a power of two; at most 7.
    pub physical_block_exponent: u8,
    /// Virtio feature bits, device-independent ones among them, by their number in virtio 1.2.
    pub features: u64,
    /// Serial number, padded with NUL.
    pub serial: [u8; SERIAL_LENGTH],
    /// Most data segments in a request.
    pub segments: u16,
    /// Queues: 1 to [`MAX_QUEUES`].
    pub queues: u16,
    /// Largest queue, a power of two.
    pub queue_size: u16,
}

impl DeviceDescription {
    /// Accepts the description if every field is within its documented values.
    pub fn validate(self) -> Result<Self, Invalid> {
        let block = u64::from(self.logical_block_size);
        if !self.logical_block_size.is_power_of_two() || !(SECTOR..=4096).contains(&block) {
            return Err(Invalid::BlockSize);
        }
        if self.physical_block_exponent > 7 {
            return Err(Invalid::BlockSize);
        }
        match self.capacity_sectors.checked_mul(SECTOR) {
            Some(bytes) if bytes % block == 0 => {}
            _ => return Err(Invalid::Capacity),
        }
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
