//! How long a signal takes to another CPU, one way: from before the signal to after the wake-up, by the two processors'
//! counters, which are synchronous.
//!
//! The channel's memory in words: 0 = the round that the sender started last, 1 = counter when it did, 2 = the round that the
//! receiver has seen.

use crate::statistics::{COUNT, WARM_UP, print};
use bulkhead_runtime::channel::AtomicU64;
use bulkhead_runtime::program::Channel;
use bulkhead_runtime::{events, time};
use core::sync::atomic::Ordering::{Acquire, Release};

/// Rounds, those before the first figure among them.
const ROUNDS: u64 = (COUNT + WARM_UP) as u64;
/// Ticks that the sender gives the receiver to fall asleep in.
const SLEEP: u64 = 20_000;
/// Milliseconds after which the other side is given up.
const PATIENCE: u64 = 10_000;

fn words(channel: &Channel) -> Result<(&'static AtomicU64, &'static AtomicU64, &'static AtomicU64), &'static str> {
    match channel.words() {
        [round, stamp, seen, ..] => Ok((round, stamp, seen)),
        _ => Err("the channel is too small"),
    }
}

/// Wakes the other side again and again.
pub fn send(channel: &Channel) -> Result<(), &'static str> {
    let (round, stamp, seen) = words(channel)?;
    for number in 1..=ROUNDS {
        let asleep = time::now().saturating_add(SLEEP);
        while time::now() < asleep {
            core::hint::spin_loop();
        }
        round.store(number, Release);
        stamp.store(time::now(), Release);
        channel.signal_peer();
        let patience = time::now().saturating_add(time::milliseconds(PATIENCE));
        while seen.load(Acquire) != number {
            if time::now() > patience {
                return Err("the other side was not woken");
            }
            events::wait(patience);
        }
    }
    Ok(())
}

/// Is woken, and takes the figures.
pub fn receive(channel: &Channel) -> Result<(), &'static str> {
    let (round, stamp, seen) = words(channel)?;
    let mut figures = [0; COUNT];
    let mut number = 0;
    while number < ROUNDS {
        let bits = events::wait(time::now().saturating_add(time::milliseconds(PATIENCE)));
        let awake = time::now();
        if bits == 0 {
            return Err("the other side sends nothing");
        }
        if bits & channel.signal == 0 || round.load(Acquire) != number + 1 {
            continue;
        }
        let figure = awake.saturating_sub(stamp.load(Acquire));
        if let Some(place) = (number as usize).checked_sub(WARM_UP).and_then(|index| figures.get_mut(index)) {
            *place = figure;
        }
        number += 1;
        seen.store(number, Release);
        channel.signal_peer();
    }
    print("notify.cross_cpu", &mut figures);
    Ok(())
}
