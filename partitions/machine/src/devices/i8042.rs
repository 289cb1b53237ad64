//! The keyboard controller (8042) without a keyboard: it passes its self-test, opens A20 and resets the machine.
//!
//! The ACPI tables say that there is none, so that Linux does not spend time on it; software that reaches for it anyway, to
//! reset or to open the A20 gate, finds a controller that is always ready.

use super::power::PowerEvent;

/// Data port.
pub const DATA_PORT: u16 = 0x60;
/// Command and status port.
pub const COMMAND_PORT: u16 = 0x64;

/// Status: a byte waits at the data port.
const OUTPUT_FULL: u8 = 1 << 0;
/// Status: self-test passed.
const SYSTEM: u8 = 1 << 2;
/// Status: the last write was a command.
const COMMAND: u8 = 1 << 3;
/// Status: keyboard not locked.
const UNLOCKED: u8 = 1 << 4;

/// Input port: the keyboard is not locked, the manufacturing jumper not set.
const INPUT_PORT: u8 = 1 << 7 | 1 << 5;

/// What the next byte at the data port is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Expected {
    /// For the keyboard, which is not there.
    Keyboard,
    /// The controller's command byte.
    CommandByte,
    /// The output port: bit 0 is the processor's reset line.
    OutputPort,
    /// What the data port gives back, as if the keyboard had sent it.
    Echo,
    /// The same from the mouse, which is not there either, or for it: ignored.
    Ignored,
}

/// The controller.
#[derive(Clone, Debug)]
pub struct KeyboardController {
    command_byte: u8,
    output_port: u8,
    answer: Option<u8>,
    expected: Expected,
    command_last: bool,
}

impl Default for KeyboardController {
    fn default() -> Self {
        Self::new()
    }
}

impl KeyboardController {
    /// After firmware initialised it: keyboard and mouse interfaces disabled, A20 open.
    pub const fn new() -> Self {
        Self { command_byte: 0x34, output_port: 0xcf, answer: None, expected: Expected::Keyboard, command_last: false }
    }

    /// Reads a port.
    pub fn read(&mut self, port: u16) -> u8 {
        match port {
            DATA_PORT => self.answer.take().unwrap_or(0),
            COMMAND_PORT => {
                let full = if self.answer.is_some() { OUTPUT_FULL } else { 0 };
                let command = if self.command_last { COMMAND } else { 0 };
                full | command | SYSTEM | UNLOCKED
            }
            _ => 0xff,
        }
    }

    /// Writes a port.
    pub fn write(&mut self, port: u16, value: u8) -> Option<PowerEvent> {
        match port {
            DATA_PORT => {
                self.command_last = false;
                match core::mem::replace(&mut self.expected, Expected::Keyboard) {
                    Expected::CommandByte => self.command_byte = value,
                    Expected::OutputPort => {
                        self.output_port = value;
                        return (value & 1 == 0).then_some(PowerEvent::Reset);
                    }
                    Expected::Echo => self.answer = Some(value),
                    Expected::Keyboard | Expected::Ignored => {}
                }
            }
            COMMAND_PORT => {
                self.command_last = true;
                self.expected = Expected::Keyboard;
                match value {
                    0x20 => self.answer = Some(self.command_byte),
                    0x60 => self.expected = Expected::CommandByte,
                    0xaa => self.answer = Some(0x55),
                    // Interface tests: passed by the controller, whether or not something is plugged in.
                    0xa9 | 0xab => self.answer = Some(0),
                    0xa7 => self.command_byte |= 0x20,
                    0xa8 => self.command_byte &= !0x20,
                    0xad => self.command_byte |= 0x10,
                    0xae => self.command_byte &= !0x10,
                    0xc0 => self.answer = Some(INPUT_PORT),
                    0xd0 => self.answer = Some(self.output_port),
                    0xd1 => self.expected = Expected::OutputPort,
                    0xd2 => self.expected = Expected::Echo,
                    0xd3 | 0xd4 => self.expected = Expected::Ignored,
                    // Pulses the output lines whose bits are clear.
                    0xf0..=0xff => return (value & 1 == 0).then_some(PowerEvent::Reset),
                    _ => {}
                }
            }
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn self_test_passes() {
        let mut controller = KeyboardController::new();
        assert_eq!(controller.read(COMMAND_PORT) & 3, 0);
        controller.write(COMMAND_PORT, 0xaa);
        assert_eq!(controller.read(COMMAND_PORT) & 3, 1);
        assert_eq!(controller.read(DATA_PORT), 0x55);
        assert_eq!(controller.read(COMMAND_PORT) & 3, 0);
    }

    #[test]
    fn reset_lines() {
        let mut controller = KeyboardController::new();
        assert_eq!(controller.write(COMMAND_PORT, 0xff), None);
        assert_eq!(controller.write(COMMAND_PORT, 0xfe), Some(PowerEvent::Reset));
        controller.write(COMMAND_PORT, 0xd1);
        assert_eq!(controller.write(DATA_PORT, 0xdf), None);
        controller.write(COMMAND_PORT, 0xd0);
        assert_eq!(controller.read(DATA_PORT), 0xdf);
        controller.write(COMMAND_PORT, 0xd1);
        assert_eq!(controller.write(DATA_PORT, 0xde), Some(PowerEvent::Reset));
    }

    #[test]
    fn command_byte_is_kept() {
        let mut controller = KeyboardController::new();
        controller.write(COMMAND_PORT, 0x60);
        controller.write(DATA_PORT, 0x65);
        controller.write(COMMAND_PORT, 0xad);
        controller.write(COMMAND_PORT, 0x20);
        assert_eq!(controller.read(DATA_PORT), 0x75);
        controller.write(COMMAND_PORT, 0xd2);
        controller.write(DATA_PORT, 0x5a);
        assert_eq!((controller.read(COMMAND_PORT) & 1, controller.read(DATA_PORT)), (1, 0x5a));
    }
}
