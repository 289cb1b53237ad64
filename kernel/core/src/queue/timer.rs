//! Timers in the order of their deadlines.

use crate::phys::{KernelObject, Ref};
use core::cell::Cell;
use core::marker::PhantomData;

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
        Self { root: Cell::new(None), marker: PhantomData }
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
        self.root.set(Self::merge(self.root.get(), Some(object), None));
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
                    let (first, second) = if lower.timer().deadline.get() < right.timer().deadline.get() {
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
