//! The pair of 8259A interrupt controllers of a PC, with the edge/level control registers (ELCR) of the PIIX.

/// Ports: 0x20/0x21 master, 0xA0/0xA1 slave, 0x4D0/0x4D1 edge/level control.
#[derive(Clone, Debug)]
pub struct Pic {
    master: Chip,
    slave: Chip,
    /// Cached INTR output of the master.
    output: bool,
}

/// Where an initialisation sequence stands: which command word the data port takes next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sequence {
    Ready,
    VectorBase,
    Cascade,
    Mode,
}

#[derive(Clone, Debug)]
struct Chip {
    /// Requests latched (edge) or present (level).
    requests: u8,
    in_service: u8,
    mask: u8,
    /// Levels of the input pins.
    lines: u8,
    /// 1: the input is level-triggered.
    level_triggered: u8,
    /// Bits of `level_triggered` that software may set.
    level_changeable: u8,
    vector_base: u8,
    /// The input of the lowest priority; 7 after initialisation.
    lowest: u8,
    sequence: Sequence,
    needs_cascade: bool,
    needs_mode: bool,
    automatic_end: bool,
    rotate_on_automatic_end: bool,
    special_mask: bool,
    special_fully_nested: bool,
    read_in_service: bool,
    poll: bool,
    /// The input, if any, at which the slave is attached.
    cascade: Option<u8>,
}

impl Chip {
    const fn new(level_changeable: u8, cascade: Option<u8>) -> Self {
        Self {
            requests: 0,
            in_service: 0,
            mask: 0xff,
            lines: 0,
            level_triggered: 0,
            level_changeable,
            vector_base: 0,
            lowest: 7,
            sequence: Sequence::Ready,
            needs_cascade: false,
            needs_mode: false,
            automatic_end: false,
            rotate_on_automatic_end: false,
            special_mask: false,
            special_fully_nested: false,
            read_in_service: false,
            poll: false,
            cascade,
        }
    }

    fn set_line(&mut self, input: u8, level: bool) {
        let bit = 1 << (input & 7);
        let was = self.lines & bit != 0;
        if level {
            self.lines |= bit;
            if !was || self.level_triggered & bit != 0 {
                self.requests |= bit;
            }
        } else {
            self.lines &= !bit;
            // An edge request that goes away before it is acknowledged is a spurious interrupt: withdrawn here.
            self.requests &= !bit;
        }
    }

    /// The set input of the highest priority in `bits`, and its rank (0 the highest).
    fn highest(&self, bits: u8) -> Option<(u8, u8)> {
        if bits == 0 {
            return None;
        }
        let first = (self.lowest + 1) & 7;
        let rank = bits.rotate_right(u32::from(first)).trailing_zeros() as u8;
        Some(((first + rank) & 7, rank))
    }

    /// The input that this chip asks its processor (or master) to serve.
    fn pending(&self) -> Option<u8> {
        let (input, rank) = self.highest(self.requests & !self.mask)?;
        let mut blocking = self.in_service;
        if self.special_mask {
            blocking &= !self.mask;
        }
        if self.special_fully_nested
            && let Some(cascade) = self.cascade
        {
            blocking &= !(1 << cascade);
        }
        match self.highest(blocking) {
            Some((_, served)) if served <= rank => None,
            _ => Some(input),
        }
    }

    fn acknowledge(&mut self, input: u8) {
        let bit = 1 << input;
        if self.automatic_end {
            if self.rotate_on_automatic_end {
                self.lowest = input;
            }
        } else {
            self.in_service |= bit;
        }
        if self.level_triggered & bit == 0 {
            self.requests &= !bit;
        }
    }

    fn write_command(&mut self, value: u8) {
        if value & 0x10 != 0 {
            // ICW1. Edge detection starts afresh; the ELCR stays.
            let fresh = Self::new(self.level_changeable, self.cascade);
            *self = Self {
                lines: self.lines,
                requests: self.lines & self.level_triggered,
                level_triggered: self.level_triggered,
                mask: 0,
                sequence: Sequence::VectorBase,
                needs_cascade: value & 0x02 == 0,
                needs_mode: value & 0x01 != 0,
                ..fresh
            };
        } else if value & 0x08 != 0 {
            // OCW3.
            match value & 0x03 {
                2 => self.read_in_service = false,
                3 => self.read_in_service = true,
                _ => {}
            }
            self.poll = value & 0x04 != 0;
            if value & 0x40 != 0 {
                self.special_mask = value & 0x20 != 0;
            }
        } else {
            self.end_of_interrupt(value);
        }
    }

    /// OCW2: rotate, specific, end-of-interrupt bits and an input number.
    fn end_of_interrupt(&mut self, value: u8) {
        let named = value & 7;
        match value >> 5 {
            0 => self.rotate_on_automatic_end = false,
            4 => self.rotate_on_automatic_end = true,
            command @ (1 | 5) => {
                let mut served = self.in_service;
                if self.special_mask {
                    served &= !self.mask;
                }
                if let Some((input, _)) = self.highest(served) {
                    self.in_service &= !(1 << input);
                    if command == 5 {
                        self.lowest = input;
                    }
                }
            }
            3 => self.in_service &= !(1 << named),
            7 => {
                self.in_service &= !(1 << named);
                self.lowest = named;
            }
            6 => self.lowest = named,
            _ => {}
        }
    }

    fn write_data(&mut self, value: u8) {
        let mode_or_ready = if self.needs_mode { Sequence::Mode } else { Sequence::Ready };
        match self.sequence {
            Sequence::Ready => self.mask = value,
            Sequence::VectorBase => {
                self.vector_base = value & 0xf8;
                self.sequence = if self.needs_cascade { Sequence::Cascade } else { mode_or_ready };
            }
            // The wiring of a PC is fixed, so the answer to ICW3 is not kept.
            Sequence::Cascade => self.sequence = mode_or_ready,
            Sequence::Mode => {
                self.automatic_end = value & 0x02 != 0;
                self.special_fully_nested = value & 0x10 != 0;
                self.sequence = Sequence::Ready;
            }
        }
    }

    fn read_command(&mut self) -> u8 {
        if self.poll {
            self.poll = false;
            return match self.pending() {
                Some(input) => {
                    self.acknowledge(input);
                    0x80 | input
                }
                None => 0,
            };
        }
        if self.read_in_service { self.in_service } else { self.requests }
    }
}

/// The master's input that the slave drives.
const CASCADE: u8 = 2;

impl Default for Pic {
    fn default() -> Self {
        Self::new()
    }
}

impl Pic {
    /// Both chips as at power-on: not initialised, every input masked.
    pub const fn new() -> Self {
        // Timer, keyboard, cascade, RTC and coprocessor inputs are always edge-triggered.
        Self { master: Chip::new(0xf8, Some(CASCADE)), slave: Chip::new(0xde, None), output: false }
    }

    /// Whether INTR is asserted towards the processor.
    pub const fn output(&self) -> bool {
        self.output
    }

    /// Sets the level of interrupt request line `irq` (0 to 15).
    pub fn set_line(&mut self, irq: u8, level: bool) {
        match irq {
            CASCADE => {}
            0..8 => self.master.set_line(irq, level),
            8..16 => self.slave.set_line(irq - 8, level),
            _ => {}
        }
        self.update();
    }

    /// Declares `irq` level-triggered, as firmware does for PCI interrupts.
    pub fn set_level_triggered(&mut self, irq: u8) {
        match irq {
            0..8 => self.master.level_triggered |= (1 << irq) & self.master.level_changeable,
            8..16 => self.slave.level_triggered |= (1 << (irq - 8)) & self.slave.level_changeable,
            _ => {}
        }
    }

    /// The processor's interrupt-acknowledge cycle: the vector to take. Without a request it is the spurious one.
    pub fn acknowledge(&mut self) -> u8 {
        let vector = match self.master.pending() {
            Some(CASCADE) => {
                self.master.acknowledge(CASCADE);
                match self.slave.pending() {
                    Some(input) => {
                        self.slave.acknowledge(input);
                        self.slave.vector_base | input
                    }
                    None => self.slave.vector_base | 7,
                }
            }
            Some(input) => {
                self.master.acknowledge(input);
                self.master.vector_base | input
            }
            None => self.master.vector_base | 7,
        };
        self.update();
        vector
    }

    /// Reads one of the ports.
    pub fn read(&mut self, port: u16) -> u8 {
        let value = match port {
            0x20 => self.master.read_command(),
            0x21 => self.master.mask,
            0xa0 => self.slave.read_command(),
            0xa1 => self.slave.mask,
            0x4d0 => self.master.level_triggered,
            0x4d1 => self.slave.level_triggered,
            _ => 0xff,
        };
        self.update();
        value
    }

    /// Writes one of the ports.
    pub fn write(&mut self, port: u16, value: u8) {
        match port {
            0x20 => self.master.write_command(value),
            0x21 => self.master.write_data(value),
            0xa0 => self.slave.write_command(value),
            0xa1 => self.slave.write_data(value),
            0x4d0 => self.master.level_triggered = value & self.master.level_changeable,
            0x4d1 => self.slave.level_triggered = value & self.slave.level_changeable,
            _ => {}
        }
        self.update();
    }

    fn update(&mut self) {
        let cascade = self.slave.pending().is_some();
        if cascade {
            self.master.lines |= 1 << CASCADE;
            self.master.requests |= 1 << CASCADE;
        } else {
            self.master.set_line(CASCADE, false);
        }
        self.output = self.master.sequence == Sequence::Ready && self.master.pending().is_some();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn initialised() -> Pic {
        let mut pic = Pic::new();
        for (port, value) in [
            (0x20, 0x11),
            (0x21, 0x30),
            (0x21, 4),
            (0x21, 1),
            (0xa0, 0x11),
            (0xa1, 0x38),
            (0xa1, 2),
            (0xa1, 1),
            (0x21, 0),
            (0xa1, 0),
        ] {
            pic.write(port, value);
        }
        pic
    }

    #[test]
    fn edge_is_latched_and_served_once() {
        let mut pic = initialised();
        pic.set_line(4, true);
        assert!(pic.output());
        assert_eq!(pic.acknowledge(), 0x34);
        assert!(!pic.output());
        pic.write(0x20, 0x20);
        assert!(!pic.output());
        pic.set_line(4, false);
        pic.set_line(4, true);
        assert!(pic.output());
    }

    #[test]
    fn priority_and_nesting() {
        let mut pic = initialised();
        pic.set_line(4, true);
        assert_eq!(pic.acknowledge(), 0x34);
        pic.set_line(5, true);
        assert!(!pic.output(), "lower priority waits");
        pic.set_line(0, true);
        assert_eq!(pic.acknowledge(), 0x30);
        pic.write(0x20, 0x20);
        assert!(!pic.output());
        pic.write(0x20, 0x20);
        assert_eq!(pic.acknowledge(), 0x35);
    }

    #[test]
    fn slave_is_cascaded() {
        let mut pic = initialised();
        pic.set_line(8, true);
        assert_eq!(pic.acknowledge(), 0x38);
        pic.set_line(12, true);
        assert!(!pic.output());
        pic.write(0xa0, 0x20);
        pic.write(0x20, 0x20);
        assert_eq!(pic.acknowledge(), 0x3c);
        pic.write(0xa0, 0x64);
        pic.write(0x20, 0x62);
        pic.write(0xa0, 0x0b);
        assert_eq!(pic.read(0xa0), 0);
    }

    #[test]
    fn level_trigger_repeats_until_lowered() {
        let mut pic = initialised();
        pic.write(0x4d1, 0xff);
        assert_eq!(pic.read(0x4d1), 0xde);
        pic.set_line(10, true);
        assert_eq!(pic.acknowledge(), 0x3a);
        pic.write(0xa0, 0x20);
        pic.write(0x20, 0x20);
        assert!(pic.output());
        pic.set_line(10, false);
        assert!(!pic.output());
        assert_eq!(pic.acknowledge(), 0x37, "spurious");
    }

    #[test]
    fn mask_readback_and_automatic_end() {
        let mut pic = initialised();
        pic.write(0x21, 0xfb);
        assert_eq!(pic.read(0x21), 0xfb);
        pic.set_line(1, true);
        assert!(!pic.output());
        pic.write(0x21, 0);
        assert!(pic.output());
        for (port, value) in [(0x20, 0x11), (0x21, 0x20), (0x21, 4), (0x21, 3)] {
            pic.write(port, value);
        }
        pic.set_line(1, false);
        pic.set_line(1, true);
        assert_eq!(pic.acknowledge(), 0x21);
        pic.write(0x20, 0x0b);
        assert_eq!(pic.read(0x20), 0, "automatic end of interrupt");
    }

    #[test]
    fn rotation_and_poll() {
        let mut pic = initialised();
        pic.write(0x20, 0xc3);
        pic.set_line(3, true);
        pic.set_line(6, true);
        pic.write(0x20, 0x0c);
        assert_eq!(pic.read(0x20), 0x86);
        pic.write(0x20, 0xa0);
        assert_eq!(pic.acknowledge(), 0x33);
    }

    #[test]
    fn special_mask_mode_lets_lower_priorities_through() {
        let mut pic = initialised();
        pic.set_line(3, true);
        assert_eq!(pic.acknowledge(), 0x33);
        pic.set_line(6, true);
        assert!(!pic.output());
        pic.write(0x21, 0x08);
        pic.write(0x20, 0x68);
        assert_eq!(pic.acknowledge(), 0x36);
    }

    proptest! {
        #[test]
        fn any_sequence_is_survived(steps in proptest::collection::vec((0u8..4, any::<u16>(), any::<u8>()), 0..400)) {
            let ports = [0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1];
            let mut pic = Pic::new();
            for (action, place, value) in steps {
                match action {
                    0 => pic.set_line((place % 20) as u8, value & 1 != 0),
                    1 => pic.write(ports[usize::from(place) % 6], value),
                    2 => { pic.read(ports[usize::from(place) % 6]); }
                    _ => if pic.output() { pic.acknowledge(); }
                }
            }
        }
    }
}
