//! The record of changed guest tables: what the entries of the active entry list say about the pages that they map.

use super::mode::{ACCESSED, DIRTY};
use crate::sync::{AtomicU64, Ordering};

/// Whose shadow tables have to be compared with a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Changed {
    /// Nobody's: the page was not written to by this entry.
    Nobodys,
    /// Those of the processor that flushes: another one may be writing.
    This,
    /// Everybody's. The entry does not tell so again.
    Everybodys,
}

/// What an entry says to a processor that flushes its TLB, with the lock held. If the entry is the processor's own, it forgets
/// that it was used, and the TLB has to be flushed before the guest runs again: until then a write might leave no trace. If it is
/// another's it must not forget, since that one's TLB is as it was.
pub fn learn(entry: &AtomicU64, own: bool) -> Changed {
    if !own {
        // A write that this processor can know of was preceded by the dirty bit.
        let dirty = entry.load(Ordering::Acquire) & DIRTY != 0;
        return if dirty { Changed::This } else { Changed::Nobodys };
    }
    let before = entry.fetch_and(!(ACCESSED | DIRTY), Ordering::AcqRel);
    if before & DIRTY != 0 { Changed::Everybodys } else { Changed::Nobodys }
}
