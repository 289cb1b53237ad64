//! The 8254 interval timer (channels 0 and 2) with system control port 0x61.
//!
//! Channel 0 drives interrupt request 0; channel 2 has its gate and output at port 0x61, where operating systems measure the
//! speed of the TSC. Channel 1 (memory refresh of the first PCs) answers but counts for nobody.

use super::clock::Clock;
use core::num::NonZeroU64;

/// Input clock of the three channels in Hz.
pub const FREQUENCY: u64 = 1_193_182;

/// What a count of 0 means.
const MAXIMUM_COUNT: NonZeroU64 = NonZeroU64::MIN.saturating_add(0xffff);

/// Which bytes of the counter an access moves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Access {
    Low,
    High,
    LowThenHigh,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    /// 0: output rises at the terminal count.
    TerminalCount,
    /// 1: one-shot started by the gate.
    GateOneShot,
    /// 2: periodic, low for one clock.
    RateGenerator,
    /// 3: periodic, low for the second half.
    SquareWave,
    /// 4: low for one clock after the count.
    SoftwareStrobe,
    /// 5: like 4, started by the gate.
    HardwareStrobe,
}

#[derive(Clone, Debug)]
struct Channel {
    mode: Mode,
    access: Access,
    bcd: bool,
    /// Count that was written: 1 to 65,536 (10,000 in BCD).
    reload: NonZeroU64,
    /// Device clock at which counting began from `reload`; none while no count was loaded since the mode was set.
    started: Option<u64>,
    /// Clocks counted before the gate stopped it.
    paused: Option<u64>,
    gate: bool,
    /// The low byte of a two-byte write.
    low_written: Option<u8>,
    latched_count: Option<u16>,
    latched_status: Option<u8>,
    high_next: bool,
    /// Count at which the output of modes 0 and 4 has already been told, so that it is told once.
    told: u64,
}

impl Channel {
    const fn new(gate: bool) -> Self {
        Self {
            mode: Mode::TerminalCount,
            access: Access::LowThenHigh,
            bcd: false,
            reload: MAXIMUM_COUNT,
            started: None,
            paused: None,
            gate,
            low_written: None,
            latched_count: None,
            latched_status: None,
            high_next: false,
            told: 0,
        }
    }

    /// Clocks counted since the count was loaded or triggered.
    fn elapsed(&self, clock: u64) -> Option<u64> {
        let started = self.started?;
        Some(self.paused.unwrap_or_else(|| clock.saturating_sub(started)))
    }

    fn periodic(&self) -> bool {
        matches!(self.mode, Mode::RateGenerator | Mode::SquareWave)
    }

    /// Level of OUT.
    fn output(&self, clock: u64) -> bool {
        let Some(elapsed) = self.elapsed(clock) else {
            return self.mode != Mode::TerminalCount;
        };
        let reload = self.reload;
        match self.mode {
            Mode::TerminalCount | Mode::GateOneShot => elapsed >= reload.get(),
            Mode::RateGenerator => !self.gate || elapsed % reload != reload.get() - 1,
            Mode::SquareWave => !self.gate || elapsed % reload < reload.get().div_ceil(2),
            Mode::SoftwareStrobe | Mode::HardwareStrobe => elapsed != reload.get(),
        }
    }

    /// The counting element, as a read finds it.
    fn count(&self, clock: u64) -> u16 {
        let reload = self.reload.get();
        let modulus = if self.bcd { 10_000 } else { 0x1_0000 };
        let count = match self.elapsed(clock) {
            None => reload,
            Some(elapsed) => match self.mode {
                Mode::RateGenerator => reload - elapsed % self.reload,
                // Counts by two, once per half period.
                Mode::SquareWave => {
                    let half = reload.div_ceil(2);
                    let phase = elapsed % self.reload;
                    reload - 2 * if phase < half { phase } else { phase - half }.min(reload / 2)
                }
                _ => (reload + modulus - elapsed % modulus) % modulus,
            },
        } % modulus;
        if self.bcd { to_bcd(count) } else { count as u16 }
    }

    fn status(&self, clock: u64) -> u8 {
        let access = match self.access {
            Access::Low => 1,
            Access::High => 2,
            Access::LowThenHigh => 3,
        };
        let mode = match self.mode {
            Mode::TerminalCount => 0,
            Mode::GateOneShot => 1,
            Mode::RateGenerator => 2,
            Mode::SquareWave => 3,
            Mode::SoftwareStrobe => 4,
            Mode::HardwareStrobe => 5,
        };
        u8::from(self.output(clock)) << 7
            | u8::from(self.started.is_none()) << 6
            | access << 4
            | mode << 1
            | u8::from(self.bcd)
    }

    fn latch_count(&mut self, clock: u64) {
        if self.latched_count.is_none() {
            self.latched_count = Some(self.count(clock));
        }
    }

    fn latch_status(&mut self, clock: u64) {
        if self.latched_status.is_none() {
            self.latched_status = Some(self.status(clock));
        }
    }

    fn set_mode(&mut self, control: u8) {
        self.access = match control >> 4 & 3 {
            1 => Access::Low,
            2 => Access::High,
            _ => Access::LowThenHigh,
        };
        self.mode = match control >> 1 & 7 {
            0 => Mode::TerminalCount,
            1 => Mode::GateOneShot,
            2 | 6 => Mode::RateGenerator,
            3 | 7 => Mode::SquareWave,
            4 => Mode::SoftwareStrobe,
            _ => Mode::HardwareStrobe,
        };
        self.bcd = control & 1 != 0;
        self.started = None;
        self.paused = None;
        self.low_written = None;
        self.latched_count = None;
        self.latched_status = None;
        self.high_next = false;
    }

    fn read(&mut self, clock: u64) -> u8 {
        if let Some(status) = self.latched_status.take() {
            return status;
        }
        let count = self.latched_count.unwrap_or_else(|| self.count(clock));
        let [low, high] = count.to_le_bytes();
        let (value, complete) = match self.access {
            Access::Low => (low, true),
            Access::High => (high, true),
            Access::LowThenHigh if self.high_next => (high, true),
            Access::LowThenHigh => (low, false),
        };
        self.high_next = !complete;
        if complete {
            self.latched_count = None;
        }
        value
    }

    fn write(&mut self, value: u8, clock: u64) {
        let count = match self.access {
            Access::Low => u16::from(value),
            Access::High => u16::from(value) << 8,
            Access::LowThenHigh => match self.low_written.take() {
                None => {
                    self.low_written = Some(value);
                    if self.mode == Mode::TerminalCount {
                        // The first byte stops the count.
                        self.started = None;
                    }
                    return;
                }
                Some(low) => u16::from_le_bytes([low, value]),
            },
        };
        let count = if self.bcd { from_bcd(count) } else { u32::from(count) };
        let count = match count {
            0 if self.bcd => 10_000,
            // A period of one clock would leave no room for the output to fall.
            1 if self.periodic() => 2,
            count => u64::from(count),
        };
        self.reload = NonZeroU64::new(count).unwrap_or(MAXIMUM_COUNT);
        // Modes 1 and 5 wait for the gate; the periodic ones would finish their period first, which nobody relies on.
        if !matches!(self.mode, Mode::GateOneShot | Mode::HardwareStrobe) {
            self.start(clock);
        }
    }

    fn start(&mut self, clock: u64) {
        self.started = Some(clock);
        self.paused = if self.gate { None } else { Some(0) };
        self.told = 0;
    }

    fn set_gate(&mut self, gate: bool, clock: u64) {
        if gate == self.gate {
            return;
        }
        let elapsed = self.elapsed(clock);
        self.gate = gate;
        match self.mode {
            Mode::GateOneShot | Mode::HardwareStrobe if gate => self.start_counting(clock),
            Mode::GateOneShot | Mode::HardwareStrobe => {}
            Mode::RateGenerator | Mode::SquareWave if gate && elapsed.is_some() => self.start_counting(clock),
            _ => match elapsed {
                Some(elapsed) if gate => {
                    self.started = Some(clock.saturating_sub(elapsed));
                    self.paused = None;
                }
                Some(elapsed) => self.paused = Some(elapsed),
                None => {}
            },
        }
    }

    fn start_counting(&mut self, clock: u64) {
        self.started = Some(clock);
        self.paused = None;
        self.told = 0;
    }

    /// Clocks, counted from the start, at which OUT rises next after `told`.
    fn next_rise(&self) -> Option<u64> {
        let reload = self.reload.get();
        match self.mode {
            _ if self.started.is_none() || self.paused.is_some() => None,
            Mode::RateGenerator | Mode::SquareWave => {
                Some((self.told / self.reload).saturating_add(1).saturating_mul(reload))
            }
            Mode::TerminalCount | Mode::GateOneShot => (self.told < reload).then_some(reload),
            Mode::SoftwareStrobe | Mode::HardwareStrobe => (self.told <= reload).then_some(reload + 1),
        }
    }

    /// Whether OUT rose since it was told last.
    fn take_rise(&mut self, clock: u64) -> bool {
        let (Some(rise), Some(elapsed)) = (self.next_rise(), self.elapsed(clock)) else {
            return false;
        };
        if elapsed < rise {
            return false;
        }
        self.told = elapsed;
        true
    }
}

fn to_bcd(count: u64) -> u16 {
    (0..4).fold(0, |bcd, digit| bcd | ((count / 10u64.pow(digit) % 10) as u16) << (4 * digit))
}

fn from_bcd(bcd: u16) -> u32 {
    (0..4).rev().fold(0, |count, digit| count * 10 + u32::from(bcd >> (4 * digit) & 0xf)) % 10_000
}

/// Ports 0x40 to 0x43 and 0x61.
#[derive(Clone, Debug)]
pub struct Pit {
    clock: Clock,
    channels: [Channel; 3],
    speaker: bool,
    refresh: bool,
    /// TSC value at which channel 0 has something to tell.
    deadline: Option<u64>,
}

impl Pit {
    /// A timer whose channels have no count yet.
    pub const fn new(tsc_hertz: u64) -> Self {
        Self {
            clock: Clock::new(FREQUENCY, tsc_hertz),
            channels: [Channel::new(true), Channel::new(true), Channel::new(false)],
            speaker: false,
            refresh: false,
            deadline: None,
        }
    }

    /// Reads port 0x40 to 0x43 or 0x61.
    pub fn read(&mut self, port: u16, now: u64) -> u8 {
        let clock = self.clock.units(now);
        match port {
            0x40..=0x42 => match self.channels.get_mut(usize::from(port & 3)) {
                Some(channel) => channel.read(clock),
                None => 0xff,
            },
            0x61 => {
                self.refresh = !self.refresh;
                let [.., two] = &self.channels;
                u8::from(two.gate)
                    | u8::from(self.speaker) << 1
                    | u8::from(self.refresh) << 4
                    | u8::from(two.output(clock)) << 5
            }
            _ => 0xff,
        }
    }

    /// Writes port 0x40 to 0x43 or 0x61. [`line`](Self::line) may change.
    pub fn write(&mut self, port: u16, value: u8, now: u64) {
        let clock = self.clock.units(now);
        match port {
            0x40..=0x42 => {
                if let Some(channel) = self.channels.get_mut(usize::from(port & 3)) {
                    channel.write(value, clock);
                }
            }
            0x43 if value >> 6 == 3 => {
                for (index, channel) in self.channels.iter_mut().enumerate() {
                    if value & (2 << index) != 0 {
                        if value & 0x20 == 0 {
                            channel.latch_count(clock);
                        }
                        if value & 0x10 == 0 {
                            channel.latch_status(clock);
                        }
                    }
                }
            }
            0x43 => {
                if let Some(channel) = self.channels.get_mut(usize::from(value >> 6)) {
                    if value & 0x30 == 0 {
                        channel.latch_count(clock);
                    } else {
                        channel.set_mode(value);
                    }
                }
            }
            0x61 => {
                let [.., two] = &mut self.channels;
                two.set_gate(value & 1 != 0, clock);
                self.speaker = value & 2 != 0;
            }
            _ => {}
        }
        self.deadline = self.rise_at();
    }

    /// Level of channel 0's output: interrupt request 0.
    pub fn line(&self, now: u64) -> bool {
        let [zero, ..] = &self.channels;
        zero.output(self.clock.units(now))
    }

    /// Whether channel 0's output rose since the last call (any number of times: missed ticks are not made up for).
    pub fn take_tick(&mut self, now: u64) -> bool {
        if self.deadline.is_none_or(|deadline| deadline > now) {
            return false;
        }
        let clock = self.clock.units(now);
        let [zero, ..] = &mut self.channels;
        let rose = zero.take_rise(clock);
        self.deadline = self.rise_at();
        rose
    }

    /// TSC value at which [`take_tick`](Self::take_tick) answers yes.
    pub const fn next_deadline(&self) -> Option<u64> {
        self.deadline
    }

    fn rise_at(&self) -> Option<u64> {
        let [zero, ..] = &self.channels;
        Some(self.clock.ticks(zero.started?.saturating_add(zero.next_rise()?)))
    }
}

#[cfg(test)]
mod tests;
