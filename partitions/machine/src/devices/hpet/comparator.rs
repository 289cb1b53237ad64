//! One of the timer's comparators: when the main counter reaches it, and what it does then.

/// Bits of a comparator's configuration register (IA-PC HPET specification 1.0a, 2.3.8).
mod configuration {
    pub const LEVEL: u64 = 1 << 1;
    pub const INTERRUPT: u64 = 1 << 2;
    pub const PERIODIC: u64 = 1 << 3;
    pub const CAN_BE_PERIODIC: u64 = 1 << 4;
    pub const IS_WIDE: u64 = 1 << 5;
    pub const SET_VALUE: u64 = 1 << 6;
    pub const NARROW: u64 = 1 << 8;
    pub const ROUTE_SHIFT: u32 = 9;
    pub const ROUTE: u64 = 0x1f << ROUTE_SHIFT;
    pub const WRITABLE: u64 = LEVEL | INTERRUPT | PERIODIC | SET_VALUE | NARROW | ROUTE;
    /// Inputs of the I/O APIC that it can be routed to, from bit 32: those that no other device has.
    pub const ROUTES: u64 = 0x00f0_0000;
    pub const READ_ONLY: u64 = CAN_BE_PERIODIC | IS_WIDE | ROUTES << 32;
}

/// A comparator.
#[derive(Clone, Debug)]
pub(super) struct Comparator {
    configuration: u64,
    /// The value that is compared; a periodic one moves on at each match.
    value: u64,
    /// What is added to it then.
    period: u64,
    /// Clock at which the counter reaches the value next, while it counts.
    next: Option<u64>,
}

impl Comparator {
    /// After reset.
    pub(super) const fn new() -> Self {
        Self { configuration: 0, value: u64::MAX, period: 0, next: None }
    }

    /// The configuration register, with what it can.
    pub(super) const fn configuration(&self) -> u64 {
        self.configuration & !configuration::SET_VALUE | configuration::READ_ONLY
    }

    /// Writes the configuration register. A route that is not there reads back as another.
    pub(super) const fn set_configuration(&mut self, written: u64) {
        let mut written = written & configuration::WRITABLE;
        let route = (written & configuration::ROUTE) >> configuration::ROUTE_SHIFT;
        if configuration::ROUTES >> route & 1 == 0 {
            written &= !configuration::ROUTE;
        }
        self.configuration = written;
        self.value &= self.mask();
        self.period &= self.mask();
    }

    /// The comparator register.
    pub(super) const fn value(&self) -> u64 {
        self.value
    }

    /// Writes the comparator register, where `merge` puts the written bytes into its old contents. A periodic
    /// comparator takes what is written as its period, and as its value only if that was announced (2.3.9.2.2).
    pub(super) fn set_value(&mut self, merge: impl Fn(u64) -> u64) {
        let periodic = self.configuration & configuration::PERIODIC != 0;
        if !periodic || self.configuration & configuration::SET_VALUE != 0 {
            self.value = merge(self.value) & self.mask();
        }
        if periodic {
            self.period = merge(self.period) & self.mask();
        }
        self.configuration &= !configuration::SET_VALUE;
    }

    const fn mask(&self) -> u64 {
        if self.configuration & configuration::NARROW != 0 { 0xffff_ffff } else { u64::MAX }
    }

    /// Whether its interrupt is level-triggered.
    pub(super) const fn is_level(&self) -> bool {
        self.configuration & configuration::LEVEL != 0
    }

    /// Whether it interrupts at all.
    pub(super) const fn interrupts(&self) -> bool {
        self.configuration & configuration::INTERRUPT != 0
    }

    /// The input of the I/O APIC that it is routed to, if any.
    pub(super) const fn route(&self) -> Option<u8> {
        match (self.configuration & configuration::ROUTE) >> configuration::ROUTE_SHIFT {
            0 => None,
            route => Some(route as u8),
        }
    }

    /// The counter, which has value `counter` at `clock`, counts from now on.
    pub(super) const fn start(&mut self, counter: u64, clock: u64) {
        self.next = Some(clock.saturating_add(self.value.wrapping_sub(counter) & self.mask()));
    }

    /// The counter stops.
    pub(super) const fn stop(&mut self) {
        self.next = None;
    }

    /// Clock at which the counter reaches the value next.
    pub(super) const fn next(&self) -> Option<u64> {
        self.next
    }

    /// Whether the counter has reached the value (any number of times) up to `clock`. Moves on to the next time.
    pub(super) fn take_match(&mut self, clock: u64) -> bool {
        let Some(next) = self.next.filter(|next| *next <= clock) else {
            return false;
        };
        let periodic = self.configuration & configuration::PERIODIC != 0 && self.period != 0;
        // One that is not periodic is reached again when its bits of the counter have gone round.
        let distance = if periodic { self.period } else { self.mask().saturating_add(1) };
        let times = ((clock - next) / distance).saturating_add(1);
        if periodic {
            self.value = self.value.wrapping_add(times.wrapping_mul(distance)) & self.mask();
        }
        self.next = Some(next.saturating_add(times.saturating_mul(distance)));
        true
    }
}
