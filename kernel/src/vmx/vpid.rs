//! Virtual-processor identifiers: tags by which translations of different guests share a processor's TLB.
//!
//! A vCPU invalidates its identifier on every processor that it comes to, so an identifier can be used again at once.

use core::sync::atomic::{AtomicU64, Ordering};

const WORDS: usize = 64;
/// One bit per identifier in use. Identifier 0 is the host's.
static USED: [AtomicU64; WORDS] = {
    let mut words = [const { AtomicU64::new(0) }; WORDS];
    words[0] = AtomicU64::new(1);
    words
};

/// An identifier that no vCPU has; 0, for none, when there is none left: such a vCPU runs without, and slower.
pub fn allocate_vpid() -> u16 {
    for (index, word) in USED.iter().enumerate() {
        let taken =
            word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |bits| (bits != !0).then_some(bits | (bits + 1)));
        if let Ok(before) = taken {
            return (index * 64) as u16 + before.trailing_ones() as u16;
        }
    }
    0
}

/// Returns an identifier, when no processor has the vCPU current any more.
pub fn release_vpid(vpid: u16) {
    if vpid != 0
        && let Some(word) = USED.get(usize::from(vpid) / 64)
    {
        word.fetch_and(!(1 << (vpid % 64)), Ordering::Relaxed);
    }
}
