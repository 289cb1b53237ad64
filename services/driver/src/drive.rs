//! A disk, as its driver offers it.

use crate::PhysicalSegment;

/// Bytes of the sectors that commands count in, whatever the disk's logical block.
pub const SECTOR: u64 = 512;
/// Bytes of the answer to the device's own identify command that are kept.
pub const IDENTIFY_BYTES: usize = 512;
/// Most tags of a drive, in bits of a 64-bit set.
pub const MAX_DEPTH: u16 = 64;

/// Limits of DISCARD or WRITE ZEROES.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RangeLimits {
    /// Most sectors of one command.
    pub sectors: u32,
    /// Sectors that the device handles as one, for discards; 1 if unknown.
    pub granularity: u32,
}

/// A disk as it describes itself. What it does not have is `None` or `false`: it is then not offered to anybody.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DriveInformation {
    /// Sectors of [`SECTOR`] bytes.
    pub sectors: u64,
    /// Bytes of a logical block: a power of two, 512 to 4096. Commands begin and end at its multiples.
    pub logical_block_size: u32,
    /// Logical blocks in a physical one, as a power of two; at most 7.
    pub physical_exponent: u8,
    /// There is a volatile write cache, in use.
    pub write_cache: bool,
    /// There is a flush command.
    pub flush: bool,
    /// There is a command to discard (TRIM, deallocate).
    pub discard: Option<RangeLimits>,
    /// There is a command to write zeroes.
    pub write_zeroes: Option<RangeLimits>,
    /// Most bytes of a read or write command, a multiple of the logical block.
    pub command_bytes: u64,
    /// Commands that the device works on at a time, 1 to [`MAX_DEPTH`]. Tags are below it.
    pub depth: u16,
    /// Hardware queues, at least 1.
    pub queues: u16,
    /// Model, ASCII, padded with spaces.
    pub model: [u8; 40],
    /// Serial number, ASCII, padded with spaces.
    pub serial: [u8; 20],
    /// Firmware revision, ASCII, padded with spaces.
    pub firmware: [u8; 8],
    /// The first bytes of the answer to the device's own identify command (ATA: IDENTIFY DEVICE; NVMe: identify controller;
    /// virtio: the device-specific configuration), 0 beyond.
    pub identify: [u8; IDENTIFY_BYTES],
}

impl DriveInformation {
    /// The model as text, without the padding.
    pub fn model(&self) -> &str {
        core::str::from_utf8(&self.model).unwrap_or_default().trim()
    }

    /// First logical block and number of blocks of a command's sectors, of which there may be `most`.
    ///
    /// # Errors
    /// [`SubmitError::Range`] if they are none, too many, not on the drive, or not whole blocks.
    pub fn blocks(&self, first_sector: u64, sectors: u32, most: u64) -> Result<(u64, u32), SubmitError> {
        let scale = u64::from(self.logical_block_size) / SECTOR;
        let count = u64::from(sectors);
        let end = first_sector.checked_add(count).ok_or(SubmitError::Range)?;
        let whole = first_sector.is_multiple_of(scale) && count.is_multiple_of(scale);
        if count == 0 || count > most || end > self.sectors || !whole {
            return Err(SubmitError::Range);
        }
        Ok((first_sector / scale, (count / scale) as u32))
    }
}

/// What a drive is to do. Sectors lie on the drive, in whole logical blocks, and are not 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command {
    /// Drive to memory.
    Read {
        /// First sector.
        first_sector: u64,
        /// Sectors, at most [`DriveInformation::command_bytes`].
        sectors: u32,
    },
    /// Memory to drive.
    Write {
        /// First sector.
        first_sector: u64,
        /// Sectors, at most [`DriveInformation::command_bytes`].
        sectors: u32,
    },
    /// Make what was written durable.
    Flush,
    /// The contents are not needed any more.
    Discard {
        /// First sector.
        first_sector: u64,
        /// Sectors, at most [`RangeLimits::sectors`].
        sectors: u32,
    },
    /// Make the contents zero.
    WriteZeroes {
        /// First sector.
        first_sector: u64,
        /// Sectors, at most [`RangeLimits::sectors`].
        sectors: u32,
        /// The device may deallocate them.
        unmap: bool,
    },
}

/// Why a command was not accepted. The drive is as it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SubmitError {
    /// The tag is in use or above the depth, or a reset is under way: later.
    Busy,
    /// The sectors are not on the drive, or are none, or too many.
    Range,
    /// The segments do not hold the sectors exactly.
    Length,
    /// The device cannot reach the segments, or takes fewer: ask [`Drive::fitting`].
    Segments,
    /// The drive has no such command.
    Unsupported,
}

/// Why a command failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CommandError {
    /// The drive reported an error.
    Drive,
    /// The transfer failed on the bus.
    Transfer,
    /// The drive did not answer in time and was reset.
    Timeout,
    /// The drive did not come back from a reset.
    Dead,
}

/// A command's end.
pub type Completion = Result<(), CommandError>;

/// Takes ends of commands, by tag.
pub type Completions<'a> = &'a mut dyn FnMut(u16, Completion);

/// A disk. All calls return at once, but for a reset's start; ends of commands come from [`Drive::on_interrupt`] and
/// [`Drive::on_time`].
pub trait Drive {
    /// What the drive says of itself. It does not change.
    fn information(&self) -> &DriveInformation;

    /// How many bytes from the beginning of `segments`, a multiple of the logical block and at most `limit`, one command can
    /// transfer. 0: the first block has a segment that the device does not reach; use a bounce buffer.
    fn fitting(&self, segments: impl IntoIterator<Item = PhysicalSegment>, limit: u64) -> u64;

    /// Gives the drive a command under a tag that is free. The segments, none but for reads and writes, must stay the device's until
    /// the command's end.
    fn submit(
        &mut self,
        tag: u16,
        command: Command,
        segments: impl IntoIterator<Item = PhysicalSegment>,
    ) -> Result<(), SubmitError>;

    /// To be called at every interrupt of the device.
    fn on_interrupt(&mut self, completions: Completions<'_>);

    /// When, in the clock's milliseconds, [`Drive::on_time`] has to be called at the latest.
    fn deadline(&self) -> Option<u64>;

    /// To be called when the deadline has come, at least: ends commands that the drive does not answer.
    fn on_time(&mut self, completions: Completions<'_>);

    /// Whether the drive is lost for good: every command fails.
    fn is_dead(&self) -> bool;
}
