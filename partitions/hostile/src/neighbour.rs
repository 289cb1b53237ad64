//! The one who wants to be left alone: memory that nobody else has, and an endpoint at which it answers.

use crate::{Score, score};
use bulkhead_runtime::abi::MessageInfo;
use bulkhead_runtime::channel::AtomicU64;
use bulkhead_runtime::object::{Capability, Memory, Thread};
use bulkhead_runtime::plan::layout;
use bulkhead_runtime::syscall::{Received, Slot};
use bulkhead_runtime::{Program, events, println};
use core::sync::atomic::Ordering;

/// Labels: what to do with a capability that came along.
pub const DROP: u32 = 0;
/// Keep it.
pub const KEEP: u32 = 1;
/// Look at what is kept: the first word of the answer is the error.
pub const LOOK: u32 = 2;

/// Answers until the other one is done, and compares its memory with what it was.
pub fn run(program: &Program) -> Result<(), &'static str> {
    let own = program.environment().memories().find(|memory| memory.name.starts_with("state"));
    let (memory, _) = own.and_then(|own| program.memory(own.name)).ok_or("there is no memory `state`")?;
    let words: &[AtomicU64] =
        memory.atomics(0, memory.len() / size_of::<u64>()).map_err(|_| "its memory is too small")?;
    let mut value = 0x0123_4567_89ab_cdef_u64;
    for word in words {
        value = value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        word.store(value, Ordering::Relaxed);
    }
    let before = hash(words);
    println!("its memory is {before:016x}");
    let done = score(program, Score::Done).ok_or(crate::NO_CHANNEL)?;
    let used = program.environment().entries().iter().map(|entry| entry.slot).max().unwrap_or(layout::FIRST_SLOT);
    let kept = Memory(Slot(used + 1));
    let thread = Thread(Slot(layout::THREAD_SLOT));
    thread.set_receive_slot(kept.slot()).map_err(|_| "it cannot name a slot")?;
    let (endpoint, _) = program
        .environment()
        .endpoints()
        .next()
        .and_then(|one| program.endpoint(one.name))
        .ok_or("there is no endpoint")?;

    let (mut calls, mut reply) = (0u64, [0; 4]);
    while done.load(Ordering::Acquire) == 0 {
        // The text that it printed may have taken signals.
        let received =
            if events::take_kept() == 0 { endpoint.reply_receive(MessageInfo::new(0), reply) } else { continue };
        if let Ok(Received::Message { info, .. }) = received {
            calls += 1;
            reply = [0; 4];
            match info.label() {
                KEEP => {}
                LOOK => reply[0] = kept.inspect().map_or_else(|error| error as u64, |_| 0),
                // There may be none.
                _ => {
                    let _ = kept.delete();
                }
            }
        }
    }
    // What came with the last call, if anything.
    let _ = kept.delete();
    let after = hash(words);
    println!("after {calls} calls its memory is {after:016x}");
    if before == after { Ok(()) } else { Err("its memory is another") }
}

/// FNV-1a, 64 bits, over words.
fn hash(words: &[AtomicU64]) -> u64 {
    let fold = |hash: u64, word: &AtomicU64| (hash ^ word.load(Ordering::Relaxed)).wrapping_mul(0x0100_0000_01b3);
    words.iter().fold(0xcbf2_9ce4_8422_2325, fold)
}
