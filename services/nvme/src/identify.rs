//! What the controller and its namespace say of themselves (NVMe 1.4, 5.15).

use crate::memory::{LIST_ENTRIES, PAGE};
use bulkhead_driver::{DmaMemory, DriveInformation, IDENTIFY_BYTES, RangeLimits, SECTOR};

/// Most logical blocks of a read, write or write zeroes: 16 bits, counted from 0.
const MAX_BLOCKS: u64 = 1 << 16;

/// Why a controller or its namespace cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unusable {
    /// It has no NVM commands or no pages of 4 KiB.
    Capabilities,
    /// Its first namespace is empty, or larger than can be counted.
    Size,
    /// Blocks are not of 512 to 4096 bytes, or have metadata.
    Format,
}

/// What the controller says (5.15.2.2, figure 251).
#[derive(Clone, Copy, Debug)]
pub struct ControllerIdentity {
    serial: [u8; 20],
    model: [u8; 40],
    firmware: [u8; 8],
    /// Most bytes of a transfer: MDTS, byte 77.
    transfer_bytes: u64,
    /// ONCS, bytes 520-521: bit 2.
    deallocate: bool,
    /// ONCS: bit 3.
    write_zeroes: bool,
    /// VWC, byte 525: bit 0.
    pub write_cache: bool,
    bytes: [u8; IDENTIFY_BYTES],
}

/// Text; what is no visible character becomes a space.
fn text<const BYTES: usize>(bytes: &[u8], first: usize) -> [u8; BYTES] {
    let mut text = [b' '; BYTES];
    for (to, from) in text.iter_mut().zip(bytes.iter().skip(first)) {
        if from.is_ascii_graphic() {
            *to = *from;
        }
    }
    text
}

fn byte(answer: &DmaMemory<'_>, offset: usize) -> u8 {
    (answer.read_u64(offset & !7) >> (8 * (offset & 7))) as u8
}

impl ControllerIdentity {
    pub fn parse(answer: &DmaMemory<'_>) -> Self {
        let mut bytes = [0; IDENTIFY_BYTES];
        answer.read(0, &mut bytes);
        let transfer_bytes = match byte(answer, 77) {
            0 => u64::MAX,
            exponent => PAGE.checked_shl(exponent.into()).filter(|bytes| *bytes != 0).unwrap_or(u64::MAX),
        };
        let optional = answer.read_u16(520);
        Self {
            serial: text(&bytes, 4),
            model: text(&bytes, 24),
            firmware: text(&bytes, 64),
            transfer_bytes,
            deallocate: optional & 1 << 2 != 0,
            write_zeroes: optional & 1 << 3 != 0,
            write_cache: byte(answer, 525) & 1 != 0,
            bytes,
        }
    }
}

/// What the namespace says (5.15.2.1, figure 249).
#[derive(Clone, Copy, Debug)]
pub struct NamespaceIdentity {
    blocks: u64,
    pub block_bytes: u32,
    /// Blocks that it likes to write at a time, as a power of two: NPWG.
    write_exponent: u8,
    /// Blocks that it deallocates at a time: NPDG.
    deallocate_blocks: u32,
    /// Deallocated by write zeroes, blocks read as zeroes: DLFEAT, bits 0 to 3.
    pub zeroes_deallocate: bool,
}

impl NamespaceIdentity {
    pub fn parse(answer: &DmaMemory<'_>) -> Result<Self, Unusable> {
        let blocks = answer.read_u64(0);
        let format = answer.read_u32(128 + 4 * usize::from(byte(answer, 26) & 0xf));
        let exponent = format >> 16 & 0xff;
        if format & 0xffff != 0 || !(9..=12).contains(&exponent) {
            return Err(Unusable::Format);
        }
        if blocks == 0 || blocks > i64::MAX as u64 >> exponent {
            return Err(Unusable::Size);
        }
        // NPWG and NPDG count from 0, and mean something if OPTPERF is set.
        let preferred = |offset| {
            let hinted = byte(answer, 24) & 1 << 4 != 0;
            if hinted { u32::from(answer.read_u16(offset)) + 1 } else { 1 }
        };
        let write = preferred(64);
        let deallocated = byte(answer, 33);
        Ok(Self {
            blocks,
            block_bytes: 1 << exponent,
            write_exponent: if write.is_power_of_two() { write.trailing_zeros().min(7) as u8 } else { 0 },
            deallocate_blocks: preferred(68),
            zeroes_deallocate: deallocated & 7 == 1 && deallocated & 8 != 0,
        })
    }

    /// Sectors of 512 bytes in a block.
    pub fn scale(&self) -> u32 {
        self.block_bytes / SECTOR as u32
    }
}

/// What the drive offers, with so many tags and queues.
pub fn information(
    controller: &ControllerIdentity,
    namespace: &NamespaceIdentity,
    write_cache: bool,
    depth: u16,
    queues: u16,
) -> DriveInformation {
    let scale = namespace.scale();
    let block = u64::from(namespace.block_bytes);
    let most = (LIST_ENTRIES as u64 * PAGE).min(controller.transfer_bytes).min(MAX_BLOCKS * block);
    DriveInformation {
        sectors: namespace.blocks * u64::from(scale),
        logical_block_size: namespace.block_bytes,
        physical_exponent: namespace.write_exponent,
        write_cache,
        // Flush is mandatory (6, figure 347).
        flush: true,
        discard: controller.deallocate.then(|| RangeLimits {
            sectors: u32::MAX / scale * scale,
            granularity: namespace.deallocate_blocks * scale,
        }),
        write_zeroes: controller
            .write_zeroes
            .then(|| RangeLimits { sectors: MAX_BLOCKS as u32 * scale, granularity: scale }),
        command_bytes: most / block * block,
        depth,
        queues,
        model: controller.model,
        serial: controller.serial,
        firmware: controller.firmware,
        identify: controller.bytes,
    }
}
