//! Tests of the interval timer.

use super::*;
use proptest::prelude::*;

const TSC: u64 = 100_000_000;

fn at(clocks: u64) -> u64 {
    Clock::new(FREQUENCY, TSC).ticks(clocks)
}

#[test]
fn channel_two_calibrates_the_tsc() {
    // The sequence of Linux's pit_calibrate_tsc: gate on, speaker off, mode 0, count, wait for OUT.
    let mut pit = Pit::new(TSC);
    let start = 12_345_678;
    let value = pit.read(0x61, start);
    pit.write(0x61, (value & !2) | 1, start);
    pit.write(0x43, 0xb0, start);
    pit.write(0x42, 0x9b, start);
    pit.write(0x42, 0x2e, start);
    let mut now = start;
    while pit.read(0x61, now) & 0x20 == 0 {
        now += 100;
    }
    let expected = 0x2e9b * TSC / FREQUENCY;
    assert!((now - start).abs_diff(expected) < 300);
}

#[test]
fn quick_calibration_sees_the_high_byte_fall() {
    let mut pit = Pit::new(TSC);
    pit.write(0x61, 1, 0);
    pit.write(0x43, 0xb0, 0);
    pit.write(0x42, 0xff, 0);
    pit.write(0x42, 0xff, 0);
    pit.read(0x42, 1);
    assert_eq!(pit.read(0x42, 1), 0xff);
    pit.read(0x42, at(300));
    assert_eq!(pit.read(0x42, at(300)), 0xfe);
}

#[test]
fn rate_generator_ticks() {
    let mut pit = Pit::new(TSC);
    assert_eq!(pit.next_deadline(), None);
    pit.write(0x43, 0x34, 0);
    pit.write(0x40, 0xa9, 0);
    pit.write(0x40, 0x04, 0);
    let mut ticks = 0;
    let mut now = 0;
    while let Some(deadline) = pit.next_deadline().filter(|deadline| *deadline < TSC) {
        assert!(deadline > now);
        now = deadline;
        assert!(!pit.take_tick(now - 1));
        assert!(pit.take_tick(now));
        ticks += 1;
    }
    assert_eq!(ticks, 1000);
}

#[test]
fn one_shot_tells_once() {
    let mut pit = Pit::new(TSC);
    pit.write(0x43, 0x30, 0);
    assert!(!pit.line(0));
    pit.write(0x40, 10, 0);
    pit.write(0x40, 0, 0);
    assert!(!pit.take_tick(at(9)));
    assert!(pit.take_tick(at(10)));
    assert!(pit.line(at(10)));
    assert_eq!(pit.next_deadline(), None);
    pit.write(0x40, 10, at(20));
    assert!(!pit.line(at(20)), "first byte lowers the output");
    pit.write(0x40, 0, at(20));
    assert_eq!(pit.next_deadline(), Some(at(at_count(20) + 10)));
}

fn at_count(clocks: u64) -> u64 {
    Clock::new(FREQUENCY, TSC).units(at(clocks))
}

#[test]
fn latch_and_readback() {
    let mut pit = Pit::new(TSC);
    pit.write(0x43, 0x34, 0);
    pit.write(0x40, 0, 0);
    pit.write(0x40, 0x10, 0);
    pit.write(0x43, 0xc2, at(0x10));
    assert_eq!(pit.read(0x40, at(0x20)), 0xb4);
    assert_eq!(pit.read(0x40, at(0x20)), 0xf0);
    assert_eq!(pit.read(0x40, at(0x20)), 0x0f);
    assert_eq!(pit.read(0x40, at(0x20)), 0xe0, "the latch is used up");
}

#[test]
fn bcd_counts() {
    let mut pit = Pit::new(TSC);
    pit.write(0x43, 0x31, 0);
    pit.write(0x40, 0x00, 0);
    pit.write(0x40, 0x10, 0);
    assert_eq!(pit.read(0x40, at(1)), 0x99);
    assert_eq!(pit.read(0x40, at(1)), 0x09);
    assert_eq!(from_bcd(0x1234), 1234);
    assert_eq!(to_bcd(9876), 0x9876);
}

#[test]
fn square_wave_halves() {
    let mut pit = Pit::new(TSC);
    pit.write(0x43, 0x36, 0);
    pit.write(0x40, 100, 0);
    pit.write(0x40, 0, 0);
    assert!(pit.line(at(49)));
    assert!(!pit.line(at(50)));
    assert!(pit.line(at(100)));
}

#[test]
fn gate_pauses_mode_zero() {
    let mut pit = Pit::new(TSC);
    pit.write(0x61, 1, 0);
    pit.write(0x43, 0xb0, 0);
    pit.write(0x42, 100, 0);
    pit.write(0x42, 0, 0);
    pit.write(0x61, 0, at(50));
    assert_eq!(pit.read(0x61, at(500)) & 0x20, 0);
    pit.write(0x61, 1, at(500));
    assert_eq!(pit.read(0x61, at(540)) & 0x20, 0);
    assert_eq!(pit.read(0x61, at(551)) & 0x20, 0x20);
}

proptest! {
    #[test]
    fn any_sequence_is_survived(steps in proptest::collection::vec((any::<bool>(), 0usize..5, any::<u8>(), any::<u32>()), 0..300)) {
        let ports = [0x40, 0x41, 0x42, 0x43, 0x61];
        let mut pit = Pit::new(TSC);
        let mut now = u64::MAX - (1 << 40);
        for (write, port, value, step) in steps {
            now = now.saturating_add(u64::from(step));
            if write {
                pit.write(ports[port], value, now);
            } else {
                pit.read(ports[port], now);
            }
            pit.take_tick(now);
            pit.line(now);
            prop_assert!(pit.next_deadline().is_none_or(|deadline| deadline > now || deadline == u64::MAX));
        }
    }
}
