//! How an access of the guest finds the device model that answers it.

use crate::devices::clock::earlier;
use crate::devices::fw_cfg::{self, FirmwareConfiguration};
use crate::devices::hpet::{self, Hpet};
use crate::devices::i8042::KeyboardController;
use crate::devices::interrupts::{InterruptControllers, SERIAL_REQUEST, TIMER_REQUEST};
use crate::devices::message::{Deliver, InterruptMessage};
use crate::devices::pci::{self, PciBus, PciFunction, Space};
use crate::devices::pit::Pit;
use crate::devices::power::{self, Power, PowerEvent};
use crate::devices::uart::{SerialSink, Uart};
use crate::devices::{ioapic, rtc, rtc::Rtc};
use crate::layout::{PCI_CONFIGURATION, PCI_MEMORY, PCI_PORTS};
use alloc::vec::Vec;

/// The size of one access to a port or a device register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Width {
    /// 1 byte.
    Byte,
    /// 2 bytes.
    Word,
    /// 4 bytes.
    Dword,
    /// 8 bytes (memory-mapped registers only).
    Qword,
}

impl Width {
    /// The width that is `bytes` long, if there is one.
    pub const fn from_bytes(bytes: u32) -> Option<Self> {
        match bytes {
            1 => Some(Self::Byte),
            2 => Some(Self::Word),
            4 => Some(Self::Dword),
            8 => Some(Self::Qword),
            _ => None,
        }
    }

    /// Length in bytes.
    pub const fn bytes(self) -> u32 {
        match self {
            Self::Byte => 1,
            Self::Word => 2,
            Self::Dword => 4,
            Self::Qword => 8,
        }
    }

    /// All ones in this width: what an access that no device claims reads.
    pub const fn mask(self) -> u64 {
        match self {
            Self::Byte => 0xff,
            Self::Word => 0xffff,
            Self::Dword => 0xffff_ffff,
            Self::Qword => u64::MAX,
        }
    }
}

/// What the devices are told at their start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PlatformParameters {
    /// Frequency of the clock in which every `now` is told.
    pub tsc_hertz: u64,
    /// The clock at the start.
    pub now: u64,
    /// What the real-time clock shows then: seconds since 1970-01-01 00:00.
    pub unix_time: i64,
    /// Bytes of RAM below [`LOW_LIMIT`](crate::memory::LOW_LIMIT).
    pub memory_below: u64,
    /// Bytes of RAM from 4 GiB up.
    pub memory_above: u64,
    /// Processors.
    pub processors: u32,
    /// Whether there is a high precision event timer.
    pub hpet: bool,
}

/// The devices that all processors of a guest share. `F` is the type of its PCI functions, `S` takes its serial output.
#[derive(Clone, Debug)]
pub struct Platform<F, S> {
    interrupts: InterruptControllers,
    uart: Uart,
    serial: S,
    pit: Pit,
    rtc: Rtc,
    hpet: Option<Hpet>,
    keyboard: KeyboardController,
    power: Power,
    configuration: FirmwareConfiguration,
    pci: PciBus<F>,
    /// Earliest time at which a timer or the clock want to be told; `u64::MAX` for never.
    deadline: u64,
}

impl<F: PciFunction, S: SerialSink> Platform<F, S> {
    /// The devices after reset. `functions` become PCI devices 1, 2, ...
    pub fn new(parameters: &PlatformParameters, functions: Vec<F>, serial: S) -> Self {
        let level_triggered = pci::INTERRUPT_REQUESTS.iter().fold(1 << power::SCI, |set, request| set | 1 << request);
        Self {
            interrupts: InterruptControllers::new(level_triggered),
            uart: Uart::new(),
            serial,
            pit: Pit::new(parameters.tsc_hertz),
            rtc: Rtc::new(parameters),
            hpet: parameters.hpet.then(|| Hpet::new(parameters.tsc_hertz)),
            keyboard: KeyboardController::new(),
            power: Power::new(parameters.tsc_hertz),
            configuration: FirmwareConfiguration::new(
                u16::try_from(parameters.processors).unwrap_or(u16::MAX),
                parameters.memory_below.saturating_add(parameters.memory_above),
            ),
            pci: PciBus::new(functions),
            deadline: u64::MAX,
        }
    }

    /// Reads a port. Ports that nothing claims read as all ones.
    pub fn read_port(&mut self, port: u16, width: Width, now: u64, to: &mut impl Deliver) -> u32 {
        match (width, port) {
            (Width::Byte, _) => u32::from(self.read_byte(port, now, to)),
            (Width::Dword, pci::ADDRESS_PORT) => self.pci.address(),
            (Width::Dword, power::TIMER_PORT) => self.power.timer(now),
            (_, pci::DATA_PORT..=0xcff) => self.pci.read_data(port, width),
            (_, 0x1000..) => self.read_window(Space::Ports, u64::from(port), width, to) as u32,
            // A wide access to byte registers is one access to each.
            _ => (0..width.bytes().min(4))
                .rev()
                .fold(0, |value, byte| value << 8 | u32::from(self.read_byte(port.wrapping_add(byte as u16), now, to))),
        }
    }

    /// Writes a port. What that did to the machine as a whole, if anything.
    pub fn write_port(
        &mut self,
        port: u16,
        width: Width,
        value: u32,
        now: u64,
        to: &mut impl Deliver,
    ) -> Option<PowerEvent> {
        match (width, port) {
            (_, power::EXIT_PORT) => return Some(PowerEvent::Exit(value & width.mask() as u32)),
            (Width::Byte, _) => return self.write_byte(port, value as u8, now, to),
            (Width::Word, fw_cfg::SELECTOR_PORT) => self.configuration.select(value as u16),
            (Width::Dword, pci::ADDRESS_PORT) => self.pci.set_address(value),
            (_, pci::DATA_PORT..=0xcff) => {
                let function = self.pci.write_data(port, width, value);
                self.attend(function, to);
            }
            (_, 0x1000..) => self.write_window(Space::Ports, u64::from(port), width, u64::from(value), to),
            _ => {
                let mut event = None;
                for byte in 0..width.bytes().min(4) {
                    let place = port.wrapping_add(byte as u16);
                    event = event.or(self.write_byte(place, (value >> (8 * byte)) as u8, now, to));
                }
                return event;
            }
        }
        None
    }

    fn read_byte(&mut self, port: u16, now: u64, to: &mut impl Deliver) -> u8 {
        match port {
            0x3f8..=0x3ff => {
                let value = self.uart.read(port & 7);
                self.interrupts.set_level(SERIAL_REQUEST, self.uart.interrupt(), to);
                value
            }
            0x20 | 0x21 | 0xa0 | 0xa1 | 0x4d0 | 0x4d1 => self.interrupts.read_pic(port, to),
            0x40..=0x43 | 0x61 => self.pit.read(port, now),
            0x60 | 0x64 => self.keyboard.read(port),
            0x70 | 0x71 => {
                let value = self.rtc.read(port, now);
                self.attend_rtc(to);
                value
            }
            fw_cfg::DATA_PORT => self.configuration.read(),
            power::FAST_PORT => self.power.read_fast(),
            power::RESET_PORT => self.power.read_reset(),
            power::EVENT_PORT..=0x60f => self.power.read_fixed(port - power::EVENT_PORT, now),
            pci::DATA_PORT..=0xcff => self.pci.read_data(port, Width::Byte) as u8,
            0x1000.. => self.read_window(Space::Ports, u64::from(port), Width::Byte, to) as u8,
            _ => 0xff,
        }
    }

    fn write_byte(&mut self, port: u16, value: u8, now: u64, to: &mut impl Deliver) -> Option<PowerEvent> {
        match port {
            0x3f8..=0x3ff => {
                self.uart.write(port & 7, value, &mut self.serial);
                self.interrupts.set_level(SERIAL_REQUEST, self.uart.interrupt(), to);
            }
            0x20 | 0x21 | 0xa0 | 0xa1 | 0x4d0 | 0x4d1 => self.interrupts.write_pic(port, value, to),
            0x40..=0x43 | 0x61 => {
                self.pit.write(port, value, now);
                self.attend_pit(now, to);
            }
            0x60 | 0x64 => return self.keyboard.write(port, value),
            0x70 | 0x71 => {
                self.rtc.write(port, value, now);
                self.attend_rtc(to);
            }
            power::FAST_PORT => return self.power.write_fast(value),
            power::RESET_PORT => return self.power.write_reset(value),
            power::EVENT_PORT..=0x60f => {
                let event = self.power.write_fixed(port - power::EVENT_PORT, value, now);
                self.interrupts.set_level(power::SCI, self.power.interrupt(), to);
                self.set_deadline();
                return event;
            }
            pci::DATA_PORT..=0xcff => {
                let function = self.pci.write_data(port, Width::Byte, u32::from(value));
                self.attend(function, to);
            }
            0x1000.. => self.write_window(Space::Ports, u64::from(port), Width::Byte, u64::from(value), to),
            // Among them 0x80, which exists to be written for the time it takes.
            _ => {}
        }
        None
    }

    /// Reads guest-physical memory that is not RAM. What nothing claims reads as all ones.
    pub fn read_memory(&mut self, address: u64, width: Width, now: u64, to: &mut impl Deliver) -> u64 {
        match address {
            ioapic::BASE..0xfec0_1000 => {
                let lane = address & 3;
                let register = u64::from(self.interrupts.read_ioapic(address & 0xffc));
                (register >> (8 * lane)) & width.mask()
            }
            hpet::BASE..hpet::END => self.read_hpet(address - hpet::BASE, width, now, to),
            _ if PCI_CONFIGURATION.contains(&address) => {
                self.pci.read_enhanced(address - PCI_CONFIGURATION.start, width)
            }
            _ => self.read_window(Space::Memory, address, width, to),
        }
    }

    /// Writes guest-physical memory that is not RAM. What nothing claims ignores it.
    pub fn write_memory(&mut self, address: u64, width: Width, value: u64, now: u64, to: &mut impl Deliver) {
        match address {
            ioapic::BASE..0xfec0_1000 => {
                self.interrupts.write_ioapic(address & 0xfff, (value & width.mask()) as u32, to)
            }
            hpet::BASE..hpet::END => self.write_hpet(address - hpet::BASE, width, value, now, to),
            _ if PCI_CONFIGURATION.contains(&address) => {
                let function = self.pci.write_enhanced(address - PCI_CONFIGURATION.start, width, value);
                self.attend(function, to);
            }
            _ => self.write_window(Space::Memory, address, width, value, to),
        }
    }

    fn in_windows(space: Space, address: u64) -> bool {
        match space {
            Space::Ports => u64::from(PCI_PORTS.start) <= address && address < u64::from(PCI_PORTS.end),
            // Windows above 4 GiB are the operating system's own choice.
            Space::Memory => PCI_MEMORY.contains(&address) || address >= 1 << 32,
        }
    }

    fn read_window(&mut self, space: Space, address: u64, width: Width, to: &mut impl Deliver) -> u64 {
        if !Self::in_windows(space, address) {
            return width.mask();
        }
        match self.pci.read(space, address, width) {
            Some((function, value)) => {
                self.attend(Some(function), to);
                value
            }
            None => width.mask(),
        }
    }

    fn write_window(&mut self, space: Space, address: u64, width: Width, value: u64, to: &mut impl Deliver) {
        if Self::in_windows(space, address) {
            let function = self.pci.write(space, address, width, value);
            self.attend(function, to);
        }
    }

    /// Carries the interrupts of a function that was accessed.
    fn attend(&mut self, function: Option<usize>, to: &mut impl Deliver) {
        let Some(function) = function.and_then(|index| self.pci.functions_mut().get_mut(index)) else {
            return;
        };
        while let Some(message) = function.take_message() {
            if let Some(message) = InterruptMessage::from_msi(message) {
                to.deliver(message);
            }
        }
        let mask = pci::INTERRUPT_REQUESTS.iter().fold(0, |set, request| set | 1 << request);
        self.interrupts.set_levels(mask, self.pci.asserted(), to);
    }

    /// The PCI functions, in the order of their device numbers from 1.
    pub fn functions(&self) -> &[F] {
        self.pci.functions()
    }

    /// Lets the owner of PCI function `index` tell it news (a request completed, ...), then carries its interrupts.
    pub fn with_function<R>(
        &mut self,
        index: usize,
        to: &mut impl Deliver,
        tell: impl FnOnce(&mut F) -> R,
    ) -> Option<R> {
        let result = self.pci.functions_mut().get_mut(index).map(tell);
        self.attend(Some(index), to);
        result
    }

    /// What takes the serial output.
    pub const fn serial(&mut self) -> &mut S {
        &mut self.serial
    }

    /// Characters that the serial port would take now.
    pub fn serial_room(&self) -> usize {
        self.uart.room()
    }

    /// A character arrives at the serial port; `false` if there is no room for it.
    pub fn receive(&mut self, character: u8, to: &mut impl Deliver) -> bool {
        let taken = self.uart.receive(character);
        self.interrupts.set_level(SERIAL_REQUEST, self.uart.interrupt(), to);
        taken
    }

    /// The sink has room again.
    pub fn flush_serial(&mut self, to: &mut impl Deliver) {
        self.uart.flush(&mut self.serial);
        self.interrupts.set_level(SERIAL_REQUEST, self.uart.interrupt(), to);
    }

    /// Whether serial output waits for room in the sink.
    pub const fn is_serial_waiting(&self) -> bool {
        self.uart.is_waiting()
    }

    /// Presses the power button: an operating system that listens shuts down.
    pub fn press_power_button(&mut self, to: &mut impl Deliver) {
        self.power.press_power_button();
        self.interrupts.set_level(power::SCI, self.power.interrupt(), to);
    }

    /// The processor acknowledges an interrupt of the 8259A: its vector.
    pub fn acknowledge_pic(&mut self, to: &mut impl Deliver) -> u8 {
        self.interrupts.acknowledge_pic(to)
    }

    /// A local APIC tells the end of a level-triggered interrupt.
    pub fn end_of_interrupt(&mut self, vector: u8, to: &mut impl Deliver) {
        self.interrupts.end_of_interrupt(vector, to);
    }

    /// Time at which [`advance`](Self::advance) must be called; `u64::MAX` for never.
    pub const fn deadline(&self) -> u64 {
        self.deadline
    }

    /// Tells timers and clock the time.
    #[inline]
    pub fn advance(&mut self, now: u64, to: &mut impl Deliver) {
        if now >= self.deadline {
            self.advance_timers(now, to);
        }
    }

    fn advance_timers(&mut self, now: u64, to: &mut impl Deliver) {
        if self.pit.take_tick(now) && !self.is_legacy_replaced() {
            self.interrupts.pulse(TIMER_REQUEST, to);
        }
        if self.rtc.next_deadline().is_some_and(|deadline| deadline <= now) {
            self.rtc.advance(now);
            self.attend_rtc(to);
        }
        if self.power.next_deadline().is_some_and(|deadline| deadline <= now) {
            self.power.advance(now);
            self.interrupts.set_level(power::SCI, self.power.interrupt(), to);
        }
        self.advance_hpet(now, to);
        self.set_deadline();
    }

    /// Whether the high precision event timer interrupts in the place of interval timer and clock.
    fn is_legacy_replaced(&self) -> bool {
        self.hpet.as_ref().is_some_and(Hpet::replaces_legacy)
    }

    fn attend_pit(&mut self, now: u64, to: &mut impl Deliver) {
        if !self.is_legacy_replaced() {
            self.interrupts.set_level(TIMER_REQUEST, self.pit.line(now), to);
        }
        self.set_deadline();
    }

    fn attend_rtc(&mut self, to: &mut impl Deliver) {
        if !self.is_legacy_replaced() {
            self.interrupts.set_level(rtc::IRQ, self.rtc.interrupt(), to);
        }
        self.set_deadline();
    }

    fn advance_hpet(&mut self, now: u64, to: &mut impl Deliver) {
        if let Some(hpet) = &mut self.hpet {
            hpet.advance(now);
            hpet.tell(&mut self.interrupts, to);
        }
    }

    // Apart, since systems read other registers more often.
    #[inline(never)]
    fn read_hpet(&mut self, offset: u64, width: Width, now: u64, to: &mut impl Deliver) -> u64 {
        self.advance_hpet(now, to);
        self.hpet.as_ref().map_or(width.mask(), |hpet| hpet.read(offset, width, now))
    }

    #[inline(never)]
    fn write_hpet(&mut self, offset: u64, width: Width, value: u64, now: u64, to: &mut impl Deliver) {
        self.advance_hpet(now, to);
        let Some(hpet) = &mut self.hpet else {
            return;
        };
        hpet.write(offset, width, value, now);
        hpet.tell(&mut self.interrupts, to);
        // Interval timer and clock may have their lines back.
        self.attend_pit(now, to);
        self.attend_rtc(to);
    }

    fn set_deadline(&mut self) {
        let hpet = self.hpet.as_ref().and_then(Hpet::next_deadline);
        let deadlines = [self.pit.next_deadline(), self.rtc.next_deadline(), self.power.next_deadline(), hpet];
        self.deadline = deadlines.into_iter().fold(None, earlier).unwrap_or(u64::MAX);
    }
}
