//! The kernel's algorithms, free of hardware: they run on the host under property tests.
//!
//! Owns: physical-memory references, frame accounting, capabilities, page-table building, shadow paging, scheduler queues, the
//! lock, the protocol by which translations are removed, and the writer of trace rings. Must never: execute a privileged
//! instruction, or know a device.
//!
//! Everything here but the [`lock`] itself and the mailboxes of [`shootdown`] is used under the kernel's one lock: objects
//! consist of [`core::cell::Cell`]s and are reached by shared references. Whatever may take long is cut into steps that
//! answer [`Progress`]; between two steps every structure is valid, and the state that the next step needs lies in the slot or
//! object that it works on.
#![no_std]
// A panic stops the machine, so no partition or device may cause one.
#![cfg_attr(
    not(test),
    warn(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::unreachable,
        clippy::todo,
        clippy::unimplemented
    )
)]

#[cfg(any(test, loom))]
extern crate std;

pub mod engine;
pub mod frame;
pub mod frames;
pub mod lock;
pub mod object;
pub mod page_table;
pub mod phys;
pub mod queue;
pub mod shadow;
pub mod shootdown;
pub mod slot;
pub mod sync;
pub mod table;
pub mod trace;

#[cfg(test)]
mod tests;

/// What a step of a long operation achieved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Progress {
    /// The operation is complete.
    Done,
    /// There is more to do: call again, now or after other work.
    Again,
}

/// Marks one elementary step: a change of a list, a page zeroed, a slot or an entry looked at, a hook called. The tests count
/// them; a step of a long operation has at most a constant number.
#[inline(always)]
pub(crate) fn elementary_step() {
    #[cfg(test)]
    tests::count_elementary_step();
}
