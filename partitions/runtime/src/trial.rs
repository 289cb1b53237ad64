//! Faults that a manifest has init inject (`inject`), to try what then happens to the others.
//!
//! Init stops the program wherever it is, and starts it at its entry with the number of a [`Fault`] in place of the environment's
//! address. So the fault is committed in the program's own partition, with what it has and at its priority, and by nothing else: a
//! program whose manifest injects nothing never comes here. What the program was doing stays undone, as after a fault of its own.

use crate::heap;
use crate::object::{Capability, Notification, Table};
use crate::program::{Channel, Program};
use crate::syscall::Slot;
use crate::{die, die_with};
use bulkhead_abi::{Error, Rights};
use bulkhead_plan::Fault;
use core::sync::atomic::Ordering;

/// What floods text channels: many lines, and bytes that mean something to a terminal.
const NOISE: &[u8] = b"\x1b[2J\r\n\n\x07flood\xff\x00\n";
/// Rounds between two in which all words of the channels are overwritten.
const ROUNDS: u64 = 16;

/// Commits a fault.
pub(crate) fn commit(fault: Fault, program: &Program) -> ! {
    match fault {
        Fault::Exhaust => exhaust(program),
        Fault::Flood => flood(program),
        Fault::Loop => loop {
            core::hint::spin_loop();
        },
        // Init does the other ones itself.
        Fault::Crash | Fault::None | Fault::Kill | Fault::Hang => die("a crash that the manifest has injected"),
    }
}

/// Allocates all memory that there is, then makes capabilities, of what it may make some of, until there is no slot; and ends as a program
/// does that has neither.
fn exhaust(program: &Program) -> ! {
    let bytes = heap::exhaust();
    let mut made = 0;
    let mut last = None;
    let header = program.environment().header();
    let own = [header.notification_slot, header.thread_slot];
    let entries = program.environment().entries().iter().map(|entry| entry.slot).filter(|slot| *slot != 0);
    'sources: for source in own.into_iter().chain(entries) {
        for destination in 0.. {
            match Notification(Slot(source)).derive(Slot(destination), Rights::all(), 0, Table::Own) {
                Ok(()) => made += 1,
                Err(Error::SlotOccupied) => {}
                Err(error) => {
                    last = Some(error);
                    if error == Error::SlotOutOfRange {
                        break 'sources;
                    }
                    break;
                }
            }
        }
    }
    die_with(format_args!("exhausted: {bytes} bytes of heap, {made} new capabilities, then {last:?}"))
}

/// Fills and overwrites all channels, and signals everybody, without end.
fn flood(program: &Program) -> ! {
    let init = program.environment().status_pages().next().map(|page| Notification(Slot(page.slot)));
    for round in 1.. {
        for channel in program.channels() {
            if round % ROUNDS == 0 {
                overwrite(&channel, round);
            } else if let Some(mut text) = channel.text() {
                while text.send(NOISE).bytes != 0 {}
            }
            channel.signal_peer();
        }
        if let Some(init) = init {
            // Init outlives every partition.
            let _ = init.signal(0);
        }
    }
    die("a flood ends never")
}

fn overwrite(channel: &Channel, round: u64) {
    for (index, word) in (0u64..).zip(channel.words()) {
        word.store((index ^ round).wrapping_mul(0x9e37_79b9_7f4a_7c15), Ordering::Relaxed);
    }
}
