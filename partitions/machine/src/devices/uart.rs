//! The 16550A serial port.
//!
//! Characters take no time: what the guest sends goes straight to the sink while it has room, and only then into the
//! transmitter's FIFO.

/// Takes the characters that the guest sends.
pub trait SerialSink {
    /// Takes one character; `false` if there is no room for it now.
    fn send(&mut self, character: u8) -> bool;
}

/// Characters that each FIFO holds.
const FIFO: usize = 16;

/// Interrupt enable register.
mod enable {
    pub const RECEIVED: u8 = 1 << 0;
    pub const TRANSMITTER_EMPTY: u8 = 1 << 1;
    pub const LINE_STATUS: u8 = 1 << 2;
    pub const MODEM_STATUS: u8 = 1 << 3;
    pub const ALL: u8 = 0x0f;
}

/// Interrupt identification register.
mod identification {
    pub const NONE: u8 = 0x01;
    pub const MODEM_STATUS: u8 = 0x00;
    pub const TRANSMITTER_EMPTY: u8 = 0x02;
    pub const RECEIVED: u8 = 0x04;
    pub const LINE_STATUS: u8 = 0x06;
    pub const TIMEOUT: u8 = 0x0c;
    pub const FIFOS_ENABLED: u8 = 0xc0;
}

/// Line status register.
mod line {
    pub const RECEIVED: u8 = 1 << 0;
    pub const OVERRUN: u8 = 1 << 1;
    pub const BREAK: u8 = 1 << 4;
    pub const HOLDING_EMPTY: u8 = 1 << 5;
    pub const TRANSMITTER_EMPTY: u8 = 1 << 6;
}

/// Modem control register.
mod control {
    pub const OUT2: u8 = 1 << 3;
    pub const LOOPBACK: u8 = 1 << 4;
    pub const ALL: u8 = 0x1f;
}

/// Line control register: the divisor latch is in front of the first two registers.
const DIVISOR_ACCESS: u8 = 1 << 7;
/// FIFO control register: FIFOs enabled.
const FIFO_ENABLE: u8 = 1 << 0;
/// Clear to send, data set ready, carrier detect: the other end is always there.
const MODEM_PRESENT: u8 = 0xb0;

#[derive(Clone, Debug, Default)]
struct Fifo {
    characters: [u8; FIFO],
    first: usize,
    length: usize,
}

impl Fifo {
    fn push(&mut self, character: u8, capacity: usize) -> bool {
        if self.length >= capacity {
            return false;
        }
        if let Some(place) = self.characters.get_mut((self.first + self.length) % FIFO) {
            *place = character;
            self.length += 1;
        }
        true
    }

    fn front(&self) -> Option<u8> {
        if self.length == 0 { None } else { self.characters.get(self.first).copied() }
    }

    fn pop(&mut self) -> Option<u8> {
        let character = self.front()?;
        self.first = (self.first + 1) % FIFO;
        self.length -= 1;
        Some(character)
    }

    fn clear(&mut self) {
        self.length = 0;
    }
}

/// Eight registers, by their offset from the base port.
#[derive(Clone, Debug)]
pub struct Uart {
    interrupt_enable: u8,
    fifo_control: u8,
    line_control: u8,
    modem_control: u8,
    /// Error bits of the line status register; the other bits follow from the FIFOs.
    line_errors: u8,
    modem_status: u8,
    scratch: u8,
    divisor: [u8; 2],
    received: Fifo,
    waiting: Fifo,
    transmitter_interrupt: bool,
}

impl Default for Uart {
    fn default() -> Self {
        Self::new()
    }
}

impl Uart {
    /// The port after reset, at 115,200 baud.
    pub fn new() -> Self {
        Self {
            interrupt_enable: 0,
            fifo_control: 0,
            line_control: 0,
            modem_control: 0,
            line_errors: 0,
            modem_status: MODEM_PRESENT,
            scratch: 0,
            divisor: [1, 0],
            received: Fifo::default(),
            waiting: Fifo::default(),
            transmitter_interrupt: false,
        }
    }

    /// Whether the interrupt request line is high.
    pub fn interrupt(&self) -> bool {
        self.modem_control & control::OUT2 != 0
            && (self.interrupt_enable != 0)
            && self.identify() != identification::NONE
    }

    /// Characters that [`receive`](Self::receive) would take now.
    pub fn room(&self) -> usize {
        if self.modem_control & control::LOOPBACK != 0 {
            0
        } else {
            self.capacity() - self.received.length.min(self.capacity())
        }
    }

    /// A character arrives from outside; `false` if there is no room for it.
    pub fn receive(&mut self, character: u8) -> bool {
        self.room() > 0 && self.received.push(character, self.capacity())
    }

    /// The sink has room again: sends what waits. Whether anything was sent.
    pub fn flush(&mut self, sink: &mut impl SerialSink) -> bool {
        let mut sent = false;
        while let Some(character) = self.waiting.front() {
            if !sink.send(character) {
                return sent;
            }
            self.waiting.pop();
            sent = true;
        }
        self.transmitter_interrupt |= sent;
        sent
    }

    /// Whether characters wait for room in the sink.
    pub const fn is_waiting(&self) -> bool {
        self.waiting.length != 0
    }

    /// Reads a register.
    pub fn read(&mut self, offset: u16) -> u8 {
        match offset {
            0 if self.line_control & DIVISOR_ACCESS != 0 => self.divisor[0],
            0 => self.received.pop().unwrap_or(0),
            1 if self.line_control & DIVISOR_ACCESS != 0 => self.divisor[1],
            1 => self.interrupt_enable,
            2 => {
                let identification = self.identify();
                if identification == identification::TRANSMITTER_EMPTY {
                    self.transmitter_interrupt = false;
                }
                let fifos = if self.fifo_control & FIFO_ENABLE != 0 { identification::FIFOS_ENABLED } else { 0 };
                identification | fifos
            }
            3 => self.line_control,
            4 => self.modem_control,
            5 => {
                let status = self.line_status();
                self.line_errors = 0;
                status
            }
            6 => {
                let status = self.modem_status();
                self.modem_status &= 0xf0;
                status
            }
            7 => self.scratch,
            _ => 0xff,
        }
    }

    /// Writes a register.
    pub fn write(&mut self, offset: u16, value: u8, sink: &mut impl SerialSink) {
        match offset {
            0 if self.line_control & DIVISOR_ACCESS != 0 => self.divisor[0] = value,
            0 => self.transmit(value, sink),
            1 if self.line_control & DIVISOR_ACCESS != 0 => self.divisor[1] = value,
            1 => {
                let newly = value & !self.interrupt_enable;
                self.interrupt_enable = value & enable::ALL;
                if newly & enable::TRANSMITTER_EMPTY != 0 && !self.is_waiting() {
                    self.transmitter_interrupt = true;
                }
            }
            2 => self.write_fifo_control(value),
            3 => self.line_control = value,
            4 => self.write_modem_control(value),
            7 => self.scratch = value,
            _ => {}
        }
    }

    fn capacity(&self) -> usize {
        if self.fifo_control & FIFO_ENABLE != 0 { FIFO } else { 1 }
    }

    fn transmit(&mut self, character: u8, sink: &mut impl SerialSink) {
        if self.modem_control & control::LOOPBACK != 0 {
            if !self.received.push(character, self.capacity()) {
                self.line_errors |= line::OVERRUN;
            }
            self.transmitter_interrupt = true;
            return;
        }
        if self.waiting.length == 0 && sink.send(character) {
            self.transmitter_interrupt = true;
            return;
        }
        // With a full FIFO the hardware, too, loses the character: its driver did not look at the status.
        self.transmitter_interrupt = false;
        self.waiting.push(character, FIFO);
    }

    fn write_fifo_control(&mut self, value: u8) {
        let toggled = (value ^ self.fifo_control) & FIFO_ENABLE != 0;
        if toggled || value & 0x02 != 0 {
            self.received.clear();
        }
        if toggled || value & 0x04 != 0 {
            self.waiting.clear();
        }
        self.fifo_control = value & 0xc9;
    }

    fn write_modem_control(&mut self, value: u8) {
        let before = self.modem_status();
        self.modem_control = value & control::ALL;
        let after = self.modem_status();
        // Changes of CTS, DSR and DCD, and the trailing edge of RI.
        let changed = (before ^ after) >> 4;
        self.modem_status |= (changed & 0x0b) | (changed & before >> 4 & 0x04);
    }

    fn line_status(&self) -> u8 {
        let received = if self.received.length > 0 { line::RECEIVED } else { 0 };
        let empty = if self.is_waiting() { 0 } else { line::HOLDING_EMPTY | line::TRANSMITTER_EMPTY };
        self.line_errors | received | empty
    }

    fn modem_status(&self) -> u8 {
        if self.modem_control & control::LOOPBACK == 0 {
            return self.modem_status;
        }
        // RTS, DTR, OUT1 and OUT2 come back as CTS, DSR, RI and DCD.
        let looped = (self.modem_control & 0x02) << 3
            | (self.modem_control & 0x01) << 5
            | (self.modem_control & 0x04) << 4
            | (self.modem_control & 0x08) << 4;
        (self.modem_status & 0x0f) | looped
    }

    /// The interrupt of the highest priority.
    fn identify(&self) -> u8 {
        let enabled = self.interrupt_enable;
        if enabled & enable::LINE_STATUS != 0 && self.line_errors & (line::OVERRUN | line::BREAK) != 0 {
            identification::LINE_STATUS
        } else if enabled & enable::RECEIVED != 0 && self.received.length > 0 {
            let trigger = match self.fifo_control & 0xc1 {
                0x41 => 4,
                0x81 => 8,
                0xc1 => 14,
                _ => 1,
            };
            // Time does not pass between characters, so fewer than the trigger have always been waiting long enough.
            if self.received.length >= trigger { identification::RECEIVED } else { identification::TIMEOUT }
        } else if enabled & enable::TRANSMITTER_EMPTY != 0 && self.transmitter_interrupt {
            identification::TRANSMITTER_EMPTY
        } else if enabled & enable::MODEM_STATUS != 0 && self.modem_status & 0x0f != 0 {
            identification::MODEM_STATUS
        } else {
            identification::NONE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    struct Limited {
        taken: Vec<u8>,
        room: usize,
    }

    impl SerialSink for Limited {
        fn send(&mut self, character: u8) -> bool {
            let fits = self.taken.len() < self.room;
            if fits {
                self.taken.push(character);
            }
            fits
        }
    }

    fn sink(room: usize) -> Limited {
        Limited { taken: Vec::new(), room }
    }

    #[test]
    fn linux_recognises_a_16550a() {
        let mut uart = Uart::new();
        let mut sink = sink(100);
        // autoconfig(): scratch-free test of the interrupt enable register.
        uart.write(1, 0, &mut sink);
        assert_eq!(uart.read(1) & 0x0f, 0);
        uart.write(1, 0x0f, &mut sink);
        assert_eq!(uart.read(1) & 0x0f, 0x0f);
        uart.write(1, 0, &mut sink);
        // Loopback.
        uart.write(4, 0x1a, &mut sink);
        assert_eq!(uart.read(6) & 0xf0, 0x90);
        uart.write(4, 0, &mut sink);
        // FIFO detection, and no enhanced feature register of a 16650.
        uart.write(3, 0, &mut sink);
        uart.write(2, 1, &mut sink);
        assert_eq!(uart.read(2) >> 6, 3);
        uart.write(3, 0xbf, &mut sink);
        assert_ne!(uart.read(2), 0);
        uart.write(3, 0, &mut sink);
        // No XScale bit.
        uart.write(1, 0x40, &mut sink);
        assert_eq!(uart.read(1), 0);
    }

    #[test]
    fn transmitter_interrupt_comes_on_every_enable() {
        let mut uart = Uart::new();
        let mut sink = sink(100);
        uart.write(4, 8, &mut sink);
        for _ in 0..2 {
            uart.write(1, 2, &mut sink);
            assert!(uart.interrupt());
            assert_eq!(uart.read(2), 2);
            assert!(!uart.interrupt());
            assert_eq!(uart.read(2), 1);
            uart.write(1, 0, &mut sink);
        }
        uart.write(1, 2, &mut sink);
        uart.read(2);
        uart.write(0, b'x', &mut sink);
        assert!(uart.interrupt());
        assert_eq!(sink.taken, b"x");
    }

    #[test]
    fn a_full_sink_holds_the_transmitter() {
        let mut uart = Uart::new();
        let mut sink = sink(1);
        uart.write(2, 1, &mut sink);
        uart.write(0, b'a', &mut sink);
        assert_eq!(uart.read(5), 0x60);
        uart.write(0, b'b', &mut sink);
        uart.write(0, b'c', &mut sink);
        assert_eq!(uart.read(5), 0);
        assert!(!uart.flush(&mut sink));
        sink.room = 10;
        assert!(uart.flush(&mut sink));
        assert_eq!(sink.taken, b"abc");
        assert_eq!(uart.read(5), 0x60);
    }

    #[test]
    fn reception() {
        let mut uart = Uart::new();
        let mut sink = sink(0);
        uart.write(4, 8, &mut sink);
        uart.write(1, 1, &mut sink);
        assert!(uart.receive(b'1'));
        assert!(!uart.receive(b'2'), "no FIFO yet");
        assert!(uart.interrupt());
        assert_eq!(uart.read(2), 4);
        assert_eq!(uart.read(5) & 1, 1);
        assert_eq!(uart.read(0), b'1');
        assert!(!uart.interrupt());
        uart.write(2, 0x81, &mut sink);
        assert_eq!(uart.room(), 16);
        for character in 0..16 {
            assert!(uart.receive(character));
        }
        assert!(!uart.receive(0));
        assert_eq!(uart.read(2), 0xc4);
        for character in 0..9 {
            assert_eq!(uart.read(0), character);
        }
        assert_eq!(uart.read(2), 0xcc, "below the trigger");
        uart.write(2, 0x83, &mut sink);
        assert!(!uart.interrupt());
    }

    #[test]
    fn divisor_latch_and_loopback() {
        let mut uart = Uart::new();
        let mut sink = sink(10);
        uart.write(3, 0x83, &mut sink);
        uart.write(0, 12, &mut sink);
        uart.write(1, 1, &mut sink);
        assert_eq!((uart.read(0), uart.read(1)), (12, 1));
        uart.write(3, 3, &mut sink);
        uart.write(4, 0x18, &mut sink);
        uart.write(0, b'L', &mut sink);
        assert_eq!(uart.read(0), b'L');
        assert_eq!(uart.room(), 0);
        uart.write(0, 1, &mut sink);
        uart.write(0, 2, &mut sink);
        assert_eq!(uart.read(5) & 2, 2);
        assert!(sink.taken.is_empty());
    }

    proptest! {
        #[test]
        fn any_sequence_is_survived(steps in proptest::collection::vec((0u8..4, 0u16..10, any::<u8>()), 0..400)) {
            let mut uart = Uart::new();
            let mut sink = sink(5);
            for (action, offset, value) in steps {
                match action {
                    0 => { uart.read(offset); }
                    1 => uart.write(offset, value, &mut sink),
                    2 => { let room = uart.room(); prop_assert_eq!(uart.receive(value), room > 0); }
                    _ => { sink.room += 1; uart.flush(&mut sink); }
                }
                uart.interrupt();
            }
        }
    }
}
