//! The real-time clock and its battery-backed memory (Motorola MC146818), at ports 0x70 and 0x71.

use super::calendar::Calendar;
use super::clock::{Clock, earlier};
use crate::bus::PlatformParameters;
use core::ops::Range;

/// Interrupt request of the clock.
pub const IRQ: u8 = 8;
/// Register that holds the century, as the FADT says.
pub const CENTURY: u8 = 0x32;

/// Register that holds the number of processors less one, where firmware for virtual machines looks for it.
const PROCESSORS: usize = 0x5f;
/// Registers that the checksum of the PC/AT covers, and where it is, high byte first.
const SUMMED: Range<usize> = 0x10..0x2e;
const CHECKSUM: Range<usize> = 0x2e..0x30;

/// Divider of the second that the periodic interrupt is set in.
const OSCILLATOR: u64 = 32_768;
/// How long before a new second the update-in-progress bit is set, in oscillator periods (244 microseconds).
const UPDATE: u64 = 8;

/// Register A.
const UPDATE_IN_PROGRESS: u8 = 1 << 7;

/// Register B.
mod control {
    pub const HOURS_24: u8 = 1 << 1;
    pub const BINARY: u8 = 1 << 2;
    pub const UPDATE_INTERRUPT: u8 = 1 << 4;
    pub const ALARM_INTERRUPT: u8 = 1 << 5;
    pub const PERIODIC_INTERRUPT: u8 = 1 << 6;
    pub const SET: u8 = 1 << 7;
}

/// Any value of an alarm register with both of these bits matches.
const ALARM_ANY: u8 = 0xc0;
/// Oscillator periods of a second.
const SECOND: u64 = OSCILLATOR;

/// The clock, with 128 bytes of registers.
#[derive(Clone, Debug)]
pub struct Rtc {
    clock: Clock,
    index: u8,
    memory: [u8; 128],
    /// Unix time at oscillator count 0.
    base: i64,
    /// The time while updates are halted.
    halted: Option<i64>,
    /// Oscillator count up to which interrupts were raised.
    told: u64,
    flags: u8,
}

impl Rtc {
    /// A clock that shows the time at the start, and describes memory and processors as firmware leaves them.
    pub fn new(parameters: &PlatformParameters) -> Self {
        let PlatformParameters { tsc_hertz, now, unix_time, memory_below, memory_above, .. } = *parameters;
        let clock = Clock::new(OSCILLATOR, tsc_hertz);
        let elapsed = clock.units(now);
        let mut memory = [0; 128];
        let extended = (memory_below.saturating_sub(1 << 20) >> 10).min(0xffff) as u16;
        let blocks = (memory_below.saturating_sub(16 << 20) >> 16).min(0xffff) as u16;
        let high = (memory_above >> 16).min(0xff_ffff) as u32;
        let [extended_low, extended_high] = extended.to_le_bytes();
        let [blocks_low, blocks_high] = blocks.to_le_bytes();
        let [high0, high1, high2, _] = high.to_le_bytes();
        let fields: [(usize, u8); 18] = [
            (0x0a, 0x26),
            (0x0b, control::HOURS_24),
            (0x0d, 0x80),
            // Equipment: coprocessor, no diskette, no display.
            (0x14, 0x02),
            // 640 KiB of base memory.
            (0x15, 0x80),
            (0x16, 0x02),
            (0x17, extended_low),
            (0x18, extended_high),
            (0x30, extended_low),
            (0x31, extended_high),
            (0x34, blocks_low),
            (0x35, blocks_high),
            (0x5b, high0),
            (0x5c, high1),
            (0x5d, high2),
            (PROCESSORS, parameters.processors.saturating_sub(1) as u8),
            (0x01, ALARM_ANY),
            (0x03, ALARM_ANY),
        ];
        for (place, value) in fields {
            if let Some(byte) = memory.get_mut(place) {
                *byte = value;
            }
        }
        set_checksum(&mut memory);
        let base = unix_time.saturating_sub((elapsed / SECOND) as i64);
        Self { clock, index: 0x0d, memory, base, halted: None, told: elapsed, flags: 0 }
    }

    /// Level of interrupt request 8.
    pub const fn interrupt(&self) -> bool {
        self.flags & 0x80 != 0
    }

    /// Reads port 0x70 or 0x71.
    pub fn read(&mut self, port: u16, now: u64) -> u8 {
        if port & 1 == 0 {
            return 0xff;
        }
        match self.index {
            0 | 2 | 4 | 6..=9 | CENTURY => self.read_time(self.index, now),
            0x0a => {
                let updating = self.halted.is_none() && self.clock.units(now) % SECOND >= SECOND - UPDATE;
                self.register(0x0a) | if updating { UPDATE_IN_PROGRESS } else { 0 }
            }
            0x0c => {
                self.advance(now);
                core::mem::take(&mut self.flags)
            }
            index => self.register(index),
        }
    }

    /// Writes port 0x70 or 0x71.
    pub fn write(&mut self, port: u16, value: u8, now: u64) {
        if port & 1 == 0 {
            // Bit 7 masks NMIs, of which this machine has none from outside.
            self.index = value & 0x7f;
            return;
        }
        self.advance(now);
        match self.index {
            0 | 2 | 4 | 6..=9 | CENTURY => self.write_time(self.index, value, now),
            0x0a => self.set_register(0x0a, value & 0x7f),
            0x0b => {
                let time = self.time(now);
                let halt = value & control::SET != 0;
                if halt && self.halted.is_none() {
                    self.halted = Some(time);
                } else if !halt && self.halted.take().is_some() {
                    self.set_time(time, now);
                }
                // Halting updates also disables their interrupt.
                let value = if halt { value & !control::UPDATE_INTERRUPT } else { value };
                self.set_register(0x0b, value);
            }
            0x0c | 0x0d => {}
            index => self.set_register(index, value),
        }
        self.raise(0);
    }

    /// Raises the interrupts whose time has come.
    pub fn advance(&mut self, now: u64) {
        let count = self.clock.units(now);
        if count <= self.told {
            return;
        }
        let mut flags = 0;
        if let Some(period) = self.period()
            && count / period > self.told / period
        {
            flags |= control::PERIODIC_INTERRUPT;
        }
        if count / SECOND > self.told / SECOND && self.halted.is_none() {
            flags |= control::UPDATE_INTERRUPT;
            let alarm = self.register(0x0b) & control::ALARM_INTERRUPT != 0;
            if alarm && self.alarm_within(self.told / SECOND + 1, count / SECOND) {
                flags |= control::ALARM_INTERRUPT;
            }
        }
        self.told = count;
        self.raise(flags);
    }

    /// TSC value at which [`advance`](Self::advance) may raise an interrupt.
    pub fn next_deadline(&self) -> Option<u64> {
        let enabled = self.register(0x0b);
        if self.interrupt() || enabled & 0x70 == 0 {
            return None;
        }
        let next = |period: u64| Some((self.told / period + 1).saturating_mul(period));
        let periodic = if enabled & control::PERIODIC_INTERRUPT != 0 { self.period().and_then(next) } else { None };
        let second =
            if enabled & (control::UPDATE_INTERRUPT | control::ALARM_INTERRUPT) != 0 { next(SECOND) } else { None };
        Some(self.clock.ticks(earlier(periodic, second)?))
    }

    fn raise(&mut self, flags: u8) {
        self.flags |= flags;
        if self.flags & self.register(0x0b) & 0x70 != 0 {
            self.flags |= 0x80;
        } else {
            self.flags &= 0x7f;
        }
    }

    fn register(&self, index: u8) -> u8 {
        self.memory.get(usize::from(index)).copied().unwrap_or(0xff)
    }

    fn set_register(&mut self, index: u8, value: u8) {
        if let Some(register) = self.memory.get_mut(usize::from(index)) {
            *register = value;
        }
    }

    /// Oscillator periods between periodic interrupts.
    fn period(&self) -> Option<u64> {
        match self.register(0x0a) & 0x0f {
            0 => None,
            rate @ (1 | 2) => Some(1 << (rate + 6)),
            rate => Some(1 << (rate - 1)),
        }
    }

    fn time(&self, now: u64) -> i64 {
        self.halted.unwrap_or_else(|| self.base.saturating_add((self.clock.units(now) / SECOND) as i64))
    }

    fn set_time(&mut self, time: i64, now: u64) {
        if self.halted.is_some() {
            self.halted = Some(time);
        } else {
            self.base = time.saturating_sub((self.clock.units(now) / SECOND) as i64);
        }
    }

    fn encode(&self, value: u8) -> u8 {
        if self.register(0x0b) & control::BINARY != 0 { value } else { ((value / 10 % 10) << 4) | (value % 10) }
    }

    fn decode(&self, value: u8) -> u8 {
        if self.register(0x0b) & control::BINARY != 0 { value } else { (value >> 4) * 10 + (value & 0x0f) }
    }

    fn encode_hour(&self, hour: u8) -> u8 {
        if self.register(0x0b) & control::HOURS_24 != 0 {
            return self.encode(hour);
        }
        let afternoon = if hour >= 12 { 0x80 } else { 0 };
        self.encode(match hour % 12 {
            0 => 12,
            hour => hour,
        }) | afternoon
    }

    fn decode_hour(&self, value: u8) -> u8 {
        if self.register(0x0b) & control::HOURS_24 != 0 {
            return self.decode(value);
        }
        self.decode(value & 0x7f) % 12 + if value & 0x80 != 0 { 12 } else { 0 }
    }

    fn read_time(&self, index: u8, now: u64) -> u8 {
        let calendar = Calendar::from_unix(self.time(now));
        match index {
            0 => self.encode(calendar.second),
            2 => self.encode(calendar.minute),
            4 => self.encode_hour(calendar.hour),
            6 => self.encode(calendar.weekday),
            7 => self.encode(calendar.day),
            8 => self.encode(calendar.month),
            9 => self.encode((calendar.year % 100) as u8),
            _ => self.encode((calendar.year / 100) as u8),
        }
    }

    fn write_time(&mut self, index: u8, value: u8, now: u64) {
        let mut calendar = Calendar::from_unix(self.time(now));
        let plain = self.decode(value);
        match index {
            0 => calendar.second = plain.min(59),
            2 => calendar.minute = plain.min(59),
            4 => calendar.hour = self.decode_hour(value).min(23),
            7 => calendar.day = plain.clamp(1, 31),
            8 => calendar.month = plain.clamp(1, 12),
            9 => calendar.year = calendar.year / 100 * 100 + u16::from(plain.min(99)),
            CENTURY => calendar.year = calendar.year % 100 + 100 * u16::from(plain.min(99)),
            // The weekday follows from the date.
            _ => {}
        }
        self.set_time(calendar.to_unix(), now);
    }

    /// Whether the alarm's time of day comes within these seconds of the oscillator (at most a day of them is looked at).
    fn alarm_within(&self, first: u64, last: u64) -> bool {
        let matches = |register: u8, shown: u8| register & ALARM_ANY == ALARM_ANY || register == shown;
        let last = last.min(first.saturating_add(86_400));
        (first..=last).any(|second| {
            let calendar = Calendar::from_unix(self.base.saturating_add(second as i64));
            matches(self.register(1), self.encode(calendar.second))
                && matches(self.register(3), self.encode(calendar.minute))
                && matches(self.register(5), self.encode_hour(calendar.hour))
        })
    }
}

/// Writes the checksum of the configuration that firmware keeps: without it, software takes the memory sizes for
/// garbage.
fn set_checksum(memory: &mut [u8; 128]) {
    let summed = memory.get(SUMMED).unwrap_or_default();
    let sum = summed.iter().fold(0u16, |sum, byte| sum.wrapping_add(u16::from(*byte)));
    if let Some(place) = memory.get_mut(CHECKSUM) {
        place.copy_from_slice(&sum.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TSC: u64 = 50_000_000;

    fn rtc(now: u64, unix_time: i64, memory_below: u64, memory_above: u64) -> Rtc {
        let (tsc_hertz, processors, hpet) = (TSC, 4, false);
        Rtc::new(&PlatformParameters { tsc_hertz, now, unix_time, memory_below, memory_above, processors, hpet })
    }

    fn get(rtc: &mut Rtc, index: u8, now: u64) -> u8 {
        rtc.write(0x70, index, now);
        rtc.read(0x71, now)
    }

    fn set(rtc: &mut Rtc, index: u8, value: u8, now: u64) {
        rtc.write(0x70, index, now);
        rtc.write(0x71, value, now);
    }

    #[test]
    fn shows_the_time_in_bcd() {
        let mut rtc = rtc(TSC * 7, 1_000_000_000, 1 << 30, 0);
        let shown = [9, 8, 7, 4, 2, 0, 0x32, 6].map(|index| get(&mut rtc, index, TSC * 8));
        assert_eq!(shown, [0x01, 0x09, 0x09, 0x01, 0x46, 0x41, 0x20, 0x01]);
        set(&mut rtc, 0x0b, 0, TSC * 8);
        assert_eq!(get(&mut rtc, 4, TSC * 8 + 12 * 3600 * TSC), 0x81);
    }

    #[test]
    fn update_in_progress_precedes_the_second() {
        let mut rtc = rtc(0, 0, 0, 0);
        assert_eq!(get(&mut rtc, 0x0a, TSC / 2), 0x26);
        assert_eq!(get(&mut rtc, 0x0a, TSC - TSC / 10_000), 0xa6);
        assert_eq!(get(&mut rtc, 0x0a, TSC), 0x26);
    }

    #[test]
    fn time_is_set_while_halted() {
        let mut rtc = rtc(0, 0, 0, 0);
        set(&mut rtc, 0x0b, 0x82, 0);
        for (index, value) in [(9, 0x26), (8, 0x11), (7, 0x23), (4, 0x21), (2, 0x09), (0, 0x07), (0x32, 0x20)] {
            set(&mut rtc, index, value, TSC * 5);
        }
        assert_eq!(get(&mut rtc, 0, TSC * 9), 0x07);
        set(&mut rtc, 0x0b, 0x02, TSC * 10);
        let shown = [0x32, 9, 8, 7, 4, 2, 0].map(|index| get(&mut rtc, index, TSC * 12));
        assert_eq!(shown, [0x20, 0x26, 0x11, 0x23, 0x21, 0x09, 0x09]);
    }

    #[test]
    fn interrupts() {
        let mut rtc = rtc(0, 0, 0, 0);
        assert_eq!(rtc.next_deadline(), None);
        set(&mut rtc, 0x0b, 0x12, 0);
        assert_eq!(rtc.next_deadline(), Some(TSC));
        rtc.advance(TSC);
        assert!(rtc.interrupt());
        assert_eq!(get(&mut rtc, 0x0c, TSC) & 0x90, 0x90);
        assert!(!rtc.interrupt());
        set(&mut rtc, 0x0b, 0x42, TSC);
        assert!(rtc.next_deadline().is_some_and(|deadline| deadline <= TSC + TSC / 1024 + 1));
    }

    #[test]
    fn alarm() {
        let mut rtc = rtc(0, 0, 0, 0);
        for (index, value) in [(1, 0x05), (3, 0xff), (5, 0xff), (0x0b, 0x22)] {
            set(&mut rtc, index, value, 0);
        }
        rtc.advance(TSC * 4);
        assert!(!rtc.interrupt());
        rtc.advance(TSC * 5);
        assert!(rtc.interrupt());
    }

    #[test]
    fn memory_size() {
        let mut rtc = rtc(0, 0, 256 << 20, 1 << 30);
        assert_eq!(get(&mut rtc, 0x35, 0), 0x0f);
        assert_eq!(get(&mut rtc, 0x34, 0), 0x00);
        assert_eq!(get(&mut rtc, 0x5c, 0), 0x40);
        assert_eq!(get(&mut rtc, 0x31, 0), 0xff);
        assert_eq!(get(&mut rtc, 0x5f, 0), 3, "processors");
        let sum = (0x10..0x2e).map(|index| u16::from(get(&mut rtc, index, 0))).sum::<u16>();
        assert_eq!([get(&mut rtc, 0x2e, 0), get(&mut rtc, 0x2f, 0)], sum.to_be_bytes());
    }

    proptest! {
        #[test]
        fn any_sequence_is_survived(steps in proptest::collection::vec((any::<bool>(), 0u16..2, any::<u8>(), any::<u32>()), 0..200)) {
            let mut rtc = rtc(0, 1_700_000_000, 1 << 30, 0);
            let mut now = 0u64;
            for (write, port, value, step) in steps {
                now += u64::from(step);
                if write { rtc.write(0x70 + port, value, now); } else { rtc.read(0x70 + port, now); }
                rtc.advance(now);
                prop_assert!(rtc.next_deadline().is_none_or(|deadline| deadline > now));
            }
        }
    }
}
