//! The high precision event timer (IA-PC HPET specification 1.0a) with three comparators of 64 bits.
//!
//! The main counter is derived from the time stamp counter, so nothing counts: reading computes, and a comparator knows
//! when it is reached next.

mod comparator;

use super::clock::{Clock, earlier};
use super::interrupts::{InterruptControllers, TIMER_REQUEST};
use super::message::Deliver;
use super::rtc;
use crate::bus::Width;
use comparator::Comparator;

/// Guest-physical address of the registers.
pub const BASE: u64 = 0xfed0_0000;
/// First address behind them.
pub const END: u64 = BASE + 0x400;
/// Comparators.
const COMPARATORS: usize = 3;
/// Low half of the capability register: revision 1, the last comparator's number, a 64-bit counter, legacy replacement,
/// vendor Intel.
pub const IDENTITY: u32 = 1 | (COMPARATORS as u32 - 1) << 8 | 1 << 13 | 1 << 15 | 0x8086 << 16;

/// Frequency of the main counter in Hz, and its period in femtoseconds: as in Intel's chip sets.
const FREQUENCY: u64 = 14_318_180;
const PERIOD: u64 = 69_841_279;

/// Offsets of registers.
mod register {
    pub const CAPABILITIES: u64 = 0x000;
    pub const CONFIGURATION: u64 = 0x010;
    pub const STATUS: u64 = 0x020;
    pub const COUNTER: u64 = 0x0f0;
    /// The first comparator's registers; the others' follow at intervals of 0x20.
    pub const COMPARATORS: u64 = 0x100;
}

/// Configuration register: the counter counts, and comparators interrupt.
const ENABLED: u64 = 1 << 0;
/// Configuration register: comparators 0 and 1 replace interval timer and real-time clock.
const LEGACY: u64 = 1 << 1;

/// Where a comparator's interrupt goes: numbers below 32 are inputs of the I/O APIC, from 32 up ISA interrupt requests.
const FIRST_REQUEST: u8 = 32;

/// The timer.
#[derive(Clone, Debug)]
pub struct Hpet {
    clock: Clock,
    configuration: u64,
    /// What the counter is ahead of the clock while it counts, its value while it does not.
    counter: u64,
    comparators: [Comparator; COMPARATORS],
    /// Level-triggered comparators that were reached, by number.
    status: u8,
    /// Edge-triggered ones, until their edge was sent.
    edges: u8,
    /// Lines that are held high, by number.
    lines: u64,
}

impl Hpet {
    /// After reset: halted at 0.
    pub const fn new(tsc_hertz: u64) -> Self {
        Self {
            clock: Clock::new(FREQUENCY, tsc_hertz),
            configuration: 0,
            counter: 0,
            comparators: [const { Comparator::new() }; COMPARATORS],
            status: 0,
            edges: 0,
            lines: 0,
        }
    }

    /// Whether interval timer and real-time clock do not interrupt, since comparators do in their place.
    pub const fn replaces_legacy(&self) -> bool {
        self.configuration & LEGACY != 0
    }

    const fn is_enabled(&self) -> bool {
        self.configuration & ENABLED != 0
    }

    fn count(&self, now: u64) -> u64 {
        if self.is_enabled() { self.clock.units(now).wrapping_add(self.counter) } else { self.counter }
    }

    /// Reads at `offset` from [`BASE`]; an aligned access of 4 or 8 bytes is what there should be.
    /// [`advance`](Self::advance) was called for `now`.
    pub fn read(&self, offset: u64, width: Width, now: u64) -> u64 {
        let value = match offset & !7 {
            register::CAPABILITIES => PERIOD << 32 | u64::from(IDENTITY),
            register::CONFIGURATION => self.configuration,
            register::STATUS => u64::from(self.status),
            register::COUNTER => self.count(now),
            register => match Self::comparator_at(register) {
                Some((index, within)) => self.comparators.get(index).map_or(0, |comparator| match within {
                    0x00 => comparator.configuration(),
                    0x08 => comparator.value(),
                    _ => 0,
                }),
                None => 0,
            },
        };
        (value >> (8 * (offset & 7))) & width.mask()
    }

    /// Writes at `offset` from [`BASE`]. [`advance`](Self::advance) was called for `now`; [`tell`](Self::tell) is to
    /// be.
    pub fn write(&mut self, offset: u64, width: Width, value: u64, now: u64) {
        let shift = 8 * (offset & 7);
        let mask = width.mask() << shift;
        let written = value << shift & mask;
        let merge = |old: u64| old & !mask | written;
        match offset & !7 {
            register::CONFIGURATION => {
                let count = self.count(now);
                self.configuration = merge(self.configuration) & (ENABLED | LEGACY);
                self.counter = if self.is_enabled() { count.wrapping_sub(self.clock.units(now)) } else { count };
                (0..COMPARATORS).for_each(|index| self.restart(index, now));
            }
            register::STATUS => self.status &= !(written as u8),
            // While it counts, the specification leaves undefined what a write does.
            register::COUNTER if !self.is_enabled() => self.counter = merge(self.counter),
            register => {
                if let Some((index, within)) = Self::comparator_at(register) {
                    self.write_comparator(index, within, merge);
                    self.restart(index, now);
                }
            }
        }
    }

    fn write_comparator(&mut self, index: usize, within: u64, merge: impl Fn(u64) -> u64) {
        let Some(comparator) = self.comparators.get_mut(index) else {
            return;
        };
        match within {
            0x00 => {
                comparator.set_configuration(merge(comparator.configuration()));
                if !comparator.is_level() {
                    self.status &= !(1 << index);
                }
            }
            0x08 => comparator.set_value(merge),
            _ => {}
        }
    }

    /// The comparator whose register this is, and its offset among the comparator's.
    fn comparator_at(register: u64) -> Option<(usize, u64)> {
        let offset = register.checked_sub(register::COMPARATORS)?;
        let index = (offset / 0x20) as usize;
        (index < COMPARATORS).then_some((index, offset % 0x20))
    }

    /// Lets a comparator find out anew when it is reached.
    fn restart(&mut self, index: usize, now: u64) {
        let (enabled, count, clock) = (self.is_enabled(), self.count(now), self.clock.units(now));
        match self.comparators.get_mut(index) {
            Some(comparator) if enabled => comparator.start(count, clock),
            Some(comparator) => comparator.stop(),
            None => {}
        }
    }

    /// Tells the time. [`tell`](Self::tell) is to be called then.
    pub fn advance(&mut self, now: u64) {
        let clock = self.clock.units(now);
        for (index, comparator) in self.comparators.iter_mut().enumerate() {
            if comparator.take_match(clock) {
                match (comparator.is_level(), comparator.interrupts()) {
                    (true, _) => self.status |= 1 << index,
                    (false, true) => self.edges |= 1 << index,
                    (false, false) => {}
                }
            }
        }
    }

    /// TSC value at which [`advance`](Self::advance) has something to tell.
    pub fn next_deadline(&self) -> Option<u64> {
        let comparators = self.comparators.iter().enumerate();
        let quiet = |index| self.status >> index & 1 != 0;
        comparators
            .filter(|(index, comparator)| comparator.interrupts() && !quiet(*index))
            .fold(None, |soonest, (_, comparator)| earlier(soonest, comparator.next()))
            .map(|clock| self.clock.ticks(clock))
    }

    /// Drives the interrupt controllers' inputs as the comparators stand now.
    pub fn tell(&mut self, interrupts: &mut InterruptControllers, to: &mut impl Deliver) {
        let edges = core::mem::take(&mut self.edges);
        let mut lines = 0u64;
        for index in 0..COMPARATORS {
            let Some(line) = self.line(index) else {
                continue;
            };
            if edges >> index & 1 != 0 {
                pulse(interrupts, line, to);
            }
            let interrupts = self.is_enabled() && self.comparators.get(index).is_some_and(Comparator::interrupts);
            if interrupts && self.status >> index & 1 != 0 {
                lines |= 1 << line;
            }
        }
        let mut changed = lines ^ self.lines;
        self.lines = lines;
        while changed != 0 {
            let line = changed.trailing_zeros() as u8;
            changed &= changed - 1;
            drive(interrupts, line, lines >> line & 1 != 0, to);
        }
    }

    /// The line that a comparator's interrupt goes to.
    fn line(&self, index: usize) -> Option<u8> {
        match index {
            0 if self.replaces_legacy() => Some(FIRST_REQUEST + TIMER_REQUEST),
            1 if self.replaces_legacy() => Some(FIRST_REQUEST + rtc::IRQ),
            _ => self.comparators.get(index)?.route(),
        }
    }
}

fn drive(interrupts: &mut InterruptControllers, line: u8, level: bool, to: &mut impl Deliver) {
    match line.checked_sub(FIRST_REQUEST) {
        Some(request) => interrupts.set_level(request, level, to),
        None => interrupts.set_input(line, level, to),
    }
}

fn pulse(interrupts: &mut InterruptControllers, line: u8, to: &mut impl Deliver) {
    match line.checked_sub(FIRST_REQUEST) {
        Some(request) => interrupts.pulse(request, to),
        None => {
            interrupts.set_input(line, true, to);
            interrupts.set_input(line, false, to);
        }
    }
}

#[cfg(test)]
mod tests;
