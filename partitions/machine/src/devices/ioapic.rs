//! The I/O APIC (Intel 82093AA) with 24 inputs.

use super::message::{DeliveryMode, Destination, InterruptMessage};

/// Guest-physical address of its registers.
pub const BASE: u64 = 0xfec0_0000;
/// Inputs.
pub const INPUTS: usize = 24;

/// Index register and data window, in bytes from the base.
const SELECT: u64 = 0x00;
const WINDOW: u64 = 0x10;
/// Version 0x11, highest redirection entry 23.
const VERSION: u32 = 0x11 | ((INPUTS as u32 - 1) << 16);

const MASKED: u64 = 1 << 16;
const LEVEL: u64 = 1 << 15;
const REMOTE_IRR: u64 = 1 << 14;
const DELIVERY_STATUS: u64 = 1 << 12;
const LOGICAL: u64 = 1 << 11;

/// The registers and input pins. An asserted pin is asserted whatever the polarity bit of its entry says: the machine's wiring
/// always agrees with what its ACPI tables tell.
#[derive(Clone, Debug)]
pub struct IoApic {
    select: u8,
    identifier: u8,
    entries: [u64; INPUTS],
    /// Levels of the pins.
    lines: u32,
}

impl Default for IoApic {
    fn default() -> Self {
        Self::new()
    }
}

impl IoApic {
    /// Every entry masked.
    pub const fn new() -> Self {
        Self { select: 0, identifier: 0, entries: [MASKED; INPUTS], lines: 0 }
    }

    /// Reads a register at `offset` from [`BASE`].
    pub fn read(&self, offset: u64) -> u32 {
        match offset {
            SELECT => u32::from(self.select),
            WINDOW => match self.select {
                0 | 2 => u32::from(self.identifier) << 24,
                1 => VERSION,
                index => match self.entries.get(usize::from(index.wrapping_sub(0x10) / 2)) {
                    Some(entry) if index & 1 == 0 => *entry as u32,
                    Some(entry) => (*entry >> 32) as u32,
                    None => 0,
                },
            },
            _ => 0,
        }
    }

    /// Writes a register at `offset` from [`BASE`]. The interrupt that becomes deliverable by it, if any.
    pub fn write(&mut self, offset: u64, value: u32) -> Option<InterruptMessage> {
        match offset {
            SELECT => self.select = value as u8,
            WINDOW if self.select == 0 => self.identifier = (value >> 24) as u8 & 0x0f,
            WINDOW => {
                let input = usize::from(self.select.wrapping_sub(0x10) / 2);
                let entry = self.entries.get_mut(input)?;
                if self.select & 1 == 0 {
                    let read_only = REMOTE_IRR | DELIVERY_STATUS;
                    *entry = (*entry & (!0xffff_ffff | read_only)) | (u64::from(value) & 0x1_ffff & !read_only);
                    if *entry & LEVEL == 0 {
                        *entry &= !REMOTE_IRR;
                    }
                } else {
                    *entry = (*entry & 0xffff_ffff) | (u64::from(value & 0xff00_0000) << 32);
                }
                return self.service(input, false);
            }
            _ => {}
        }
        None
    }

    /// Sets the level of an input pin. The interrupt to deliver, if any.
    pub fn set_line(&mut self, input: u8, level: bool) -> Option<InterruptMessage> {
        let bit = 1u32.checked_shl(u32::from(input))?;
        if !level {
            self.lines &= !bit;
            return None;
        }
        let edge = self.lines & bit == 0;
        self.lines |= bit;
        self.service(usize::from(input), edge)
    }

    /// A local APIC tells the end of a level-triggered interrupt. Each interrupt that its line asserts again goes to `again`.
    pub fn end_of_interrupt(&mut self, vector: u8, mut again: impl FnMut(InterruptMessage)) {
        for input in 0..INPUTS {
            let Some(entry) = self.entries.get_mut(input) else {
                continue;
            };
            if *entry & LEVEL != 0 && *entry as u8 == vector && *entry & REMOTE_IRR != 0 {
                *entry &= !REMOTE_IRR;
                if let Some(message) = self.service(input, false) {
                    again(message);
                }
            }
        }
    }

    /// What to send for an input whose pin rose just now (`edge`), or whose entry changed. An edge at a masked entry is lost, as
    /// the data sheet says.
    fn service(&mut self, input: usize, edge: bool) -> Option<InterruptMessage> {
        let entry = self.entries.get_mut(input)?;
        if *entry & MASKED != 0 {
            return None;
        }
        let level_triggered = *entry & LEVEL != 0;
        if level_triggered {
            if self.lines >> input & 1 == 0 || *entry & REMOTE_IRR != 0 {
                return None;
            }
        } else if !edge {
            return None;
        }
        let mode = DeliveryMode::from_bits((*entry >> 8) as u32)?;
        // Only interrupts that end at the local APIC hold the input until their end.
        if level_triggered && matches!(mode, DeliveryMode::Fixed | DeliveryMode::LowestPriority) {
            *entry |= REMOTE_IRR;
        }
        Some(InterruptMessage {
            destination: Destination::from_byte(*entry & LOGICAL != 0, (*entry >> 56) as u8),
            mode,
            vector: *entry as u8,
            level_triggered,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn program(ioapic: &mut IoApic, input: u8, low: u32, high: u32) -> Option<InterruptMessage> {
        ioapic.write(SELECT, 0x11 + 2 * u32::from(input));
        let first = ioapic.write(WINDOW, high);
        ioapic.write(SELECT, 0x10 + 2 * u32::from(input));
        first.or(ioapic.write(WINDOW, low))
    }

    #[test]
    fn version_and_identifier() {
        let mut ioapic = IoApic::new();
        ioapic.write(SELECT, 1);
        assert_eq!(ioapic.read(WINDOW), 0x0017_0011);
        ioapic.write(SELECT, 0);
        ioapic.write(WINDOW, 0xff00_0000);
        assert_eq!(ioapic.read(WINDOW), 0x0f00_0000);
        ioapic.write(SELECT, 0x40);
        assert_eq!(ioapic.read(WINDOW), 0);
    }

    #[test]
    fn edges() {
        let mut ioapic = IoApic::new();
        assert_eq!(ioapic.set_line(4, true), None, "masked");
        assert!(program(&mut ioapic, 4, 0x34, 0).is_none(), "an edge at a masked entry is lost");
        assert_eq!(ioapic.set_line(4, true), None, "no new edge");
        ioapic.set_line(4, false);
        let message = ioapic.set_line(4, true);
        assert_eq!(
            message,
            Some(InterruptMessage {
                destination: Destination::Physical(0),
                mode: DeliveryMode::Fixed,
                vector: 0x34,
                level_triggered: false
            })
        );
    }

    #[test]
    fn levels_wait_for_their_end() {
        let mut ioapic = IoApic::new();
        assert_eq!(program(&mut ioapic, 10, 0x8041, 0x0100_0000), None);
        assert!(ioapic.set_line(10, true).is_some_and(|m| m.level_triggered));
        assert_eq!(ioapic.read(WINDOW) & 0x4000, 0x4000);
        assert_eq!(ioapic.set_line(10, true), None);
        let mut again = 0;
        ioapic.end_of_interrupt(0x40, |_| again += 1);
        assert_eq!(again, 0);
        ioapic.end_of_interrupt(0x41, |_| again += 1);
        assert_eq!(again, 1);
        ioapic.set_line(10, false);
        ioapic.end_of_interrupt(0x41, |_| again += 1);
        assert_eq!(again, 1);
        assert_eq!(ioapic.read(WINDOW) & 0x4000, 0);
    }

    #[test]
    fn switching_to_edge_clears_remote_irr() {
        let mut ioapic = IoApic::new();
        program(&mut ioapic, 10, 0x8041, 0);
        assert!(ioapic.set_line(10, true).is_some());
        // Linux clears a stuck remote IRR this way.
        ioapic.write(WINDOW, 0x1_0041);
        ioapic.write(WINDOW, 0x1_8041);
        assert_eq!(ioapic.read(WINDOW), 0x1_8041);
        assert!(ioapic.write(WINDOW, 0x8041).is_some());
    }

    proptest! {
        #[test]
        fn any_sequence_is_survived(steps in proptest::collection::vec((0u8..4, any::<u8>(), any::<u32>()), 0..400)) {
            let mut ioapic = IoApic::new();
            for (action, place, value) in steps {
                match action {
                    0 => { ioapic.set_line(place % 40, value & 1 != 0); }
                    1 => { ioapic.write(SELECT, value % 0x50); ioapic.write(WINDOW, value); }
                    2 => { ioapic.read(u64::from(place)); }
                    _ => ioapic.end_of_interrupt(place, |_| {}),
                }
            }
        }
    }
}
