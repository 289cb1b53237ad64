//! Intrusive queues: lists, a ready queue with priorities, and timers in the order of their deadlines.
//!
//! An object embeds one [`Links`] or [`Timer`] for each queue that it can be in at a time, and says which with a marker type.

mod list;
mod ready;
mod timer;

pub use list::{Linked, Links, List};
pub use ready::{Priority, ReadyQueue};
pub use timer::{Timed, Timer, TimerQueue};
