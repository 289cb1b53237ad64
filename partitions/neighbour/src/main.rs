//! A partition that behaves in the way that the text `behaviour` of its environment names, for ever.
//!
//! It stands beside partitions that must not notice what it does. It must never need more than the manifest gives a partition by
//! itself: whatever else a behaviour uses (a peer, an endpoint, a clock) is named where it is described.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

extern crate alloc;

mod real_time_clock;

use alloc::vec::Vec;
use bulkhead_runtime::abi::{MessageInfo, NO_DEADLINE};
use bulkhead_runtime::syscall::{self, Slot};
use bulkhead_runtime::{Program, die, entry, events, println, time};
use core::hint::black_box;

entry!(main);

fn main(program: Program) {
    let behaviour = program.environment().text("behaviour").unwrap_or("idle");
    if program.environment().header().generation == 0 {
        println!("behaves: {behaviour}");
    }
    match behaviour {
        "idle" => repeat(|_| {
            events::wait(NO_DEADLINE);
        }),
        "compute" => repeat(|turn| {
            black_box(turn);
        }),
        "yield" => repeat(|_| syscall::yield_now()),
        // Calls its peer over the endpoint `calls`, as fast as it can.
        "calls" => calls(&program),
        // The peer of "calls".
        "serve" => serve(&program),
        // Signals every peer that it has.
        "signals" => repeat(|_| program.channels().for_each(|channel| channel.signal_peer())),
        "timers" => repeat(|turn| {
            events::wait(time::now().saturating_add(1_000 + turn % 64 * 500));
        }),
        // Sleeps for a short time, and disturbs: signals every peer, and calls over the endpoint `calls` if it has that.
        "disturbs" => repeat(|turn| {
            events::wait(time::now().saturating_add(2_000 + turn * 7_919 % 40_000));
            program.channels().for_each(|channel| channel.signal_peer());
            if let Some((endpoint, _)) = program.endpoint("calls") {
                let _ = endpoint.call(MessageInfo(0), [turn; 4]);
            }
        }),
        // Wants to be started anew each time.
        "crash" => die("crash as the manifest says"),
        "memory" => memory(),
        // System calls with whatever it has, and with what it has not.
        "refused" => repeat(|turn| {
            let _ = syscall::call(Slot(turn % 97), MessageInfo(turn << 32), [turn; 4]);
        }),
        "text" => repeat(|turn| println!("nobody wants to know that it is at turn {turn}")),
        // Owns `rtc`, the real-time clock, and has it interrupt 8,192 times a second.
        "interrupts" => real_time_clock::interrupts(&program),
        // Owns `rtc`, and reads it for ever.
        "ports" => real_time_clock::reads(&program),
        _ => die("there is no such behaviour"),
    }
}

/// Does something for ever, and tells it how often it has been done.
fn repeat(mut something: impl FnMut(u64)) -> ! {
    let mut turn = 0;
    loop {
        something(turn);
        turn = turn.wrapping_add(1);
    }
}

fn calls(program: &Program) -> ! {
    let Some((endpoint, _)) = program.endpoint("calls") else {
        die("it has no endpoint `calls`");
    };
    repeat(|turn| {
        let _ = endpoint.call(MessageInfo(0), [turn; 4]);
    })
}

fn serve(program: &Program) -> ! {
    let Some((endpoint, _)) = program.endpoint("calls") else {
        die("it has no endpoint `calls`");
    };
    repeat(|_| {
        let _ = endpoint.reply_receive(MessageInfo(0), [0; 4]);
    })
}

/// Takes all the memory that there is, writes to it, and gives it back.
fn memory() -> ! {
    repeat(|_| {
        let mut taken = Vec::<Vec<u8>>::new();
        loop {
            let mut piece = Vec::new();
            if taken.try_reserve(1).is_err() || piece.try_reserve_exact(4096).is_err() {
                break;
            }
            piece.resize(4096, 0x5a);
            taken.push(black_box(piece));
        }
    })
}
