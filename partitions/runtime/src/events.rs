//! The program's signal bits.
//!
//! Each thread has one notification, and everything that happens to it is a bit of it. Whoever waits takes all bits; those that
//! the runtime takes while it waits for something of its own (room in the console's ring) it keeps for the program here.

use crate::object::Notification;
use crate::status::Status;
use crate::syscall::Slot;
use crate::thread::{self, MAX_THREADS};
use crate::time;
use bulkhead_abi::Error;
use core::sync::atomic::{AtomicU64, Ordering};
use spin::Once;

static NOTIFICATIONS: [AtomicU64; MAX_THREADS] = [const { AtomicU64::new(NONE) }; MAX_THREADS];
static KEPT: [AtomicU64; MAX_THREADS] = [const { AtomicU64::new(0) }; MAX_THREADS];
const NONE: u64 = u64::MAX;

/// Set once, at the entry of the program's first thread (init: once it has made one).
pub fn set_notification(notification: Notification) {
    set_notification_of(0, notification);
}

/// Set once, before a further thread starts.
pub(crate) fn set_notification_of(thread: usize, notification: Notification) {
    if let Some(place) = NOTIFICATIONS.get(thread) {
        place.store(notification.0.0, Ordering::Release);
    }
}

/// The notification of the thread that calls.
pub fn notification() -> Option<Notification> {
    match NOTIFICATIONS.get(thread::index())?.load(Ordering::Acquire) {
        NONE => None,
        slot => Some(Notification(Slot(slot))),
    }
}

/// A notification that nobody signals.
static QUIET: AtomicU64 = AtomicU64::new(NONE);

/// Has [`rest`] sleep by a notification that nobody signals. For init, to which every partition has something to say.
pub fn set_quiet(notification: Notification) {
    QUIET.store(notification.0.0, Ordering::Release);
}

/// Sleeps until the TSC reaches `deadline`. Without [`set_quiet`] a signal ends it before, and is kept.
pub fn rest(deadline: u64) {
    match QUIET.load(Ordering::Acquire) {
        NONE => {
            if let Some(Ok(bits)) = notification().map(|own| own.wait(deadline)) {
                keep(bits);
            }
        }
        quiet => {
            let _ = Notification(Slot(quiet)).wait(deadline);
        }
    }
}

/// Takes the bits that the runtime kept. A program that learns of signals otherwise than by [`wait`] (by `Run` or
/// `ReplyReceive`) asks for them after it has printed.
pub fn take_kept() -> u64 {
    match KEPT.get(thread::index()) {
        Some(kept) if kept.load(Ordering::Relaxed) != 0 => kept.swap(0, Ordering::Relaxed),
        _ => 0,
    }
}

/// Keeps bits for the program's next [`wait`] or [`take_kept`].
pub fn keep(bits: u64) {
    if let Some(kept) = KEPT.get(thread::index()) {
        kept.fetch_or(bits, Ordering::Relaxed);
    }
}

/// The page in which the program's threads show signs of life, and how many ticks may lie between two of a thread.
static WATCHDOG: Once<(Status<'static>, u64)> = Once::new();

/// Set once, at the program's entry.
pub(crate) fn set_watchdog(status: Status<'static>, microseconds: u64) {
    WATCHDOG.call_once(|| (status, time::microseconds(microseconds)));
    live();
}

/// Shows that the thread that calls lives, if the program has a watchdog: for whoever waits otherwise than by [`wait`]. Init asks for it by
/// [`COMMAND_SIGNAL`](crate::status::COMMAND_SIGNAL).
pub fn live() {
    if let Some((status, _)) = WATCHDOG.get() {
        status.live(thread::index());
    }
}

/// Waits for any bit until the TSC reaches `deadline`; returns the bits, 0 if the deadline passed first. A thread of a program with a
/// watchdog shows that it lives.
pub fn wait(deadline: u64) -> u64 {
    let Some((status, period)) = WATCHDOG.get() else {
        return wait_quietly(deadline);
    };
    loop {
        status.live(thread::index());
        let next = time::now().saturating_add(period / 3);
        let bits = wait_quietly(deadline.min(next));
        if bits != 0 || deadline <= next {
            return bits;
        }
    }
}

fn wait_quietly(deadline: u64) -> u64 {
    let kept = take_kept();
    if kept != 0 {
        return kept;
    }
    let Some(notification) = notification() else {
        crate::syscall::yield_now();
        return 0;
    };
    match notification.wait(deadline) {
        Ok(bits) => bits | take_kept(),
        Err(Error::TimedOut) => 0,
        Err(_) => {
            // Without its notification the program can learn of nothing; let others run.
            crate::syscall::yield_now();
            0
        }
    }
}
