//! The ready queue: 64 lists, and a word that says which are not empty.

use super::{Linked, List};
use crate::phys::Ref;
use core::cell::Cell;

/// Number of priorities.
const PRIORITIES: usize = 64;

/// A priority, 0 (lowest) to 63.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Priority(u8);

impl Priority {
    /// The highest.
    pub const HIGHEST: Self = Self(PRIORITIES as u8 - 1);

    /// The priority with this number.
    pub const fn new(number: u64) -> Option<Self> {
        if number < PRIORITIES as u64 { Some(Self(number as u8)) } else { None }
    }

    /// Its number.
    pub const fn number(self) -> u64 {
        self.0 as u64
    }
}

/// The ready objects of a CPU, by priority, first come first served within one. Zero: empty. Every operation takes constant time.
#[repr(C)]
pub struct ReadyQueue<T, Marker> {
    /// Bit n: the list of priority n is not empty.
    occupied: Cell<u64>,
    lists: [List<T, Marker>; PRIORITIES],
}

impl<T: Linked<Marker>, Marker> ReadyQueue<T, Marker> {
    /// The highest priority at which something is ready.
    pub fn highest(&self) -> Option<Priority> {
        self.occupied.get().checked_ilog2().map(|level| Priority(level as u8))
    }

    /// Whether something of this priority or a higher one is ready.
    pub fn has_at_least(&self, priority: Priority) -> bool {
        self.occupied.get() >> (priority.0 & 63) != 0
    }

    /// Puts an object first or last at its priority, unless it is in the queue already.
    pub fn push(&self, object: Ref<T>, priority: Priority, first: bool) {
        self.list(priority.number()).push(object, first, priority.number() + 1);
        // The level is an older one if it was in the queue already.
        let level = object.links().place.get().saturating_sub(1) % PRIORITIES as u64;
        self.occupied.set(self.occupied.get() | 1 << level);
    }

    /// Takes the object to run next out.
    pub fn pop(&self) -> Option<Ref<T>> {
        let object = self.list(self.highest()?.number()).first()?;
        self.remove(object);
        Some(object)
    }

    /// Takes an object, which must be in this queue or in none, out.
    pub fn remove(&self, object: Ref<T>) {
        let Some(level) = object.links().place.get().checked_sub(1) else { return };
        let list = self.list(level);
        list.remove(object);
        if list.is_empty() {
            self.occupied.set(self.occupied.get() & !(1 << (level % PRIORITIES as u64)));
        }
    }

    #[expect(clippy::indexing_slicing, reason = "the index is reduced to the array's length")]
    fn list(&self, level: u64) -> &List<T, Marker> {
        &self.lists[level as usize % PRIORITIES]
    }
}
