//! A cyclic real-time partition.
//!
//! It does the same work in each of its windows, for as many as the text `windows` of its environment says, and then tells two things:
//! how late the windows began, in ticks of the time-stamp counter after the instant that the manifest names; and a hash of all that it
//! could observe in them: messages, signals, its own timer, and the time of each step since the window's first instruction. If nobody
//! can be heard through time or through the kernel, the hash is the same whatever the others on the CPU do.
//!
//! With the text `role` = `source` it sends a message on the channel `messages` in each of its windows instead, and with `server` it
//! serves the endpoint `calls`.
//! It must never observe anything of which it cannot say what it hashed.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

extern crate alloc;

mod lateness;
mod observation;
mod server;

use bulkhead_runtime::plan::{FrameSlot, StatusReport};
use bulkhead_runtime::program::Channel;
use bulkhead_runtime::{Program, die, entry, events, println, time};
use core::sync::atomic::Ordering;
use lateness::Lateness;
use observation::Observation;

entry!(main);

/// Windows that are observed, unless the environment says otherwise.
const WINDOWS: u64 = 200;
/// Message with which observation begins: by then everybody runs.
const FIRST_MESSAGE: u64 = 16;
/// Steps of computing in a window, and turns of each.
const STEPS: u64 = 16;
const TURNS: u64 = 200;
/// Ticks that it sleeps in the middle of its window.
const SLEEP: u64 = 10_000;

fn main(program: Program) {
    let Some(slot) = program.environment().frame_slots().next() else {
        die("it has no window: see [cpu.N] in the manifest");
    };
    let cycle = Cycle::of(slot);
    if program.environment().text("role") == Some("server") {
        server::serve(&program, &cycle);
    }
    let Some(channel) = program.channel("messages") else {
        die("it has no channel `messages`");
    };
    if program.environment().text("role") == Some("source") {
        send(&cycle, &channel);
    }
    let windows = program.environment().text("windows").and_then(|text| text.parse().ok()).unwrap_or(WINDOWS);
    let Some(mut lateness) = usize::try_from(windows).ok().and_then(Lateness::new) else {
        die("it has too little memory for so many windows");
    };
    let mut observation = Observation::new();
    let mut observed = 0;
    while observed < windows {
        let (start, bits) = cycle.sleep();
        let first = time::now();
        let message = channel.words().first().map_or(0, |word| word.load(Ordering::Acquire));
        if message < FIRST_MESSAGE {
            continue;
        }
        lateness.add(first.saturating_sub(start));
        observe(&mut observation, first, bits, message);
        observed += 1;
    }
    let [least, median, most_of, most] = lateness.figures();
    println!(
        "window starts: {observed} late by {least} at least, {median} median, {most_of} at 99.9 %, {most} at most"
    );
    println!("observed: {observed} windows, hash {}", observation.finish());
    program.report(StatusReport::Finished, 0, "observed its windows");
}

/// One window's work. Everything that it can learn goes into the hash.
fn observe(observation: &mut Observation, first: u64, bits: u64, message: u64) {
    observation.add(bits);
    observation.add(message);
    let mut value = message;
    for _ in 0..STEPS {
        for turn in 0..TURNS {
            value = core::hint::black_box(value.wrapping_mul(6364136223846793005).wrapping_add(turn));
        }
        observation.add(time::now().saturating_sub(first));
    }
    observation.add(events::wait(time::now().saturating_add(SLEEP)));
    observation.add(time::now().saturating_sub(first));
}

/// Sends a message in each window.
fn send(cycle: &Cycle, channel: &Channel) -> ! {
    for number in 1.. {
        cycle.sleep();
        if let Some(word) = channel.words().first() {
            word.store(number, Ordering::Release);
        }
        channel.signal_peer();
    }
    die("it has sent every number");
}

/// When its windows begin.
struct Cycle {
    /// Ticks of a frame, and from its beginning to the window's, and its end.
    length: u64,
    offset: u64,
    end: u64,
}

impl Cycle {
    fn of(slot: FrameSlot) -> Self {
        let [length, offset, end] = [slot.frame_us, slot.start_us, slot.end_us].map(time::microseconds);
        Self { length: length.max(1), offset, end }
    }

    /// Whether its window is open now.
    fn is_open(&self) -> bool {
        (self.offset..self.end).contains(&(time::now() % self.length))
    }

    /// Ticks that are left of the window that is open now.
    fn left(&self) -> u64 {
        self.end.saturating_sub(time::now() % self.length)
    }

    /// Sleeps until the next window begins. Answers the instant that the manifest names, and the signals that have come.
    fn sleep(&self) -> (u64, u64) {
        let frame = time::now() - time::now() % self.length;
        let mut start = frame.saturating_add(self.offset);
        if start <= time::now() {
            start = start.saturating_add(self.length);
        }
        let mut bits = 0;
        while time::now() < start {
            bits |= events::wait(start);
        }
        (start, bits)
    }
}
