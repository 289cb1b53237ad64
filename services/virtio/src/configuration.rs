//! The device-specific configuration of a disk (virtio 1.2, 5.2.4).

use bulkhead_channel::{CONFIGURATION_BYTES, DeviceConfiguration};

/// What a disk's driver reads of it. Fields that belong to features that are not offered may have any value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlockConfiguration {
    /// Capacity in sectors of 512 bytes.
    pub sectors: u64,
    /// Most data segments in a request.
    pub segments: u32,
    /// Bytes in a logical block.
    pub logical_block_size: u32,
    /// Logical blocks in a physical block, as a power of two.
    pub physical_block_exponent: u8,
    /// Queues.
    pub queues: u16,
    /// Most sectors of a discard, and sectors to which it should be aligned.
    pub discard: [u32; 2],
    /// Most sectors of a write-zeroes request.
    pub write_zeroes: u32,
    /// A write-zeroes request may deallocate.
    pub write_zeroes_unmaps: bool,
}

impl BlockConfiguration {
    /// The bytes that the driver reads.
    pub fn to_bytes(self) -> DeviceConfiguration {
        let mut bytes = [0; CONFIGURATION_BYTES];
        let mut put = |offset: usize, value: &[u8]| {
            for (to, from) in bytes.iter_mut().skip(offset).zip(value) {
                *to = *from;
            }
        };
        put(0, &self.sectors.to_le_bytes());
        put(12, &self.segments.to_le_bytes());
        put(20, &self.logical_block_size.to_le_bytes());
        // Topology: exponent, no alignment offset, minimum transfer of one physical block, no optimum.
        put(24, &[self.physical_block_exponent, 0]);
        put(26, &1u16.checked_shl(self.physical_block_exponent.into()).unwrap_or(1).to_le_bytes());
        put(34, &self.queues.to_le_bytes());
        // One range a request, of both kinds.
        let [discard, alignment] = self.discard;
        for (offset, value) in [(36, discard), (40, 1), (44, alignment), (48, self.write_zeroes), (52, 1)] {
            put(offset, &u32::to_le_bytes(value));
        }
        put(56, &[self.write_zeroes_unmaps.into()]);
        bytes
    }
}
