//! What was sent, against which what came is held: nothing may be lost, and nothing doubled.
//!
//! Interrupts of one vector that are pending at one processor merge (SDM vol. 3, 11.8.4), so each sender has vectors of its own,
//! and sends none again before the former has come.

use crate::interrupts::{self, VECTORS};
use crate::smp::{self, MAXIMUM};
use crate::{apic, println};
use core::sync::atomic::{AtomicU32, Ordering};

/// How often each vector was sent, by the processor that must get it.
static SENT: [[AtomicU32; VECTORS]; MAXIMUM] = [const { [const { AtomicU32::new(0) }; VECTORS] }; MAXIMUM];
/// How often each vector was sent to whichever processor has the lowest priority.
static SENT_TO_ANY: [AtomicU32; VECTORS] = [const { AtomicU32::new(0) }; VECTORS];

/// An interrupt that is to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Message {
    /// Its vector; 2 for NMIs.
    pub vector: usize,
    /// The command register's value.
    pub command: u32,
    /// The destination field.
    pub destination: u32,
    /// The processors that it is for, a bit each.
    pub targets: u32,
    /// One of the targets gets it, rather than all.
    pub is_for_any: bool,
    /// By the x2APIC's register for interrupts to oneself.
    pub is_by_self_register: bool,
}

impl Message {
    /// An interrupt for one processor, by its identifier.
    pub fn fixed(vector: usize, target: usize) -> Self {
        Self {
            vector,
            command: apic::ASSERT | vector as u32,
            destination: smp::identifier(target),
            targets: 1 << target,
            is_for_any: false,
            is_by_self_register: false,
        }
    }

    fn targets(&self) -> impl Iterator<Item = usize> {
        let targets = self.targets;
        (0..smp::count()).filter(move |target| targets >> target & 1 != 0)
    }

    /// Whether everything that was sent before with this vector to these targets has come.
    pub fn can_be_sent(&self) -> bool {
        if self.is_for_any {
            let came: u32 = (0..smp::count()).map(|target| interrupts::count(target, self.vector)).sum();
            return came == SENT_TO_ANY[self.vector].load(Ordering::SeqCst);
        }
        self.targets()
            .all(|target| interrupts::count(target, self.vector) == SENT[target][self.vector].load(Ordering::SeqCst))
    }
}

/// Enters a message in the ledger, and sends it.
pub fn send(message: &Message) {
    if message.is_for_any {
        SENT_TO_ANY[message.vector].fetch_add(1, Ordering::SeqCst);
    } else {
        for target in message.targets() {
            SENT[target][message.vector].fetch_add(1, Ordering::SeqCst);
        }
    }
    if message.is_by_self_register {
        apic::send_self_register(message.vector as u32);
    } else {
        apic::send(message.command, message.destination);
    }
}

/// Sums of a mode, or of all.
#[derive(Clone, Copy, Default)]
pub struct Sums {
    pub sent: u64,
    pub received: u64,
    pub lost: u64,
    pub doubled: u64,
}

impl Sums {
    fn compare(&mut self, sent: u32, received: u32) -> bool {
        self.sent += u64::from(sent);
        self.received += u64::from(received);
        self.lost += u64::from(sent.saturating_sub(received));
        self.doubled += u64::from(received.saturating_sub(sent));
        sent == received
    }

    /// Adds another's.
    pub fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.received += other.received;
        self.lost += other.lost;
        self.doubled += other.doubled;
    }
}

/// Compares what was sent with what came, says what differs, and begins anew.
pub fn close() -> Sums {
    let mut sums = Sums::default();
    for vector in 0..VECTORS {
        let came = |target: usize| interrupts::count(target, vector);
        let to_any = SENT_TO_ANY[vector].swap(0, Ordering::SeqCst);
        if to_any != 0 {
            let total = (0..smp::count()).map(came).sum();
            if !sums.compare(to_any, total) {
                println!("ipi: vector {vector:#x}: {to_any} sent to any, {total} received");
            }
            continue;
        }
        for (target, sent) in SENT.iter().enumerate().take(smp::count()) {
            let (sent, received) = (sent[vector].swap(0, Ordering::SeqCst), came(target));
            if !sums.compare(sent, received) {
                println!("ipi: vector {vector:#x} to processor {target}: {sent} sent, {received} received");
            }
        }
    }
    interrupts::clear();
    sums
}
