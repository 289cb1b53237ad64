//! What is written to a sector: words that depend on its number, on the place in it, and on a seed.

use bulkhead_driver::{DmaMemory, SECTOR};

/// Mixes a number (the finalizer of MurmurHash3).
fn mix(value: u64) -> u64 {
    let value = (value ^ value >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let value = (value ^ value >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    value ^ value >> 33
}

/// The words of the sectors from `first` on, in memory of whole sectors.
fn words(first: u64, bytes: usize, seed: u64) -> impl Iterator<Item = (usize, u64)> {
    let in_sector = SECTOR as usize / 8;
    (0..bytes / 8).map(move |index| {
        let sector = first.wrapping_add((index / in_sector) as u64);
        (8 * index, mix(sector.wrapping_mul(in_sector as u64).wrapping_add((index % in_sector) as u64) ^ seed))
    })
}

/// Fills memory with what belongs to the sectors from `first` on.
pub fn fill(memory: &DmaMemory<'_>, first: u64, seed: u64) {
    for (offset, word) in words(first, memory.len(), seed) {
        memory.write_u64(offset, word);
    }
}

/// Whether memory holds what belongs to the sectors from `first` on.
pub fn holds(memory: &DmaMemory<'_>, first: u64, seed: u64) -> bool {
    words(first, memory.len(), seed).all(|(offset, word)| memory.read_u64(offset) == word)
}

/// Whether memory is all zeroes.
pub fn is_zero(memory: &DmaMemory<'_>) -> bool {
    (0..memory.len() / 8).all(|index| memory.read_u64(8 * index) == 0)
}
