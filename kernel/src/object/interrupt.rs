//! Device interrupts: each is bound to one notification at a time.

use crate::arch::ioapic::{self, MAX_INTERRUPTS};
use crate::arch::traps::vector;
use crate::object::bound;
use crate::object::notification::Notification;
use bulkhead_core::slot::Slot;
use core::cell::UnsafeCell;
use core::mem::MaybeUninit;

/// Bindings: a notification capability an interrupt, derived from the one that bound it.
struct Bindings(UnsafeCell<MaybeUninit<[Slot; MAX_INTERRUPTS as usize]>>);
// SAFETY: used under the kernel lock only.
unsafe impl Sync for Bindings {}
static BINDINGS: Bindings = Bindings(UnsafeCell::new(MaybeUninit::zeroed()));

/// The slot that holds the binding of an interrupt.
pub fn binding(interrupt: u32) -> Option<&'static Slot> {
    // SAFETY: zero is an array of empty slots; a shared reference to cells, under the kernel lock.
    let slots: &[Slot; MAX_INTERRUPTS as usize] = unsafe { (*BINDINGS.0.get()).assume_init_ref() };
    slots.get(interrupt as usize)
}

/// A device interrupt: masks it if it is level-triggered, and signals whom it is bound to.
pub fn arrived(number: u8) {
    let interrupt = u32::from(number.wrapping_sub(vector::FIRST_DEVICE));
    if ioapic::is_level(interrupt) {
        ioapic::set_masked(interrupt, true);
    }
    let Some(slot) = binding(interrupt) else { return };
    match bound::<Notification>(slot) {
        Some(notification) => notification.signal(slot.badge()),
        None => ioapic::set_masked(interrupt, true),
    }
}
