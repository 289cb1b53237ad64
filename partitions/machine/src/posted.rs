//! Posted interrupts (SDM vol. 3, 30.6): vectors for a processor that delivers interrupts by itself, in the format that the
//! hardware takes them from. Where it does not, the kernel does the same before it enters the guest.
//!
//! The descriptor lies in a part of the virtual-APIC page that has no registers. Who posts a vector learns whether it is the
//! first since the last were taken, and then has to see to it that the processor looks.

use crate::atomics::{AtomicU32, Ordering};
use bulkhead_abi::POSTED_INTERRUPTS;

/// Words of the set of vectors; the next one has the outstanding bit.
const SET: usize = 8;
const OUTSTANDING: u32 = 1;
/// Index of the descriptor's first word in the page.
const FIRST: usize = POSTED_INTERRUPTS / 4;

/// The posted interrupts of one processor.
#[derive(Clone, Debug)]
pub struct Posted {
    words: &'static [AtomicU32],
}

impl Posted {
    /// Those in a virtual-APIC page.
    pub fn new(page: &'static [AtomicU32]) -> Self {
        Self { words: page.get(FIRST..FIRST + SET + 1).unwrap_or_default() }
    }

    fn control(&self) -> Option<&AtomicU32> {
        self.words.get(SET)
    }

    /// Posts a vector. True if it is the first since the last were taken.
    #[inline]
    pub fn request(&self, vector: u8) -> bool {
        if let Some(word) = self.words.get(usize::from(vector >> 5)) {
            word.fetch_or(1 << (vector & 31), Ordering::Release);
        }
        self.control().is_some_and(|control| control.swap(OUTSTANDING, Ordering::AcqRel) == 0)
    }

    /// Whether there is something to take.
    #[inline]
    pub fn is_outstanding(&self) -> bool {
        self.control().is_some_and(|control| control.load(Ordering::Acquire) != 0)
    }

    /// Takes all posted vectors, in ascending order.
    pub fn take(&self) -> impl Iterator<Item = u8> + use<> {
        if let Some(control) = self.control() {
            // First, so that what comes later is told of anew.
            control.swap(0, Ordering::AcqRel);
        }
        let words = self.words.get(..SET).unwrap_or_default();
        (0u8..).zip(words).flat_map(|(index, word)| {
            let mut set = if word.load(Ordering::Relaxed) == 0 { 0 } else { word.swap(0, Ordering::Acquire) };
            core::iter::from_fn(move || {
                let bit = set.trailing_zeros() as u8;
                set &= set.wrapping_sub(1);
                (bit < 32).then_some(index << 5 | bit)
            })
        })
    }

    #[cfg(test)]
    pub(crate) fn for_test() -> Self {
        let words: alloc::vec::Vec<_> = (0..=SET).map(|_| AtomicU32::new(0)).collect();
        Self { words: alloc::boxed::Box::leak(words.into_boxed_slice()) }
    }
}
