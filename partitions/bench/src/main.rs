//! Measures the kernel from inside, by the time-stamp counter: in the emulator, where it counts instructions, exactly.
//!
//! What a partition measures follows from what it has:
//! - a guest: it is the guest's monitor, measures how long it takes to unmap a page of the guest (`shootdown.ept`), and
//!   sees that it is gone then;
//! - the server's side of an endpoint: it answers calls, and measures nothing;
//! - the second side of a raw channel: it is woken by the first side, and measures how long that took
//!   (`notify.cross_cpu`, if the two are on different CPUs);
//! - anything else: `syscall.null`; `ipc.call_reply` if it is an endpoint's client; and it wakes the second side of its raw
//!   channel, if it has one.
//!
//! Each figure is the plain difference of two readings of the counter around the operation, printed as one JSON object a line.
//! The program must never subtract or leave out anything.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

mod cross_cpu;
mod monitor;
mod shootdown;
mod statistics;

use crate::statistics::{COUNT, WARM_UP, measure, print};
use bulkhead_runtime::abi::MessageInfo;
use bulkhead_runtime::object::Endpoint;
use bulkhead_runtime::plan::{ChannelKind, EndpointSide, Role, StatusReport};
use bulkhead_runtime::syscall::{self, Received};
use bulkhead_runtime::{Program, entry, println};

entry!(main);

fn main(program: Program) {
    let mut endpoints = program.environment().endpoints();
    let endpoint = endpoints.next().and_then(|entry| program.endpoint(entry.name));
    let channel = program.channels().find(|channel| channel.entry.kind == ChannelKind::Raw);
    if let Some((endpoint, entry)) = endpoint
        && entry.side == EndpointSide::Server
    {
        return serve(endpoint);
    }
    let outcome = match &channel {
        _ if program.guest_space().is_some() => shootdown::run(&program),
        Some(channel) if channel.entry.role == Role::Second => cross_cpu::receive(channel),
        _ => {
            null_syscall();
            if let Some((endpoint, _)) = endpoint {
                call_reply(endpoint);
            }
            channel.as_ref().map_or(Ok(()), cross_cpu::send)
        }
    };
    match outcome {
        Ok(()) => program.report(StatusReport::Finished, 0, "measured"),
        Err(text) => {
            println!("{text}");
            program.report(StatusReport::Failed, 1, text);
        }
    }
}

/// Answers every call with the words that it brought.
fn serve(endpoint: Endpoint) {
    let (mut info, mut words) = (MessageInfo::default(), [0; 4]);
    loop {
        match endpoint.reply_receive(info, words) {
            Ok(Received::Message { info: received, words: sent, .. }) => (info, words) = (received, sent),
            // There is nobody to reply to.
            Ok(Received::Signals(_)) => (info, words) = (MessageInfo::default(), [0; 4]),
            Err(error) => return println!("cannot receive: {error:?}"),
        }
    }
}

/// The cheapest call that the kernel has: giving the CPU away while nobody else is ready to take it.
fn null_syscall() {
    let mut figures = [0; COUNT];
    measure(&mut figures, || {
        syscall::yield_now();
        true
    });
    print("syscall.null", &mut figures);
}

/// A call with four words to another partition on the same CPU, and its reply.
fn call_reply(endpoint: Endpoint) {
    // The first call waits until the server has been started, and shows whether it works at all.
    let words = [1, 2, 3, 4];
    match endpoint.call(MessageInfo::new(7), words) {
        Ok((info, reply)) if info.label() == 7 && reply == words => {}
        other => return println!("a call was not answered as it should: {other:?}"),
    }
    let mut figures = [0; COUNT];
    let refused = measure(&mut figures, || endpoint.call(MessageInfo::new(7), words).is_ok());
    if refused != 0 {
        return println!("{refused} of {} calls were refused", COUNT + WARM_UP);
    }
    print("ipc.call_reply", &mut figures);
    println!("{} calls made", 1 + WARM_UP + COUNT);
}
