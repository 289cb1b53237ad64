//! Futexes, which processes could share too.

#![allow(unsafe_code)]

use core::{ptr, sync::atomic::AtomicU32};

use super::{
    Failure,
    call::{FUTEX, call},
};

const WAIT: usize = 0;
const WAKE: usize = 1;
/// Error numbers: the word had another value already; a signal came.
const AGAIN: usize = 11;
const INTERRUPTED: usize = 4;
/// Seconds after which somebody must have called a wake-up lost; far longer than any turn takes.
const LIMIT_SECONDS: u64 = 60;

/// Waits until it is woken; returns at once if the word does not have this value.
pub fn futex_wait(word: &AtomicU32, value: u32) -> Result<(), Failure> {
    let limit = [LIMIT_SECONDS, 0];
    let arguments = [word.as_ptr().addr(), WAIT, value as usize, ptr::from_ref(&limit).addr(), 0, 0];
    // SAFETY: the kernel reads the word and the time limit, both of which are valid.
    match unsafe { call("futex", FUTEX, arguments) } {
        Ok(_) | Err(Failure::Call(_, AGAIN | INTERRUPTED)) => Ok(()),
        Err(failure) => Err(failure),
    }
}

/// Wakes at most `most` of those who wait at the word.
pub fn futex_wake(word: &AtomicU32, most: u32) -> Result<(), Failure> {
    let arguments = [word.as_ptr().addr(), WAKE, most as usize, 0, 0, 0];
    // SAFETY: the kernel uses the word's address alone.
    unsafe { call("futex", FUTEX, arguments) }.map(drop)
}
