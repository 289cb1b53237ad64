//! Timers in the order of their deadlines.

use crate::phys::{KernelObject, Ref};
use core::cell::Cell;
use core::marker::PhantomData;

/// An object's place in a [`TimerQueue`]. Zero: in none.
#[repr(C)]
pub struct Timer<T> {
    pub(crate) deadline: Cell<u64>,
    left: Cell<Option<Ref<T>>>,
    right: Cell<Option<Ref<T>>>,
    parent: Cell<Option<Ref<T>>>,
    /// Length of the shortest way down to a missing child, 0 when not in a queue.
    rank: Cell<u64>,
}

impl<T> Timer<T> {
    /// Whether it is in a queue.
    pub fn is_armed(&self) -> bool {
        self.rank.get() != 0
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
    /// The earliest deadline.
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
                // Order and ranks may be wrong from here upwards, until nothing changes.
                let mut node = Some(parent);
                while let Some(changed) = node.filter(|node| Self::order_children(*node)) {
                    node = changed.timer().parent.get();
                }
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
    fn merge(mut a: Option<Ref<T>>, mut b: Option<Ref<T>>, parent: Option<Ref<T>>) -> Option<Ref<T>> {
        // Top and bottom of the merged spine.
        let (mut top, mut spine) = (None, None::<Ref<T>>);
        loop {
            // The earlier of the two comes next on the spine; what is right of it is merged with the other.
            let (next, other) = match (a, b) {
                (Some(a), Some(b)) if b.timer().deadline.get() < a.timer().deadline.get() => (b, Some(a)),
                (Some(a), b) => (a, b),
                (None, b) => (b?, None),
            };
            next.timer().parent.set(spine.or(parent));
            match spine {
                Some(above) => above.timer().right.set(Some(next)),
                None => top = Some(next),
            }
            if other.is_none() {
                break;
            }
            (a, b, spine) = (next.timer().right.get(), other, Some(next));
        }
        // On the spine every rank may have changed, up to the top.
        while let Some(node) = spine {
            Self::order_children(node);
            spine = if spine == top { None } else { node.timer().parent.get() };
        }
        top
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
