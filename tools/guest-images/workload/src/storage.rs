//! A disk is written and verified, past the cache, in requests of mixed sizes.

use core::ffi::CStr;

use crate::{
    linux::{Disk, Failure},
    mix::mix,
};

/// What the contents are made of, with the place of each word.
const SEED: u64 = 0x626c_6f63_6b73;
const KIB: usize = 1024;
const MIB: usize = KIB * KIB;
/// Sizes of requests, in turn, when it is written and when it is read.
const WRITES: [usize; 6] = [4 * KIB, 64 * KIB, 512, 256 * KIB, 1536, MIB];
const READS: [usize; 5] = [512 * KIB, 8 * KIB, 128 * KIB, 2560, MIB];

/// Writes the first `mib` MiB of the disk at `path`, and reads them back. Returns their bytes.
pub fn run(path: &CStr, mib: usize) -> Result<usize, Failure> {
    let length = mib * MIB;
    let mut disk = Disk::open_to_write(path, MIB)?;
    let mut offset = 0;
    for size in WRITES.into_iter().cycle() {
        let size = size.min(length - offset);
        for (place, word) in (offset as u64 / 8..).zip(disk.buffer().iter_mut().take(size / 8)) {
            *word = mix(SEED, place);
        }
        disk.write(offset, size)?;
        offset += size;
        if offset == length {
            break;
        }
    }
    disk.flush()?;
    let mut offset = 0;
    for size in READS.into_iter().cycle() {
        let size = size.min(length - offset);
        disk.buffer().fill(0);
        disk.read(offset, size)?;
        let mut words = (offset as u64 / 8..).zip(disk.buffer().iter().take(size / 8));
        if let Some((place, _)) = words.find(|(place, word)| **word != mix(SEED, *place)) {
            return Err(Failure::wrong("word of the disk:", place));
        }
        offset += size;
        if offset == length {
            return Ok(length);
        }
    }
    Ok(length)
}
