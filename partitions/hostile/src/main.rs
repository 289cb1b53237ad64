//! A partition that asks for everything that it may not have, and expects to be refused.
//!
//! Its setting `role` says what it does:
//! - `probe`: asks one thing after the other. A system call must be answered with the error that belongs to it. An instruction or an
//!   access that the processor must refuse ends the program; init reports the fault and starts it anew, and it goes on with the next;
//! - `random`: makes `calls` system calls with random numbers, slots and arguments, from the `seed` on;
//! - in a guest's monitor, where there are no settings: runs the guest from random states, and calls at random;
//! - `neighbour`: has memory that must not change, and answers the other's calls.
//!
//! The two have a raw channel, in whose memory the score is; it outlives the prober. It must never succeed with anything.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

extern crate alloc;

mod access;
mod arguments;
mod authority;
mod calls;
mod faults;
mod instruction;
mod messages;
mod monitor;
mod neighbour;
mod prober;
mod random;
mod raw;
mod stale;

use crate::authority::Authority;
use crate::prober::Prober;
use bulkhead_runtime::channel::AtomicU64;
use bulkhead_runtime::plan::{ChannelKind, StatusReport};
use bulkhead_runtime::program::Channel;
use bulkhead_runtime::{Program, entry, println};
use core::sync::atomic::Ordering;

entry!(main);

/// What is wrong with a manifest that lacks it.
pub const NO_CHANNEL: &str = "there is no channel to a neighbour";

/// Words of the channel to the neighbour.
#[derive(Clone, Copy)]
pub enum Score {
    /// System calls that have been asked for.
    Calls = 0,
    /// Faults that have been asked for.
    Faults = 1,
    /// 1: the neighbour is to look at its memory, and to end.
    Done = 2,
    /// What was not refused as it must be.
    Failures = 3,
}

/// The channel to the neighbour.
pub fn channel(program: &Program) -> Option<Channel> {
    program.channels().find(|channel| channel.entry.kind == ChannelKind::Raw)
}

/// A word of the channel to the neighbour.
pub fn score(program: &Program, word: Score) -> Option<&'static AtomicU64> {
    channel(program)?.words().get(word as usize)
}

/// Tells the neighbour that this program is done.
fn end(program: &Program) -> Result<(), &'static str> {
    score(program, Score::Done).ok_or(NO_CHANNEL)?.store(1, Ordering::Release);
    channel(program).ok_or(NO_CHANNEL)?.signal_peer();
    Ok(())
}

fn main(program: Program) {
    let outcome = match program.environment().text("role") {
        Some("probe") => probe(&program),
        Some("random") => random::run(&program).and_then(|()| end(&program)),
        Some("neighbour") => neighbour::run(&program),
        None if program.guest_space().is_some() => monitor::run(&program),
        _ => Err("there is no such role"),
    };
    match outcome {
        Ok(()) => program.report(StatusReport::Finished, 0, "nothing was given away"),
        Err(text) => {
            println!("{text}");
            program.report(StatusReport::Failed, 0, text);
        }
    }
}

/// Asks for everything; after a fault goes on where it was.
fn probe(program: &Program) -> Result<(), &'static str> {
    let authority = Authority::find(program).ok_or("the manifest gives too little to try with")?;
    authority.tidy();
    let prober = Prober::new(program).ok_or(NO_CHANNEL)?;
    if program.environment().header().generation == 0 {
        calls::run(&prober, &authority);
        arguments::run(&prober, &authority);
        messages::run(&prober, &authority);
        stale::run(&prober, &authority);
    }
    faults::run(&prober, program, &authority)?;
    println!("{} probes, {} not refused", prober.asked(), prober.failures());
    end(program)?;
    if prober.failures() == 0 { Ok(()) } else { Err("something was not refused") }
}
