//! The timer as operating systems use it.

use super::*;
use crate::devices::message::InterruptMessage;
use alloc::vec::Vec;
use proptest::prelude::*;

/// One tick of the time stamp counter is a nanosecond.
const TSC: u64 = 1_000_000_000;
const MILLISECOND: u64 = TSC / 1000;
/// Counts of a millisecond.
const COUNTS: u64 = FREQUENCY / 1000;

const CONFIGURATION: u64 = register::CONFIGURATION;
const fn configuration(index: u64) -> u64 {
    register::COMPARATORS + 0x20 * index
}
const fn value(index: u64) -> u64 {
    configuration(index) + 8
}

/// A comparator's configuration: interrupt on, and how else.
const ON: u64 = 1 << 2;
const LEVEL: u64 = 1 << 1;
const PERIODIC: u64 = 1 << 3 | 1 << 6;
const NARROW: u64 = 1 << 8;
const INPUT_21: u64 = 21 << 9;

#[derive(Default)]
struct Record(Vec<u8>);

impl Deliver for Record {
    fn deliver(&mut self, message: InterruptMessage) {
        self.0.push(message.vector);
    }

    fn external_interrupt(&mut self, _: bool) {}
}

/// The timer with an I/O APIC whose inputs 2, 8 and 21 have their own numbers for vectors, plus 0x40.
struct Bench {
    hpet: Hpet,
    interrupts: InterruptControllers,
    record: Record,
}

impl Bench {
    fn new(input_21: u32) -> Self {
        let mut bench =
            Self { hpet: Hpet::new(TSC), interrupts: InterruptControllers::new(0), record: Record::default() };
        for (input, entry) in [(2u32, 0x42), (8, 0x48), (21, input_21)] {
            bench.interrupts.write_ioapic(0, 0x10 + 2 * input, &mut bench.record);
            bench.interrupts.write_ioapic(0x10, entry, &mut bench.record);
        }
        bench
    }

    fn write(&mut self, offset: u64, value: u64, now: u64) {
        self.advance(now);
        self.hpet.write(offset, Width::Qword, value, now);
        self.hpet.tell(&mut self.interrupts, &mut self.record);
    }

    fn read(&mut self, offset: u64, now: u64) -> u64 {
        self.advance(now);
        self.hpet.read(offset, Width::Qword, now)
    }

    fn advance(&mut self, now: u64) {
        self.hpet.advance(now);
        self.hpet.tell(&mut self.interrupts, &mut self.record);
    }

    /// The vectors delivered since the last call.
    fn vectors(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.record.0)
    }
}

#[test]
fn capabilities_and_counter() {
    let mut bench = Bench::new(0x55);
    assert_eq!(bench.read(0, 0), 0x0429_b17f_8086_a201);
    assert_eq!(bench.hpet.read(4, Width::Dword, 0), 69_841_279);
    assert_eq!(bench.read(register::COUNTER, TSC), 0, "halted");
    bench.write(register::COUNTER, 1000, TSC);
    bench.write(CONFIGURATION, 1, TSC);
    assert_eq!(bench.read(register::COUNTER, 2 * TSC), 1000 + FREQUENCY);
    bench.write(register::COUNTER, 7, 2 * TSC);
    assert_eq!(bench.read(register::COUNTER, 2 * TSC), 1000 + FREQUENCY, "not writable while it counts");
    bench.write(CONFIGURATION, 0, 2 * TSC);
    assert_eq!(bench.read(register::COUNTER, 9 * TSC), 1000 + FREQUENCY);
    assert_eq!(bench.read(configuration(1), 0), 0x00f0_0000_0000_0030);
    bench.write(configuration(1), u64::MAX, 0);
    assert_eq!(bench.read(configuration(1), 0), 0x00f0_0000_0000_013e, "no route 31, no message delivery");
}

#[test]
fn one_shot() {
    let mut bench = Bench::new(0x55);
    bench.write(CONFIGURATION, 1, 0);
    bench.write(configuration(2), ON | INPUT_21, 0);
    bench.write(value(2), 5 * COUNTS, 0);
    let deadline = bench.hpet.next_deadline().unwrap();
    assert!(deadline.abs_diff(5 * MILLISECOND) < 100, "{deadline}");
    bench.advance(deadline - 1);
    assert_eq!(bench.vectors(), []);
    bench.advance(deadline);
    assert_eq!(bench.vectors(), [0x55]);
    assert_eq!(bench.hpet.next_deadline(), Some(u64::MAX), "the counter is not there again for 40,000 years");
    bench.write(value(2), 6 * COUNTS, deadline);
    bench.advance(100 * MILLISECOND);
    assert_eq!(bench.vectors(), [0x55]);
    assert_eq!(bench.read(register::STATUS, 100 * MILLISECOND), 0, "an edge leaves no status");
}

#[test]
fn narrow_comparators_go_round() {
    let mut bench = Bench::new(0x55);
    bench.write(register::COUNTER, 0xffff_ff00, 0);
    bench.write(configuration(0), ON | NARROW | INPUT_21, 0);
    bench.write(value(0), 0x1_0000_0010, 0);
    assert_eq!(bench.read(value(0), 0), 0x10);
    bench.write(CONFIGURATION, 1, 0);
    let first = bench.hpet.next_deadline().unwrap();
    assert_eq!(bench.hpet.clock.units(first), 0x110);
    bench.advance(first);
    assert_eq!(bench.vectors(), [0x55]);
    let second = bench.hpet.next_deadline().unwrap();
    assert_eq!(bench.hpet.clock.units(second), 0x1_0000_0110);
}

/// As Linux programs comparator 0 for its ticks: announce, value, period.
#[test]
fn periodic_in_the_place_of_the_interval_timer() {
    let mut bench = Bench::new(0x55);
    bench.write(CONFIGURATION, 3, 0);
    assert!(bench.hpet.replaces_legacy());
    bench.write(configuration(0), ON | PERIODIC | NARROW, 0);
    bench.write(value(0), 4 * COUNTS, 0);
    assert_eq!(bench.read(configuration(0), 0) & 0x40, 0, "the announcement reads as 0");
    bench.write(value(0), COUNTS, 0);
    for tick in 4..8 {
        let deadline = bench.hpet.next_deadline().unwrap();
        assert!(deadline.abs_diff(tick * MILLISECOND) < 1000, "{deadline}");
        bench.advance(deadline);
        assert_eq!(bench.vectors(), [0x42]);
        assert_eq!(bench.read(value(0), deadline), (tick + 1) * COUNTS);
    }
    bench.advance(50 * MILLISECOND + 1000);
    assert_eq!(bench.vectors(), [0x42], "missed ticks are not made up for");
    assert_eq!(bench.read(value(0), 50 * MILLISECOND + 1000), 51 * COUNTS);
    bench.write(configuration(1), ON, 50 * MILLISECOND);
    bench.write(value(1), 60 * COUNTS, 50 * MILLISECOND);
    bench.write(configuration(0), 0, 50 * MILLISECOND);
    bench.advance(70 * MILLISECOND);
    assert_eq!(bench.vectors(), [0x48], "comparator 1 in the place of the clock");
}

#[test]
fn level() {
    let mut bench = Bench::new(0x8055);
    bench.write(CONFIGURATION, 1, 0);
    bench.write(configuration(1), ON | LEVEL | INPUT_21, 0);
    bench.write(value(1), COUNTS, 0);
    bench.advance(2 * MILLISECOND);
    assert_eq!(bench.vectors(), [0x55]);
    assert_eq!(bench.hpet.next_deadline(), None, "nothing new to tell before the status is cleared");
    bench.interrupts.end_of_interrupt(0x55, &mut bench.record);
    assert_eq!(bench.vectors(), [0x55], "still asserted");
    assert_eq!(bench.read(register::STATUS, 2 * MILLISECOND), 2);
    bench.write(register::STATUS, 5, 2 * MILLISECOND);
    assert_eq!(bench.read(register::STATUS, 2 * MILLISECOND), 2);
    bench.write(register::STATUS, 2, 2 * MILLISECOND);
    bench.interrupts.end_of_interrupt(0x55, &mut bench.record);
    assert_eq!(bench.vectors(), []);
}

#[test]
fn halves() {
    let mut bench = Bench::new(0x55);
    bench.hpet.write(register::COUNTER + 4, Width::Dword, 0x1234, 0);
    bench.hpet.write(register::COUNTER, Width::Dword, 0x5678, 0);
    assert_eq!(bench.read(register::COUNTER, 0), 0x1234_0000_5678);
    bench.hpet.write(value(0) + 4, Width::Dword, 0x9, 0);
    assert_eq!(bench.read(value(0), 0), 0x9_ffff_ffff);
}

proptest! {
    #[test]
    fn any_sequence_is_survived(steps in prop::collection::vec((0u64..0x200, 1u32..9, any::<u64>(), any::<u32>()), 0..200)) {
        let mut bench = Bench::new(0x55);
        let mut now = 0u64;
        for (offset, bytes, value, step) in steps {
            now += u64::from(step);
            bench.advance(now);
            if let Some(width) = Width::from_bytes(bytes) {
                bench.hpet.write(offset, width, value, now);
                bench.hpet.tell(&mut bench.interrupts, &mut bench.record);
                bench.hpet.read(offset, width, now);
                bench.advance(now);
            }
            prop_assert!(bench.hpet.next_deadline().is_none_or(|deadline| deadline > now));
        }
    }
}
