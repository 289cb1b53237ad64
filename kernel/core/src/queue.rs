//! Intrusive queues: lists, a ready queue with priorities, and timers in the order of their deadlines.
//!
//! An object embeds one [`Links`] for each queue that it can be in at a time, and says which with a marker type.

use crate::phys::{KernelObject, Ref};
use core::cell::Cell;
use core::marker::PhantomData;

/// The links of an object in a [`List`] or [`ReadyQueue`]. Zero: in none.
#[repr(C)]
pub struct Links<T> {
    next: Cell<Option<Ref<T>>>,
    previous: Cell<Option<Ref<T>>>,
    /// 0: in no list; otherwise the list's tag.
    place: Cell<u64>,
}

impl<T> Links<T> {
    /// Links of an object that is in no list.
    pub const fn new() -> Self {
        Self {
            next: Cell::new(None),
            previous: Cell::new(None),
            place: Cell::new(0),
        }
    }

    /// Whether the object is in a list.
    #[inline(always)]
    pub fn is_linked(&self) -> bool {
        self.place.get() != 0
    }
}

impl<T> Default for Links<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// An object that can be in the list that `Marker` stands for.
pub trait Linked<Marker>: KernelObject + Sized {
    /// The links for that list.
    fn links(&self) -> &Links<Self>;
}

/// A doubly linked list, oldest first. Zero: empty. Every operation takes constant time.
#[repr(C)]
pub struct List<T, Marker> {
    first: Cell<Option<Ref<T>>>,
    last: Cell<Option<Ref<T>>>,
    marker: PhantomData<Marker>,
}

impl<T: Linked<Marker>, Marker> List<T, Marker> {
    /// An empty list.
    pub const fn new() -> Self {
        Self {
            first: Cell::new(None),
            last: Cell::new(None),
            marker: PhantomData,
        }
    }

    /// Whether nothing is in the list.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.first.get().is_none()
    }

    /// The oldest object.
    #[inline(always)]
    pub fn first(&self) -> Option<Ref<T>> {
        self.first.get()
    }

    /// The object behind `object` in its list.
    pub fn next(object: Ref<T>) -> Option<Ref<T>> {
        object.links().next.get()
    }

    /// Appends an object, unless it is in a list already.
    pub fn push_back(&self, object: Ref<T>) {
        self.push_back_tagged(object, 1);
    }

    /// Puts an object first, unless it is in a list already.
    pub fn push_front(&self, object: Ref<T>) {
        self.push_front_tagged(object, 1);
    }

    /// Takes the oldest object out.
    pub fn pop_front(&self) -> Option<Ref<T>> {
        let object = self.first.get()?;
        self.remove(object);
        Some(object)
    }

    /// Takes an object, which must be in this list or in none, out.
    pub fn remove(&self, object: Ref<T>) {
        let links = object.links();
        if links.place.replace(0) == 0 {
            return;
        }
        let next = links.next.take();
        let previous = links.previous.take();
        match next {
            Some(next) => next.links().previous.set(previous),
            None => self.last.set(previous),
        }
        match previous {
            Some(previous) => previous.links().next.set(next),
            None => self.first.set(next),
        }
    }

    fn push_back_tagged(&self, object: Ref<T>, place: u64) {
        let links = object.links();
        if links.is_linked() {
            return;
        }
        let previous = self.last.replace(Some(object));
        links.place.set(place);
        links.previous.set(previous);
        match previous {
            Some(previous) => previous.links().next.set(Some(object)),
            None => self.first.set(Some(object)),
        }
    }

    fn push_front_tagged(&self, object: Ref<T>, place: u64) {
        let links = object.links();
        if links.is_linked() {
            return;
        }
        let next = self.first.replace(Some(object));
        links.place.set(place);
        links.next.set(next);
        match next {
            Some(next) => next.links().previous.set(Some(object)),
            None => self.last.set(Some(object)),
        }
    }
}

impl<T: Linked<Marker>, Marker> Default for List<T, Marker> {
    fn default() -> Self {
        Self::new()
    }
}

/// Number of priorities.
pub const PRIORITIES: usize = 64;

/// A priority, 0 (lowest) to 63.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Priority(u8);

impl Priority {
    /// The lowest.
    pub const LOWEST: Self = Self(0);
    /// The highest.
    pub const HIGHEST: Self = Self(PRIORITIES as u8 - 1);

    /// The priority with this number.
    pub const fn new(number: u64) -> Option<Self> {
        if number < PRIORITIES as u64 {
            Some(Self(number as u8))
        } else {
            None
        }
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
    /// An empty queue.
    pub const fn new() -> Self {
        Self {
            occupied: Cell::new(0),
            lists: [const { List::new() }; PRIORITIES],
        }
    }

    /// Whether nothing is ready.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.occupied.get() == 0
    }

    /// The highest priority at which something is ready.
    #[inline(always)]
    pub fn highest(&self) -> Option<Priority> {
        self.occupied
            .get()
            .checked_ilog2()
            .map(|level| Priority(level as u8))
    }

    /// The object to run next.
    #[inline(always)]
    pub fn first(&self) -> Option<Ref<T>> {
        self.list(self.highest()?.number()).first()
    }

    /// Appends an object at its priority, unless it is in the queue already.
    pub fn push_back(&self, object: Ref<T>, priority: Priority) {
        self.list(priority.number())
            .push_back_tagged(object, priority.number() + 1);
        self.mark_occupied(object);
    }

    /// Puts an object first at its priority, unless it is in the queue already.
    pub fn push_front(&self, object: Ref<T>, priority: Priority) {
        self.list(priority.number())
            .push_front_tagged(object, priority.number() + 1);
        self.mark_occupied(object);
    }

    /// Takes the object to run next out.
    pub fn pop(&self) -> Option<Ref<T>> {
        let object = self.first()?;
        self.remove(object);
        Some(object)
    }

    /// Takes an object, which must be in this queue or in none, out.
    pub fn remove(&self, object: Ref<T>) {
        let Some(level) = object.links().place.get().checked_sub(1) else {
            return;
        };
        let list = self.list(level);
        list.remove(object);
        if list.is_empty() {
            self.occupied
                .set(self.occupied.get() & !(1 << (level % PRIORITIES as u64)));
        }
    }

    /// Marks the level that an object is queued at, which is an older one if it was in the queue already.
    #[inline(always)]
    fn mark_occupied(&self, object: Ref<T>) {
        let level = object.links().place.get().saturating_sub(1) % PRIORITIES as u64;
        self.occupied.set(self.occupied.get() | 1 << level);
    }

    fn list(&self, level: u64) -> &List<T, Marker> {
        // The index is reduced to the array's length, so it cannot be out of bounds.
        &self.lists[level as usize % PRIORITIES]
    }
}

impl<T: Linked<Marker>, Marker> Default for ReadyQueue<T, Marker> {
    fn default() -> Self {
        Self::new()
    }
}

/// An object's place in a [`TimerQueue`]. Zero: in none.
#[repr(C)]
pub struct Timer<T> {
    deadline: Cell<u64>,
    left: Cell<Option<Ref<T>>>,
    right: Cell<Option<Ref<T>>>,
    parent: Cell<Option<Ref<T>>>,
    /// Length of the shortest way down to a missing child, 0 when not in a queue.
    rank: Cell<u64>,
}

impl<T> Timer<T> {
    /// A timer in no queue.
    pub const fn new() -> Self {
        Self {
            deadline: Cell::new(0),
            left: Cell::new(None),
            right: Cell::new(None),
            parent: Cell::new(None),
            rank: Cell::new(0),
        }
    }

    /// Whether it is in a queue.
    pub fn is_armed(&self) -> bool {
        self.rank.get() != 0
    }

    /// The deadline, while it is in a queue.
    pub fn deadline(&self) -> Option<u64> {
        self.is_armed().then(|| self.deadline.get())
    }
}

impl<T> Default for Timer<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// An object with a timer for the queue that `Marker` stands for.
pub trait Timed<Marker>: KernelObject + Sized {
    /// The timer.
    fn timer(&self) -> &Timer<Self>;
}

/// Timers in the order of their deadlines: a leftist heap, so that arming and disarming n timers takes O(log n) each in the
/// worst case and looking at the earliest takes constant time. Zero: empty.
#[repr(C)]
pub struct TimerQueue<T, Marker> {
    root: Cell<Option<Ref<T>>>,
    marker: PhantomData<Marker>,
}

impl<T: Timed<Marker>, Marker> TimerQueue<T, Marker> {
    /// An empty queue.
    pub const fn new() -> Self {
        Self {
            root: Cell::new(None),
            marker: PhantomData,
        }
    }

    /// The earliest deadline.
    #[inline(always)]
    pub fn earliest(&self) -> Option<u64> {
        self.root.get().map(|object| object.timer().deadline.get())
    }

    /// Sets an object's deadline; replaces the one that it had in this queue.
    pub fn arm(&self, object: Ref<T>, deadline: u64) {
        self.disarm(object);
        let timer = object.timer();
        timer.deadline.set(deadline);
        timer.rank.set(1);
        self.root
            .set(Self::merge(self.root.get(), Some(object), None));
    }

    /// Takes an object, which must be in this queue or in none, out.
    pub fn disarm(&self, object: Ref<T>) {
        let timer = object.timer();
        if timer.rank.replace(0) == 0 {
            return;
        }
        let parent = timer.parent.take();
        let rest = Self::merge(timer.left.take(), timer.right.take(), parent);
        match parent {
            None => self.root.set(rest),
            Some(parent) => {
                let above = parent.timer();
                if above.left.get() == Some(object) {
                    above.left.set(rest);
                } else {
                    above.right.set(rest);
                }
                Self::repair(parent);
            }
        }
    }

    /// Takes the earliest object out, if its deadline is `now` or before.
    pub fn pop_expired(&self, now: u64) -> Option<Ref<T>> {
        let object = self.root.get()?;
        if object.timer().deadline.get() > now {
            return None;
        }
        self.disarm(object);
        Some(object)
    }

    /// Merges two heaps along their right spines, and puts `parent` above the result; O(log n) each way.
    fn merge(a: Option<Ref<T>>, b: Option<Ref<T>>, parent: Option<Ref<T>>) -> Option<Ref<T>> {
        let (Some(mut upper), Some(mut lower)) = (a, b) else {
            let only = a.or(b);
            if let Some(only) = only {
                only.timer().parent.set(parent);
            }
            return only;
        };
        if lower.timer().deadline.get() < upper.timer().deadline.get() {
            core::mem::swap(&mut upper, &mut lower);
        }
        let top = upper;
        top.timer().parent.set(parent);
        // `lower` is to be merged with what is right of `upper`.
        loop {
            match upper.timer().right.get() {
                None => {
                    upper.timer().right.set(Some(lower));
                    lower.timer().parent.set(Some(upper));
                    break;
                }
                Some(right) => {
                    let (first, second) =
                        if lower.timer().deadline.get() < right.timer().deadline.get() {
                            (lower, right)
                        } else {
                            (right, lower)
                        };
                    upper.timer().right.set(Some(first));
                    first.timer().parent.set(Some(upper));
                    upper = first;
                    lower = second;
                }
            }
        }
        // On the spine every rank may have changed, up to the top.
        let mut node = upper;
        loop {
            Self::order_children(node);
            if node == top {
                return Some(top);
            }
            match node.timer().parent.get() {
                Some(parent) => node = parent,
                None => return Some(top),
            }
        }
    }

    /// Restores the order of children and the ranks from `node` upwards, until nothing changes.
    fn repair(mut node: Ref<T>) {
        while Self::order_children(node) {
            match node.timer().parent.get() {
                Some(parent) => node = parent,
                None => return,
            }
        }
    }

    /// Puts the child of higher rank left and computes the rank; answers whether the rank changed.
    fn order_children(node: Ref<T>) -> bool {
        let timer = node.timer();
        let rank = |child: Option<Ref<T>>| child.map_or(0, |child| child.timer().rank.get());
        let (left, right) = (timer.left.get(), timer.right.get());
        if rank(left) < rank(right) {
            timer.left.set(right);
            timer.right.set(left);
        }
        let new = rank(timer.right.get()) + 1;
        timer.rank.replace(new) != new
    }
}

impl<T: Timed<Marker>, Marker> Default for TimerQueue<T, Marker> {
    fn default() -> Self {
        Self::new()
    }
}
