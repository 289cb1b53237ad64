//! What a processor does while interrupts come: it computes, halts, keeps them out, holds them back, and uses ports.

use crate::instructions::{disable_interrupts, enable_interrupts, halt, write_cr8};
use crate::machine::Ports;
use crate::{apic, smp};

/// The port of the PC's self-test codes, and one that can be read without effect.
const SELF_TEST: u16 = 0x80;
const CONTROL: u16 = 0x61;

/// The order and length of what it does.
pub struct Receiver {
    random: u32,
}

impl Receiver {
    /// One with an order of its own.
    pub fn new(processor: usize) -> Self {
        Self { random: processor as u32 + 1 }
    }

    /// A number without meaning (xorshift32, Marsaglia 2003).
    fn next(&mut self) -> u32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        self.random
    }

    /// Does one thing. It halts only if `may_halt`, asked without interrupts, says that something will still come.
    pub fn step(&mut self, may_halt: impl FnOnce() -> bool) {
        let choice = self.next();
        let rounds = choice >> 8 & 0xff;
        match choice % 6 {
            0 => smp::spin(rounds),
            1 | 2 => {
                disable_interrupts();
                if may_halt() {
                    halt();
                } else {
                    enable_interrupts();
                }
            }
            3 => {
                disable_interrupts();
                smp::spin(rounds);
                enable_interrupts();
            }
            4 => {
                for _ in 0..rounds % 4 {
                    Ports::write_u8(SELF_TEST, rounds as u8);
                    core::hint::black_box(Ports::read_u8(CONTROL));
                }
            }
            // Half by each of the two ways to set it.
            _ if rounds.is_multiple_of(2) => {
                write_cr8(15);
                smp::spin(rounds);
                write_cr8(0);
            }
            _ => {
                apic::write(apic::TASK_PRIORITY, 0x70);
                smp::spin(rounds);
                apic::write(apic::TASK_PRIORITY, 0);
            }
        }
    }
}
