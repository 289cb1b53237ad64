//! The block device's features and configuration (virtio 1.2, 5.2).

use super::VirtioDevice;

/// Feature bits of block devices.
mod feature {
    pub const SEG_MAX: u64 = 1 << 2;
    pub const RO: u64 = 1 << 5;
    pub const BLK_SIZE: u64 = 1 << 6;
    pub const FLUSH: u64 = 1 << 9;
    pub const TOPOLOGY: u64 = 1 << 10;
    pub const MQ: u64 = 1 << 12;
    /// Indirect descriptors and event indices, which belong to the data plane.
    pub const RING: u64 = 1 << 28 | 1 << 29;
    /// What an emulator may offer through this control plane. The others would need configuration fields that it does not fill.
    pub const KNOWN: u64 = SEG_MAX | RO | BLK_SIZE | FLUSH | TOPOLOGY | MQ | RING;
}

/// A disk as its emulator offers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockFeatures {
    /// Capacity in sectors of 512 bytes.
    pub capacity_sectors: u64,
    /// Bytes in a logical block.
    pub logical_block_size: u32,
    /// Logical blocks in a physical block, as a power of two.
    pub physical_block_exponent: u8,
    /// Virtio feature bits.
    pub features: u64,
    /// Most data segments in a request.
    pub segments: u16,
    /// Queues.
    pub queues: u16,
    /// Largest queue.
    pub queue_size: u16,
}

/// The control plane's view of a disk.
#[derive(Clone, Debug)]
pub struct BlockDevice {
    features: u64,
    queues: u16,
    queue_size: u16,
    configuration: [u8; Self::CONFIGURATION],
}

impl BlockDevice {
    /// Bytes of the configuration: up to `num_queues`.
    const CONFIGURATION: usize = 36;

    /// The device for a disk. A queue size that is no power of two is rounded down to one.
    pub fn new(disk: &BlockFeatures) -> Self {
        let mut configuration = [0; Self::CONFIGURATION];
        let mut put = |offset: usize, bytes: &[u8]| {
            if let Some(target) = configuration.get_mut(offset..).and_then(|rest| rest.get_mut(..bytes.len())) {
                target.copy_from_slice(bytes);
            }
        };
        put(0, &disk.capacity_sectors.to_le_bytes());
        put(12, &u32::from(disk.segments).to_le_bytes());
        put(20, &disk.logical_block_size.to_le_bytes());
        // Topology: exponent, no alignment offset, minimum transfer of one physical block, no optimum.
        let minimum = 1u16.checked_shl(disk.physical_block_exponent.into()).unwrap_or(1);
        put(24, &[disk.physical_block_exponent, 0]);
        put(26, &minimum.to_le_bytes());
        put(34, &disk.queues.to_le_bytes());
        Self {
            features: disk.features & feature::KNOWN,
            queues: disk.queues,
            queue_size: 1 << disk.queue_size.max(1).ilog2(),
            configuration,
        }
    }
}

impl VirtioDevice for BlockDevice {
    const DEVICE_TYPE: u16 = 2;
    /// Mass storage, other.
    const CLASS: u32 = 0x01_8000;

    fn features(&self) -> u64 {
        self.features
    }

    fn configuration(&self) -> &[u8] {
        &self.configuration
    }

    fn queues(&self) -> u16 {
        self.queues
    }

    fn queue_size(&self) -> u16 {
        self.queue_size
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn configuration_fields() {
        let disk = BlockFeatures {
            capacity_sectors: 0x1_2345,
            logical_block_size: 512,
            physical_block_exponent: 3,
            features: feature::RO | feature::FLUSH | 1 << 13 | 1 << 14 | 1 << 28 | 1 << 40,
            segments: 126,
            queues: 1,
            queue_size: 200,
        };
        let device = BlockDevice::new(&disk);
        assert_eq!(device.features(), feature::RO | feature::FLUSH | 1 << 28);
        assert_eq!(device.queue_size(), 128);
        let bytes = device.configuration();
        assert_eq!(bytes[..8], 0x1_2345u64.to_le_bytes());
        assert_eq!(bytes[12..16], 126u32.to_le_bytes());
        assert_eq!(bytes[20..24], 512u32.to_le_bytes());
        assert_eq!((bytes[24], bytes[26], bytes[34]), (3, 8, 1));
    }
}
