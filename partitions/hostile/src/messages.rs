//! Messages with capabilities that cannot go along, and waits that end at once.

use crate::authority::Authority;
use crate::neighbour::{DROP, KEEP, LOOK};
use crate::prober::Prober;
use crate::raw::{Answer, any, invoke};
use bulkhead_runtime::abi::{AnyMethod, Error, MessageInfo, Syscall};

fn call(has: &Authority, info: u64) -> Answer {
    any(Syscall::Call as u64, [has.calls, info, 0, 0, 0, 0])
}

fn message(label: u32, slot: u64) -> u64 {
    MessageInfo::new(label).with_capability(slot as u16).0
}

/// Asks all of it.
pub fn run(prober: &Prober, has: &Authority) {
    for (what, slot, error) in [
        ("a capability from an empty slot", has.free, Error::SlotEmpty),
        ("a slot outside its table", 0xfffe, Error::SlotOutOfRange),
        ("its thread, without GRANT", has.thread, Error::MissingRight),
        ("its notification, without GRANT", has.notification, Error::MissingRight),
        ("its own partition, without GRANT", has.partition, Error::MissingRight),
        ("its ports, after the seal", has.ports, Error::Sealed),
        ("its interrupt, after the seal", has.interrupt, Error::Sealed),
        ("its window, after the seal", has.window, Error::Sealed),
    ] {
        prober.refused(format_args!("Call with {what}"), error, call(has, message(DROP, slot)));
    }
    for field in [0x1_0001, 0x2_0000, 0xffff_ffff] {
        let answer = call(has, field << 32);
        prober.refused(format_args!("Call with slot field {field:#x}"), Error::BadArgument, answer);
    }
    // The neighbour's slot is used after the first one.
    let kept = call(has, message(KEEP, has.own));
    if prober.prepared("Call with its memory", kept) {
        let answer = call(has, message(KEEP, has.own));
        prober.refused(format_args!("Call with more than the neighbour takes"), Error::SlotOccupied, answer);
        let revoked = invoke(has.own, AnyMethod::Revoke as u64, [0; 4]);
        if prober.prepared("Revoke of its memory", revoked) {
            // What the neighbour was given is gone.
            let looked = call(has, u64::from(LOOK));
            let error = looked.map(|[_, _, code, ..]| Error::from_number(code));
            let answer = match error {
                Ok(Some(error)) => Err(error),
                Ok(None) => Ok([0; 6]),
                Err(error) => Err(error),
            };
            prober.refused(format_args!("Inspect by the neighbour of what was revoked"), Error::SlotEmpty, answer);
        }
        prober.prepared("Call", call(has, u64::from(DROP)));
    }
    // What is there already is taken first.
    while any(Syscall::Wait as u64, [has.notification, 0, 0, 0, 0, 0]).is_ok() {}
    for deadline in [0, 1] {
        let answer = any(Syscall::Wait as u64, [has.notification, deadline, 0, 0, 0, 0]);
        prober.refused(format_args!("Wait until {deadline}"), Error::TimedOut, answer);
    }
}
