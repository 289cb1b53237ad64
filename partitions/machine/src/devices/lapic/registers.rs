//! The registers of a local APIC, as memory and as MSRs (SDM vol. 3, 11.4.1 and 11.12.1.2).

use super::destination::x2apic_logical;
use super::{Entry, LapicEffect, LocalApic, MASKED, SOFTWARE_ENABLE, error};
use crate::devices::message::{DeliveryMode, Destination, InterruptMessage};

/// The access raises #GP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RegisterFault;

/// Registers by their number: offset in the page divided by 16, or MSR index less 0x800.
mod number {
    pub const IDENTIFIER: u32 = 0x02;
    pub const VERSION: u32 = 0x03;
    pub const TASK_PRIORITY: u32 = 0x08;
    pub const ARBITRATION_PRIORITY: u32 = 0x09;
    pub const PROCESSOR_PRIORITY: u32 = 0x0a;
    pub const END_OF_INTERRUPT: u32 = 0x0b;
    pub const REMOTE_READ: u32 = 0x0c;
    pub const LOGICAL_DESTINATION: u32 = 0x0d;
    pub const DESTINATION_FORMAT: u32 = 0x0e;
    pub const SPURIOUS: u32 = 0x0f;
    pub const IN_SERVICE: u32 = 0x10;
    pub const TRIGGER_MODE: u32 = 0x18;
    pub const REQUESTS: u32 = 0x20;
    pub const ERROR_STATUS: u32 = 0x28;
    pub const COMMAND_LOW: u32 = 0x30;
    pub const COMMAND_HIGH: u32 = 0x31;
    pub const TIMER: u32 = 0x32;
    pub const THERMAL: u32 = 0x33;
    pub const PERFORMANCE: u32 = 0x34;
    pub const LINT0: u32 = 0x35;
    pub const LINT1: u32 = 0x36;
    pub const ERROR: u32 = 0x37;
    pub const INITIAL_COUNT: u32 = 0x38;
    pub const CURRENT_COUNT: u32 = 0x39;
    pub const DIVIDE: u32 = 0x3e;
    pub const SELF_INTERRUPT: u32 = 0x3f;
}

/// Version 0x14, highest LVT entry 5.
const VERSION: u32 = 0x0005_0014;

/// Bits that software may write, by LVT entry.
const TIMER_BITS: u32 = 0x0007_00ff;
const LINT_BITS: u32 = 0x0001_a7ff;
const MODE_BITS: u32 = 0x0001_07ff;
const ERROR_BITS: u32 = 0x0001_00ff;
/// Command register: vector, delivery mode, logical, level, trigger, shorthand.
const COMMAND_BITS: u32 = 0x000c_cfff;

impl LocalApic {
    /// Reads `offset` of the register page.
    pub fn read_memory(&mut self, offset: u64, now: u64) -> u32 {
        if offset & 0xf != 0 {
            // Only the first four bytes of each sixteen are defined; the byte lanes of a narrow read are the caller's.
            return 0;
        }
        match (offset >> 4) as u32 {
            number::IDENTIFIER => self.identifier << 24,
            number::LOGICAL_DESTINATION => self.logical_destination,
            number::DESTINATION_FORMAT => self.destination_format,
            number::COMMAND_HIGH => (self.command >> 32) as u32,
            number::ARBITRATION_PRIORITY => u32::from(self.processor_priority()),
            number::REMOTE_READ => 0,
            register => match self.read_common(register, now) {
                Some(value) => value,
                None => {
                    self.raise_error(error::ILLEGAL_REGISTER);
                    0
                }
            },
        }
    }

    /// Writes `offset` of the register page.
    pub fn write_memory(&mut self, offset: u64, value: u32, now: u64) -> LapicEffect {
        if offset & 0xf != 0 {
            return LapicEffect::None;
        }
        match (offset >> 4) as u32 {
            number::END_OF_INTERRUPT => return self.end_of_interrupt(),
            number::COMMAND_LOW => {
                self.command = (self.command & !0xffff_ffff) | u64::from(value & COMMAND_BITS);
                let destination = Destination::from_byte(value & (1 << 11) != 0, (self.command >> 56) as u8);
                return self.send(value, destination);
            }
            number::COMMAND_HIGH => self.command = (self.command & 0xffff_ffff) | u64::from(value & 0xff00_0000) << 32,
            number::LOGICAL_DESTINATION => {
                self.logical_destination = value & 0xff00_0000;
                return LapicEffect::Moved;
            }
            number::DESTINATION_FORMAT => {
                self.destination_format = value | 0x0fff_ffff;
                return LapicEffect::Moved;
            }
            // The identifier, and what is read-only, stay as they are.
            number::IDENTIFIER
            | number::VERSION
            | number::ARBITRATION_PRIORITY
            | number::PROCESSOR_PRIORITY
            | number::REMOTE_READ
            | number::CURRENT_COUNT
            | number::IN_SERVICE..number::ERROR_STATUS => {}
            register => match self.write_common(register, value, now) {
                Some(effect) => return effect,
                None => self.raise_error(error::ILLEGAL_REGISTER),
            },
        }
        LapicEffect::None
    }

    /// Reads x2APIC register `register` (MSR index less 0x800).
    pub fn read_x2apic(&mut self, register: u32, now: u64) -> Result<u64, RegisterFault> {
        if !self.is_x2apic() {
            return Err(RegisterFault);
        }
        match register {
            number::IDENTIFIER => Ok(u64::from(self.identifier)),
            number::LOGICAL_DESTINATION => Ok(u64::from(x2apic_logical(self.identifier))),
            number::COMMAND_LOW => Ok(self.command),
            register => self.read_common(register, now).map(u64::from).ok_or(RegisterFault),
        }
    }

    /// Writes x2APIC register `register` (MSR index less 0x800).
    pub fn write_x2apic(&mut self, register: u32, value: u64, now: u64) -> Result<LapicEffect, RegisterFault> {
        if !self.is_x2apic() {
            return Err(RegisterFault);
        }
        let allowed = match register {
            number::END_OF_INTERRUPT | number::ERROR_STATUS => 0,
            number::TASK_PRIORITY | number::SELF_INTERRUPT => 0xff,
            number::SPURIOUS => 0x1ff,
            number::COMMAND_LOW => 0xffff_ffff_0000_0000 | u64::from(COMMAND_BITS),
            // The delivery-status and remote-IRR bits are read-only but may be written back.
            number::TIMER => u64::from(TIMER_BITS) | 1 << 12,
            number::THERMAL | number::PERFORMANCE => u64::from(MODE_BITS) | 1 << 12,
            number::LINT0 | number::LINT1 => u64::from(LINT_BITS) | 1 << 12 | 1 << 14,
            number::ERROR => u64::from(ERROR_BITS) | 1 << 12,
            number::INITIAL_COUNT => 0xffff_ffff,
            number::DIVIDE => 0x0b,
            _ => return Err(RegisterFault),
        };
        if value & !allowed != 0 {
            return Err(RegisterFault);
        }
        match register {
            number::END_OF_INTERRUPT => Ok(self.end_of_interrupt()),
            number::SELF_INTERRUPT => {
                self.request(value as u8, false);
                Ok(LapicEffect::None)
            }
            number::COMMAND_LOW => {
                self.command = value;
                let identifier = (value >> 32) as u32;
                let destination = match (value & (1 << 11) != 0, identifier) {
                    (_, u32::MAX) => Destination::All,
                    (true, set) => Destination::Logical(set),
                    (false, identifier) => Destination::Physical(identifier),
                };
                Ok(self.send(value as u32, destination))
            }
            register => self.write_common(register, value as u32, now).ok_or(RegisterFault),
        }
    }

    /// Registers that both modes have, with the same content.
    fn read_common(&mut self, register: u32, now: u64) -> Option<u32> {
        Some(match register {
            number::VERSION => VERSION,
            number::TASK_PRIORITY => u32::from(self.task_priority),
            number::PROCESSOR_PRIORITY => u32::from(self.processor_priority()),
            number::SPURIOUS => self.spurious,
            number::IN_SERVICE..number::TRIGGER_MODE => self.in_service.register(register - number::IN_SERVICE),
            number::TRIGGER_MODE..number::REQUESTS => self.level_triggered.register(register - number::TRIGGER_MODE),
            number::REQUESTS..number::ERROR_STATUS => self.requests.register(register - number::REQUESTS),
            number::ERROR_STATUS => self.errors_shown,
            number::COMMAND_LOW => self.command as u32,
            number::TIMER => self.entry(Entry::Timer),
            number::THERMAL => self.entry(Entry::Thermal),
            number::PERFORMANCE => self.entry(Entry::Performance),
            number::LINT0 => self.entry(Entry::Lint0),
            number::LINT1 => self.entry(Entry::Lint1),
            number::ERROR => self.entry(Entry::Error),
            number::INITIAL_COUNT => self.timer.initial_count(),
            number::CURRENT_COUNT => {
                self.advance(now);
                self.timer.current_count(now)
            }
            number::DIVIDE => self.timer.divide(),
            _ => return None,
        })
    }

    /// Writes a register that both modes have; nothing if there is no such register.
    fn write_common(&mut self, register: u32, value: u32, now: u64) -> Option<LapicEffect> {
        match register {
            number::TASK_PRIORITY => {
                self.task_priority = value as u8;
                self.update();
            }
            number::SPURIOUS => {
                self.write_spurious(value);
                return Some(LapicEffect::Moved);
            }
            number::ERROR_STATUS => {
                self.errors_shown = core::mem::take(&mut self.errors);
            }
            number::TIMER => self.set_timer_entry(value & TIMER_BITS, now),
            number::THERMAL => self.set_entry(Entry::Thermal, value & MODE_BITS),
            number::PERFORMANCE => self.set_entry(Entry::Performance, value & MODE_BITS),
            number::LINT0 => {
                self.set_entry(Entry::Lint0, value & LINT_BITS);
                return Some(LapicEffect::Moved);
            }
            number::LINT1 => self.set_entry(Entry::Lint1, value & LINT_BITS),
            number::ERROR => self.set_entry(Entry::Error, value & ERROR_BITS),
            number::INITIAL_COUNT => self.timer.set_initial_count(value, now),
            number::DIVIDE => self.timer.set_divide(value, now),
            _ => return None,
        }
        Some(LapicEffect::None)
    }

    fn write_spurious(&mut self, value: u32) {
        self.spurious = value & 0x1ff;
        if self.spurious & SOFTWARE_ENABLE == 0 {
            for entry in &mut self.entries {
                *entry |= MASKED;
            }
        }
        self.update();
    }

    /// What a write of the command register sends.
    fn send(&mut self, low: u32, destination: Destination) -> LapicEffect {
        let Some(mode) = DeliveryMode::from_bits(low >> 8) else {
            return LapicEffect::None;
        };
        let vector = low as u8;
        if matches!(mode, DeliveryMode::Fixed | DeliveryMode::LowestPriority) && vector < 16 {
            self.raise_error(error::SEND_ILLEGAL_VECTOR);
            return LapicEffect::None;
        }
        // The INIT de-assert message of the first processors with an APIC does nothing on later ones.
        let deassert = mode == DeliveryMode::Init && low & (1 << 14) == 0 && low & (1 << 15) != 0;
        if deassert || mode == DeliveryMode::External {
            return LapicEffect::None;
        }
        let destination = match low >> 18 & 3 {
            0 => destination,
            1 => Destination::Own,
            2 => Destination::All,
            _ => Destination::Others,
        };
        // Interprocessor interrupts are always edge-triggered on processors of this version.
        LapicEffect::Send(InterruptMessage { destination, mode, vector, level_triggered: false })
    }
}
