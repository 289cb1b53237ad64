//! How interrupt requests of devices reach both interrupt controllers.

use super::ioapic::IoApic;
use super::message::Deliver;
use super::pic::Pic;

/// Interrupt request of the interval timer.
pub const TIMER_REQUEST: u8 = 0;
/// The I/O APIC's input that the interval timer is wired to: input 0 belongs to the 8259A.
pub const TIMER_INPUT: u8 = 2;
/// Interrupt request of the first serial port.
pub const SERIAL_REQUEST: u8 = 4;

/// The 8259A pair and the I/O APIC, side by side behind the sixteen ISA interrupt requests.
#[derive(Clone, Debug, Default)]
pub struct InterruptControllers {
    pic: Pic,
    ioapic: IoApic,
    /// Levels of the requests, so that a level told twice costs nothing.
    levels: u16,
}

impl InterruptControllers {
    /// Both controllers after reset. `level_triggered`: a set of requests that firmware declares level-triggered.
    pub fn new(level_triggered: u16) -> Self {
        let mut controllers = Self::default();
        for request in 0..16 {
            if level_triggered >> request & 1 != 0 {
                controllers.pic.set_level_triggered(request);
            }
        }
        controllers
    }

    /// Sets the level of interrupt request `request` (0 to 15).
    #[inline]
    pub fn set_level(&mut self, request: u8, level: bool, to: &mut impl Deliver) {
        if (self.levels >> (request & 15) & 1 != 0) != level {
            self.change_level(request & 15, level, to);
        }
    }

    /// Sets the levels of all the requests in `mask` to those in `levels`.
    pub fn set_levels(&mut self, mask: u16, levels: u16, to: &mut impl Deliver) {
        let mut changed = (self.levels ^ levels) & mask;
        while changed != 0 {
            let request = changed.trailing_zeros() as u8;
            changed &= changed - 1;
            self.change_level(request, levels >> request & 1 != 0, to);
        }
    }

    /// An edge on a request whose level stays high afterwards.
    pub fn pulse(&mut self, request: u8, to: &mut impl Deliver) {
        self.set_level(request, false, to);
        self.set_level(request, true, to);
    }

    /// Sets the level of an input that the I/O APIC alone has (16 to 23).
    pub fn set_input(&mut self, input: u8, level: bool, to: &mut impl Deliver) {
        if let Some(message) = self.ioapic.set_line(input, level) {
            to.deliver(message);
        }
    }

    fn change_level(&mut self, request: u8, level: bool, to: &mut impl Deliver) {
        self.levels ^= 1 << request;
        let output = self.pic.output();
        self.pic.set_line(request, level);
        self.tell_output(output, to);
        let input = if request == TIMER_REQUEST { TIMER_INPUT } else { request };
        self.set_input(input, level, to);
    }

    fn tell_output(&self, before: bool, to: &mut impl Deliver) {
        if self.pic.output() != before {
            to.external_interrupt(!before);
        }
    }

    /// Reads a port of the 8259A pair.
    pub fn read_pic(&mut self, port: u16, to: &mut impl Deliver) -> u8 {
        let output = self.pic.output();
        let value = self.pic.read(port);
        self.tell_output(output, to);
        value
    }

    /// Writes a port of the 8259A pair.
    pub fn write_pic(&mut self, port: u16, value: u8, to: &mut impl Deliver) {
        let output = self.pic.output();
        self.pic.write(port, value);
        self.tell_output(output, to);
    }

    /// The processor acknowledges an interrupt of the 8259A: its vector.
    pub fn acknowledge_pic(&mut self, to: &mut impl Deliver) -> u8 {
        let vector = self.pic.acknowledge();
        // Told even when it stays asserted: the pin falls between two acknowledge cycles.
        to.external_interrupt(false);
        if self.pic.output() {
            to.external_interrupt(true);
        }
        vector
    }

    /// Reads a register of the I/O APIC.
    pub fn read_ioapic(&self, offset: u64) -> u32 {
        self.ioapic.read(offset)
    }

    /// Writes a register of the I/O APIC.
    pub fn write_ioapic(&mut self, offset: u64, value: u32, to: &mut impl Deliver) {
        if let Some(message) = self.ioapic.write(offset, value) {
            to.deliver(message);
        }
    }

    /// A local APIC tells the end of a level-triggered interrupt.
    pub fn end_of_interrupt(&mut self, vector: u8, to: &mut impl Deliver) {
        self.ioapic.end_of_interrupt(vector, |message| to.deliver(message));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::message::InterruptMessage;
    use alloc::vec::Vec;

    #[derive(Default)]
    struct Record {
        messages: Vec<InterruptMessage>,
        external: Vec<bool>,
    }

    impl Deliver for Record {
        fn deliver(&mut self, message: InterruptMessage) {
            self.messages.push(message);
        }

        fn external_interrupt(&mut self, asserted: bool) {
            self.external.push(asserted);
        }
    }

    #[test]
    fn timer_reaches_both_controllers() {
        let mut controllers = InterruptControllers::new(1 << 9);
        let mut record = Record::default();
        assert_eq!(controllers.read_pic(0x4d1, &mut record), 0x02);
        for (port, value) in [(0x20, 0x11), (0x21, 0x30), (0x21, 4), (0x21, 1), (0x21, 0)] {
            controllers.write_pic(port, value, &mut record);
        }
        controllers.write_ioapic(0, 0x14, &mut record);
        controllers.write_ioapic(0x10, 0x30, &mut record);
        controllers.pulse(TIMER_REQUEST, &mut record);
        assert_eq!(record.messages.len(), 1);
        assert_eq!(record.external, [true]);
        assert_eq!(controllers.acknowledge_pic(&mut record), 0x30);
        assert_eq!(record.external, [true, false]);
        controllers.pulse(TIMER_REQUEST, &mut record);
        assert_eq!(record.messages.len(), 2);
    }
}
