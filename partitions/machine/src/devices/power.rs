//! Everything by which a guest ends or restarts its machine, and the fixed ACPI registers (ACPI 6.5, 4.8.3).

use super::clock::Clock;

/// What a guest did to its machine as a whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PowerEvent {
    /// Soft off (ACPI S5).
    Off,
    /// Reset, by whichever of the PC's ways.
    Reset,
    /// A test guest ends with this code at [`EXIT_PORT`].
    Exit(u32),
}

/// PM1a event block: status and enable registers.
pub const EVENT_PORT: u16 = 0x600;
/// PM1a control block.
pub const CONTROL_PORT: u16 = 0x604;
/// Power-management timer.
pub const TIMER_PORT: u16 = 0x608;
/// Reset control register of the PIIX.
pub const RESET_PORT: u16 = 0xcf9;
/// What resets the machine there.
pub const RESET_VALUE: u8 = 0x06;
/// System control port A: bit 0 resets, bit 1 is the A20 gate.
pub const FAST_PORT: u16 = 0x92;
/// Ends a test guest.
pub const EXIT_PORT: u16 = 0xf4;
/// Sleep type that the DSDT's `\_S5` package names.
pub const SLEEP_TYPE_OFF: u8 = 5;
/// Interrupt request of the system control interrupt.
pub const SCI: u8 = 9;
/// Frequency of the power-management timer in Hz.
pub const TIMER_FREQUENCY: u64 = 3_579_545;
/// The timer's highest bit, as the tables declare it.
const TIMER_HIGHEST: u32 = 31;

/// PM1 status and enable bits.
mod event {
    pub const TIMER: u16 = 1 << 0;
    pub const GLOBAL: u16 = 1 << 5;
    pub const POWER_BUTTON: u16 = 1 << 8;
    pub const SLEEP_BUTTON: u16 = 1 << 9;
    pub const CLOCK: u16 = 1 << 10;
    /// Bits that can be enabled.
    pub const ENABLE: u16 = TIMER | GLOBAL | POWER_BUTTON | SLEEP_BUTTON | CLOCK;
}

const SCI_ENABLED: u16 = 1 << 0;
const SLEEP_ENABLE: u16 = 1 << 13;

/// ACPI fixed hardware, reset registers and the exit port.
#[derive(Clone, Debug)]
pub struct Power {
    timer: Clock,
    /// How often the timer's highest bit has changed as far as the status tells.
    told: u64,
    status: u16,
    enable: u16,
    control: u16,
    reset_control: u8,
    fast: u8,
}

impl Power {
    /// The registers as firmware leaves them: in ACPI mode.
    pub const fn new(tsc_hertz: u64) -> Self {
        Self {
            timer: Clock::new(TIMER_FREQUENCY, tsc_hertz),
            told: 0,
            status: 0,
            enable: 0,
            control: SCI_ENABLED,
            reset_control: 0,
            fast: 0x02,
        }
    }

    /// Level of the system control interrupt.
    pub const fn interrupt(&self) -> bool {
        self.status & self.enable != 0
    }

    /// Somebody presses the power button.
    pub fn press_power_button(&mut self) {
        self.status |= event::POWER_BUTTON;
    }

    /// Tells the time: the status says when the timer's highest bit changes (4.8.3.3).
    pub const fn advance(&mut self, now: u64) {
        let changes = self.timer.units(now) >> TIMER_HIGHEST;
        if changes > self.told {
            self.told = changes;
            self.status |= event::TIMER;
        }
    }

    /// TSC value at which [`advance`](Self::advance) has something to tell.
    pub fn next_deadline(&self) -> Option<u64> {
        let waits = self.enable & !self.status & event::TIMER != 0;
        waits.then(|| self.timer.ticks((self.told + 1) << TIMER_HIGHEST))
    }

    /// Reads byte `offset` of the 16 fixed ACPI registers from [`EVENT_PORT`].
    pub fn read_fixed(&mut self, offset: u16, now: u64) -> u8 {
        self.advance(now);
        let [timer0, timer1, timer2, timer3] = (self.timer.units(now) as u32).to_le_bytes();
        let [status0, status1] = self.status.to_le_bytes();
        let [enable0, enable1] = self.enable.to_le_bytes();
        let [control0, control1] = self.control.to_le_bytes();
        match offset {
            0 => status0,
            1 => status1,
            2 => enable0,
            3 => enable1,
            4 => control0,
            5 => control1,
            8 => timer0,
            9 => timer1,
            10 => timer2,
            11 => timer3,
            _ => 0,
        }
    }

    /// The power-management timer, read in one access.
    pub const fn timer(&self, now: u64) -> u32 {
        self.timer.units(now) as u32
    }

    /// Writes byte `offset` of the fixed ACPI registers.
    pub fn write_fixed(&mut self, offset: u16, value: u8, now: u64) -> Option<PowerEvent> {
        self.advance(now);
        let low = u16::from(value);
        let high = u16::from(value) << 8;
        match offset {
            0 => self.status &= !low,
            1 => self.status &= !high,
            2 => self.enable = (self.enable & 0xff00) | (low & event::ENABLE),
            3 => self.enable = (self.enable & 0x00ff) | (high & event::ENABLE),
            // SCI_EN is the firmware's; BM_RLD is remembered, GBL_RLS would call the firmware.
            4 => self.control = (self.control & 0xff00) | SCI_ENABLED | (low & 0x02),
            5 => {
                self.control = (self.control & 0x00ff) | (high & 0x1c00);
                let sleep_type = (high >> 10 & 7) as u8;
                if high & SLEEP_ENABLE != 0 && sleep_type == SLEEP_TYPE_OFF {
                    return Some(PowerEvent::Off);
                }
            }
            _ => {}
        }
        None
    }

    /// Reads [`RESET_PORT`].
    pub const fn read_reset(&self) -> u8 {
        self.reset_control
    }

    /// Writes [`RESET_PORT`]: bit 2, as it rises, resets the processor.
    pub fn write_reset(&mut self, value: u8) -> Option<PowerEvent> {
        let rises = value & !self.reset_control & 0x04 != 0;
        self.reset_control = value & 0x0e;
        rises.then_some(PowerEvent::Reset)
    }

    /// Reads [`FAST_PORT`].
    pub const fn read_fast(&self) -> u8 {
        self.fast
    }

    /// Writes [`FAST_PORT`]. The A20 gate is always open in fact, but its bit is remembered.
    pub fn write_fast(&mut self, value: u8) -> Option<PowerEvent> {
        let rises = value & !self.fast & 0x01 != 0;
        self.fast = value & 0x02;
        rises.then_some(PowerEvent::Reset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn soft_off() {
        let mut power = Power::new(1_000_000_000);
        assert_eq!(power.read_fixed(4, 0) & 1, 1, "in ACPI mode from the start");
        assert_eq!(power.write_fixed(4, 0x01, 0), None);
        assert_eq!(power.write_fixed(5, 0x14, 0), None, "type without enable");
        assert_eq!(power.write_fixed(5, 0x34, 0), Some(PowerEvent::Off));
        assert_eq!(power.write_fixed(5, 0x20, 0), None, "S0");
    }

    #[test]
    fn resets() {
        let mut power = Power::new(1_000_000_000);
        assert_eq!(power.write_reset(0x02), None);
        assert_eq!(power.write_reset(0x06), Some(PowerEvent::Reset));
        assert_eq!(power.write_fast(0x02), None);
        assert_eq!(power.write_fast(0x03), Some(PowerEvent::Reset));
    }

    #[test]
    fn button_raises_the_system_control_interrupt() {
        let mut power = Power::new(1_000_000_000);
        power.press_power_button();
        assert!(!power.interrupt());
        power.write_fixed(3, 0x01, 0);
        assert!(power.interrupt());
        power.write_fixed(1, 0x01, 0);
        assert!(!power.interrupt());
    }

    #[test]
    fn timer_follows_the_tsc() {
        let mut power = Power::new(50_000_000);
        assert_eq!(power.timer(50_000_000), 3_579_545);
        let bytes = [8, 9, 10, 11].map(|offset| power.read_fixed(offset, 50_000_000));
        assert_eq!(u32::from_le_bytes(bytes), 3_579_545);
    }

    #[test]
    fn timer_tells_changes_of_its_highest_bit() {
        let mut power = Power::new(50_000_000);
        assert_eq!(power.next_deadline(), None);
        power.write_fixed(2, 0x01, 0);
        let deadline = power.next_deadline().unwrap();
        assert_eq!(power.timer(deadline), 0x8000_0000);
        power.advance(deadline - 1);
        assert!(!power.interrupt());
        power.advance(deadline);
        assert!(power.interrupt() && power.next_deadline().is_none());
        assert_eq!(power.read_fixed(0, deadline), 0x01);
        power.write_fixed(0, 0x01, deadline);
        assert!(!power.interrupt());
        assert_eq!(power.timer(power.next_deadline().unwrap()), 0);
    }
}
