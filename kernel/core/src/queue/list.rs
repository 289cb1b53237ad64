//! Doubly linked lists.

use crate::phys::{KernelObject, Ref};
use core::cell::Cell;
use core::marker::PhantomData;

/// The links of an object in a [`List`] or [`super::ReadyQueue`]. Zero: in none.
#[repr(C)]
pub struct Links<T> {
    next: Cell<Option<Ref<T>>>,
    previous: Cell<Option<Ref<T>>>,
    /// 0: in no list; otherwise the list's tag.
    pub(super) place: Cell<u64>,
}

impl<T> Links<T> {
    /// Whether the object is in a list.
    pub fn is_linked(&self) -> bool {
        self.place.get() != 0
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
    /// Whether nothing is in the list.
    pub fn is_empty(&self) -> bool {
        self.first.get().is_none()
    }

    /// The oldest object.
    pub fn first(&self) -> Option<Ref<T>> {
        self.first.get()
    }

    /// The object behind `object` in its list.
    pub fn next(object: Ref<T>) -> Option<Ref<T>> {
        object.links().next.get()
    }

    /// Appends an object, unless it is in a list already.
    pub fn push_back(&self, object: Ref<T>) {
        self.push(object, false, 1);
    }

    /// Puts an object first, unless it is in a list already.
    pub fn push_front(&self, object: Ref<T>) {
        self.push(object, true, 1);
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
        if links.place.replace(0) != 0 {
            self.join(links.previous.take(), links.next.take());
        }
    }

    /// Puts an object first or last, unless it is in a list already. `place` is not 0.
    pub(super) fn push(&self, object: Ref<T>, first: bool, place: u64) {
        if !object.links().is_linked() {
            object.links().place.set(place);
            let (previous, next) = if first { (None, self.first.get()) } else { (self.last.get(), None) };
            self.join(previous, Some(object));
            self.join(Some(object), next);
        }
    }

    /// Has `next` follow upon `previous`; nothing stands for the ends of the list.
    #[inline(always)]
    fn join(&self, previous: Option<Ref<T>>, next: Option<Ref<T>>) {
        match previous {
            Some(previous) => previous.links().next.set(next),
            None => self.first.set(next),
        }
        match next {
            Some(next) => next.links().previous.set(previous),
            None => self.last.set(previous),
        }
    }
}
