//! The local APIC's timer: one-shot, periodic, TSC deadline (SDM vol. 3, 11.5.4).

/// How the timer counts, as bits 18:17 of its LVT entry say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimerMode {
    /// Counts down once.
    OneShot,
    /// Counts down again and again.
    Periodic,
    /// Fires when the TSC reaches IA32_TSC_DEADLINE.
    TscDeadline,
    /// The reserved encoding: does not count.
    Reserved,
}

impl TimerMode {
    /// The mode that an LVT entry selects.
    pub const fn from_entry(entry: u32) -> Self {
        match entry >> 17 & 3 {
            0 => Self::OneShot,
            1 => Self::Periodic,
            2 => Self::TscDeadline,
            _ => Self::Reserved,
        }
    }
}

/// Counts at the TSC's rate, shifted right by a constant where a 32-bit number of hertz could not tell it, and by the divide
/// configuration.
#[derive(Clone, Debug)]
pub struct Timer {
    mode: TimerMode,
    /// Constant part of the shift: the timer's input clock is the TSC's, shifted so far.
    clock_shift: u32,
    divide: u32,
    initial: u32,
    /// Time at which the present count-down began, modulo 2^64: a changed divisor may move it before time 0.
    started: u64,
    /// Time at which the timer fires; `u64::MAX` for never.
    fires: u64,
    /// IA32_TSC_DEADLINE.
    tsc_deadline: u64,
    /// What the guest's TSC is ahead of the machine's clock.
    tsc_offset: u64,
}

impl Timer {
    /// A stopped timer. `clock_shift`: the input clock is the TSC's shifted right by so many bits.
    pub const fn new(clock_shift: u32) -> Self {
        Self {
            mode: TimerMode::OneShot,
            clock_shift: if clock_shift > 31 { 31 } else { clock_shift },
            divide: 0,
            initial: 0,
            started: 0,
            fires: u64::MAX,
            tsc_deadline: 0,
            tsc_offset: 0,
        }
    }

    /// After INIT or with the APIC reset: stopped. The TSC goes on.
    pub fn reset(&mut self) {
        *self = Self { tsc_offset: self.tsc_offset, ..Self::new(self.clock_shift) };
    }

    /// Time at which the timer fires; `u64::MAX` for never.
    pub const fn fires(&self) -> u64 {
        self.fires
    }

    /// The timer fired at or before `now`: sets the next time.
    pub fn expire(&mut self, now: u64) {
        if self.mode == TimerMode::Periodic {
            let period = self.period();
            if period == 0 {
                self.fires = u64::MAX;
                return;
            }
            // Periods that passed unseen are not made up for.
            let passed = now.wrapping_sub(self.started) / period;
            self.started = self.started.wrapping_add(passed.saturating_mul(period));
            self.fires = now.saturating_add(period - now.wrapping_sub(self.started) % period);
        } else {
            self.fires = u64::MAX;
            self.tsc_deadline = 0;
        }
    }

    /// The LVT entry was written.
    pub fn set_mode(&mut self, mode: TimerMode, now: u64) {
        if mode == self.mode {
            return;
        }
        let counted = matches!(self.mode, TimerMode::OneShot | TimerMode::Periodic);
        let counts = matches!(mode, TimerMode::OneShot | TimerMode::Periodic);
        let remaining = self.current_count(now);
        self.mode = mode;
        if counted && counts {
            // A running count goes on in the other mode.
            if remaining == 0 && self.mode == TimerMode::OneShot {
                self.fires = u64::MAX;
            } else if self.initial != 0 {
                self.expire_or_keep(now);
            }
        } else {
            // Going to or from TSC-deadline mode disarms the timer.
            self.fires = u64::MAX;
            self.tsc_deadline = 0;
            self.initial = 0;
        }
    }

    fn expire_or_keep(&mut self, now: u64) {
        if self.fires == u64::MAX && self.mode == TimerMode::Periodic {
            self.expire(now);
        }
    }

    /// Initial count register.
    pub const fn initial_count(&self) -> u32 {
        self.initial
    }

    /// Writes the initial count register: starts, or with 0 stops, the timer.
    pub fn set_initial_count(&mut self, count: u32, now: u64) {
        if !matches!(self.mode, TimerMode::OneShot | TimerMode::Periodic) {
            return;
        }
        self.initial = count;
        self.started = now;
        self.fires = if count == 0 { u64::MAX } else { now.saturating_add(self.period()) };
    }

    /// Current count register.
    pub fn current_count(&self, now: u64) -> u32 {
        let elapsed = now.wrapping_sub(self.started) >> self.shift();
        let initial = u64::from(self.initial);
        match self.mode {
            TimerMode::OneShot => initial.saturating_sub(elapsed) as u32,
            TimerMode::Periodic if initial != 0 => (initial - elapsed % initial) as u32,
            _ => 0,
        }
    }

    /// Divide configuration register.
    pub const fn divide(&self) -> u32 {
        self.divide
    }

    /// Writes the divide configuration register. A running count goes on at the new rate.
    pub fn set_divide(&mut self, divide: u32, now: u64) {
        let remaining = u64::from(self.current_count(now));
        let running = self.fires != u64::MAX && self.mode != TimerMode::TscDeadline;
        self.divide = divide & 0x0b;
        if running {
            let counted = u64::from(self.initial).saturating_sub(remaining);
            self.started = now.wrapping_sub(counted << self.shift());
            self.fires = now.saturating_add(remaining << self.shift());
        }
    }

    /// IA32_TSC_DEADLINE.
    pub const fn tsc_deadline(&self) -> u64 {
        self.tsc_deadline
    }

    /// Writes IA32_TSC_DEADLINE: arms, or with 0 disarms, the timer. Ignored in the other modes.
    pub fn set_tsc_deadline(&mut self, deadline: u64, now: u64) {
        if self.mode != TimerMode::TscDeadline {
            return;
        }
        self.tsc_deadline = deadline;
        let guest_now = now.wrapping_add(self.tsc_offset);
        self.fires = if deadline == 0 { u64::MAX } else { now.saturating_add(deadline.saturating_sub(guest_now)) };
    }

    /// The guest's TSC was moved against the machine's clock.
    pub fn set_tsc_offset(&mut self, offset: u64, now: u64) {
        self.tsc_offset = offset;
        self.set_tsc_deadline(self.tsc_deadline, now);
    }

    fn shift(&self) -> u32 {
        // 0b000 divides by 2, ... 0b110 by 128, 0b111 by 1 (bits 3, 1, 0 of the register).
        let encoded = (self.divide & 3) | (self.divide >> 1 & 4);
        self.clock_shift + ((encoded + 1) & 7)
    }

    fn period(&self) -> u64 {
        u64::from(self.initial) << self.shift()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_shot() {
        let mut timer = Timer::new(0);
        timer.set_divide(0x0b, 0);
        timer.set_initial_count(100, 1000);
        assert_eq!(timer.fires(), 1100);
        assert_eq!(timer.current_count(1040), 60);
        timer.expire(1105);
        assert_eq!(timer.fires(), u64::MAX);
        assert_eq!(timer.current_count(1105), 0);
    }

    #[test]
    fn periodic_skips_what_was_missed() {
        let mut timer = Timer::new(0);
        timer.set_mode(TimerMode::Periodic, 0);
        timer.set_divide(0x03, 0);
        timer.set_initial_count(10, 0);
        assert_eq!(timer.fires(), 160);
        timer.expire(500);
        assert_eq!(timer.fires(), 640);
        assert_eq!(timer.current_count(512), 8);
        timer.set_initial_count(0, 520);
        assert_eq!(timer.fires(), u64::MAX);
    }

    #[test]
    fn deadline() {
        let mut timer = Timer::new(0);
        timer.set_tsc_deadline(500, 0);
        assert_eq!(timer.fires(), u64::MAX, "not in this mode");
        timer.set_mode(TimerMode::TscDeadline, 0);
        timer.set_tsc_offset(100, 0);
        timer.set_tsc_deadline(500, 0);
        assert_eq!(timer.fires(), 400);
        timer.set_tsc_offset(0u64.wrapping_sub(100), 200);
        assert_eq!(timer.fires(), 600);
        timer.set_tsc_deadline(5, 200);
        assert_eq!(timer.fires(), 200, "past: at once");
        timer.expire(200);
        assert_eq!(timer.tsc_deadline(), 0);
        timer.set_tsc_deadline(5000, 200);
        timer.set_mode(TimerMode::OneShot, 200);
        assert_eq!(timer.fires(), u64::MAX);
    }

    #[test]
    fn divide_changes_the_rate_of_a_running_count() {
        let mut timer = Timer::new(0);
        timer.set_divide(0x0b, 0);
        timer.set_initial_count(100, 0);
        timer.set_divide(0x00, 50);
        assert_eq!(timer.fires(), 150);
        assert_eq!(timer.current_count(70), 40);
    }
}
