//! Requests and replies: every interrupt is answered by another from its handler, and whoever waits for it is halted.

use crate::instructions::{disable_interrupts, enable_interrupts, halt};
use crate::interrupts;
use crate::ledger::{self, Message};
use crate::smp;

/// Vectors of requests and replies; the sender's index is added.
const REQUEST: usize = 0xb0;
const REPLY: usize = 0xc0;

/// Sends `requests` requests to the other processors in turn, while they do the same.
pub fn exchange(processor: usize, requests: u32) {
    let partners = smp::count() - 1;
    for request in 0..requests as usize {
        let partner = (processor + 1 + request % partners) % smp::count();
        let reply = REPLY + partner;
        let before = interrupts::count(processor, reply);
        ledger::send(&Message::fixed(REQUEST + processor, partner));
        loop {
            disable_interrupts();
            if interrupts::count(processor, reply) != before {
                break;
            }
            halt();
        }
        enable_interrupts();
    }
}

/// Answers a request.
pub fn on_interrupt(processor: usize, vector: usize) {
    if (REQUEST..REQUEST + smp::MAXIMUM).contains(&vector) {
        ledger::send(&Message::fixed(REPLY + processor, vector - REQUEST));
    }
}
