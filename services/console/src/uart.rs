//! A 16550 UART at 115200 baud (National Semiconductor PC16550D, 8.0).

/// Access to the eight registers.
pub trait Registers {
    /// Reads the register at this offset, below 8.
    fn read(&self, offset: u16) -> u8;
    /// Writes the register at this offset, below 8.
    fn write(&self, offset: u16, value: u8);
}

const DATA: u16 = 0;
const INTERRUPT_ENABLE: u16 = 1;
/// Read: which interrupt; write: FIFO control.
const INTERRUPT_FIFO: u16 = 2;
const LINE_CONTROL: u16 = 3;
const MODEM_CONTROL: u16 = 4;
const LINE_STATUS: u16 = 5;
const MODEM_STATUS: u16 = 6;
const DIVISOR_LOW: u16 = 0;
const DIVISOR_HIGH: u16 = 1;

const ENABLE_RECEIVED: u8 = 1 << 0;
const ENABLE_EMPTY: u8 = 1 << 1;
const NO_INTERRUPT: u8 = 1 << 0;
/// FIFOs on and empty; an interrupt for each received byte.
const FIFO_START: u8 = 0b111;
const DIVISOR_ACCESS: u8 = 1 << 7;
const EIGHT_BITS: u8 = 0b11;
/// DTR, RTS, and OUT2, which connects the interrupt line on PCs.
const MODEM_READY: u8 = 0b1011;
const DATA_READY: u8 = 1 << 0;
const TRANSMITTER_EMPTY: u8 = 1 << 5;
/// FIFO and shift register are empty.
const TRANSMITTER_IDLE: u8 = 1 << 6;

/// Bytes that the transmitter's FIFO takes once it is empty.
const BURST: usize = 16;
/// Most bytes read at once, against a UART that never says it is empty.
const RECEIVE_LIMIT: usize = 64;
/// Most causes looked at for one interrupt.
const CAUSES: usize = 16;

/// A UART, set up.
#[derive(Debug)]
pub struct Uart<R> {
    registers: R,
    wants_empty: bool,
}

impl<R: Registers> Uart<R> {
    /// Sets up 115200 baud, 8 data bits, no parity, and interrupts for what is received.
    pub fn start(registers: R) -> Self {
        registers.write(INTERRUPT_ENABLE, 0);
        registers.write(LINE_CONTROL, DIVISOR_ACCESS);
        registers.write(DIVISOR_LOW, 1);
        registers.write(DIVISOR_HIGH, 0);
        registers.write(LINE_CONTROL, EIGHT_BITS);
        registers.write(INTERRUPT_FIFO, FIFO_START);
        registers.write(MODEM_CONTROL, MODEM_READY);
        registers.write(INTERRUPT_ENABLE, ENABLE_RECEIVED);
        Self { registers, wants_empty: false }
    }

    /// Clears what the interrupt line is up for, so that it can rise again. Received bytes are left to [`Uart::receive`].
    pub fn on_interrupt(&mut self, mut received: impl FnMut(u8)) {
        for _ in 0..CAUSES {
            // Reading the cause clears that of the transmitter.
            if self.registers.read(INTERRUPT_FIFO) & NO_INTERRUPT != 0 {
                return;
            }
            self.receive(&mut received);
            self.registers.read(MODEM_STATUS);
        }
    }

    /// Hands over what has been received.
    pub fn receive(&mut self, mut received: impl FnMut(u8)) {
        for _ in 0..RECEIVE_LIMIT {
            if self.registers.read(LINE_STATUS) & DATA_READY == 0 {
                return;
            }
            received(self.registers.read(DATA));
        }
    }

    /// Sends what `next` yields, if the transmitter is empty, up to its FIFO's size. Returns whether it took as much as it can,
    /// so that there may be more to send.
    pub fn transmit(&mut self, mut next: impl FnMut() -> Option<u8>) -> bool {
        if self.registers.read(LINE_STATUS) & TRANSMITTER_EMPTY == 0 {
            return false;
        }
        for _ in 0..BURST {
            match next() {
                Some(byte) => self.registers.write(DATA, byte),
                None => return false,
            }
        }
        true
    }

    /// Whether everything has left, down to the last bit.
    pub fn is_drained(&self) -> bool {
        self.registers.read(LINE_STATUS) & TRANSMITTER_IDLE != 0
    }

    /// Asks for an interrupt once the transmitter is empty, or for none.
    pub fn want_empty(&mut self, wanted: bool) {
        if self.wants_empty != wanted {
            self.wants_empty = wanted;
            let enable = if wanted { ENABLE_RECEIVED | ENABLE_EMPTY } else { ENABLE_RECEIVED };
            self.registers.write(INTERRUPT_ENABLE, enable);
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::cell::RefCell;
    use std::collections::VecDeque;
    use std::vec::Vec;

    /// A UART with a FIFO of 16 bytes each way.
    #[derive(Default)]
    struct Device {
        written: Vec<(u16, u8)>,
        sent: Vec<u8>,
        fifo: usize,
        typed: VecDeque<u8>,
    }

    impl Registers for &RefCell<Device> {
        fn read(&self, offset: u16) -> u8 {
            let mut device = self.borrow_mut();
            match offset {
                DATA => device.typed.pop_front().unwrap_or(0),
                INTERRUPT_FIFO => {
                    if device.typed.is_empty() {
                        1
                    } else {
                        4
                    }
                }
                LINE_STATUS => u8::from(!device.typed.is_empty()) | if device.fifo == 0 { 0x60 } else { 0 },
                _ => 0,
            }
        }

        fn write(&self, offset: u16, value: u8) {
            let mut device = self.borrow_mut();
            device.written.push((offset, value));
            if offset == DATA && device.written.iter().rev().find(|write| write.0 == LINE_CONTROL) == Some(&(3, 3)) {
                device.fifo += 1;
                assert!(device.fifo <= BURST, "the FIFO overflowed");
                device.sent.push(value);
            }
        }
    }

    #[test]
    fn bytes_are_sent_in_bursts() {
        let device = RefCell::new(Device::default());
        let mut uart = Uart::start(&device);
        let mut bytes = 0..40;
        assert!(uart.is_drained());
        assert!(uart.transmit(|| bytes.next()));
        assert!(!uart.transmit(|| bytes.next()));
        assert_eq!(device.borrow().sent.len(), 16);
        assert!(!uart.is_drained());
        device.borrow_mut().fifo = 0;
        assert!(uart.transmit(|| bytes.next()));
        device.borrow_mut().fifo = 0;
        assert!(!uart.transmit(|| bytes.next()));
        assert_eq!(device.borrow().sent, (0..40).collect::<Vec<_>>());
    }

    #[test]
    fn typed_bytes_are_received_at_an_interrupt() {
        let device = RefCell::new(Device::default());
        let mut uart = Uart::start(&device);
        device.borrow_mut().typed.extend(b"hello");
        let mut heard = Vec::new();
        uart.on_interrupt(|byte| heard.push(byte));
        assert_eq!(heard, b"hello");
    }

    #[test]
    fn a_uart_that_is_not_there_ends_no_loop_late() {
        struct Absent;
        impl Registers for Absent {
            fn read(&self, _: u16) -> u8 {
                0xfe
            }
            fn write(&self, _: u16, _: u8) {}
        }
        let mut uart = Uart::start(Absent);
        let mut heard = 0;
        uart.on_interrupt(|_| heard += 1);
        assert!(heard <= CAUSES * RECEIVE_LIMIT);
    }
}
