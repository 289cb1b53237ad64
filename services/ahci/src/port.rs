//! Registers of the controller and of one port (AHCI, 3).

use bulkhead_driver::Registers;

/// Generic host control (3.1).
mod host {
    pub const CAPABILITIES: u32 = 0x00;
    pub const CONTROL: u32 = 0x04;
    pub const INTERRUPTS: u32 = 0x08;
    pub const PORTS: u32 = 0x0c;
    pub const CAPABILITIES_2: u32 = 0x24;
    pub const HANDOFF: u32 = 0x28;
}

/// GHC: reset, interrupts, AHCI mode (3.1.2).
mod control {
    pub const RESET: u32 = 1 << 0;
    pub const INTERRUPTS: u32 = 1 << 1;
    pub const AHCI: u32 = 1 << 31;
}

/// Registers of a port, from its first one on (3.3).
mod register {
    pub const LIST: u32 = 0x00;
    pub const RECEIVED: u32 = 0x08;
    pub const INTERRUPTS: u32 = 0x10;
    pub const INTERRUPT_ENABLE: u32 = 0x14;
    pub const COMMAND: u32 = 0x18;
    pub const TASK_FILE: u32 = 0x20;
    pub const SIGNATURE: u32 = 0x24;
    pub const STATUS: u32 = 0x28;
    pub const CONTROL: u32 = 0x2c;
    pub const ERROR: u32 = 0x30;
    pub const ACTIVE: u32 = 0x34;
    pub const ISSUE: u32 = 0x38;
}

const PORTS_AT: u32 = 0x100;
const PORT_BYTES: u32 = 0x80;
/// Ports that a controller can have.
pub const MAX_PORTS: u32 = 32;

/// PxCMD (3.3.7).
mod command {
    pub const START: u32 = 1 << 0;
    pub const SPIN_UP: u32 = 1 << 1;
    pub const POWER_ON: u32 = 1 << 2;
    pub const RECEIVE: u32 = 1 << 4;
    pub const RECEIVING: u32 = 1 << 14;
    pub const RUNNING: u32 = 1 << 15;
}

/// PxSCTL: the link stays out of the states Partial and Slumber (3.3.11).
const NO_POWER_SAVING: u32 = 3 << 8;

/// PxTFD: the drive's status (3.3.8).
mod task {
    pub const ERROR: u32 = 1 << 0;
    pub const DATA_REQUEST: u32 = 1 << 3;
    pub const FAULT: u32 = 1 << 5;
    pub const BUSY: u32 = 1 << 7;
}

/// What an interrupt says (3.3.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Events(u32);

impl Events {
    const CONNECT_CHANGE: u32 = 1 << 6;
    const PHY_CHANGE: u32 = 1 << 22;
    const OVERFLOW: u32 = 1 << 24;
    const FATAL_INTERFACE: u32 = 1 << 27;
    const BUS_DATA: u32 = 1 << 28;
    const BUS_FATAL: u32 = 1 << 29;
    const TASK_FILE: u32 = 1 << 30;
    /// What the port interrupts for: answers of the drive, and all errors but those that the controller makes up for.
    const WANTED: u32 = 0xf
        | Self::CONNECT_CHANGE
        | Self::PHY_CHANGE
        | Self::OVERFLOW
        | Self::FATAL_INTERFACE
        | Self::BUS_DATA
        | Self::BUS_FATAL
        | Self::TASK_FILE;

    /// Nothing answers on the bus.
    pub fn is_gone(self) -> bool {
        self.0 == u32::MAX
    }

    /// The drive was removed, or another one connected.
    pub fn is_replaced(self) -> bool {
        self.0 & Self::CONNECT_CHANGE != 0
    }

    /// The link was lost for a while.
    pub fn is_link_change(self) -> bool {
        self.0 & Self::PHY_CHANGE != 0
    }

    /// The drive reported an error.
    pub fn is_drive_error(self) -> bool {
        self.0 & Self::TASK_FILE != 0
    }

    /// Link or bus failed.
    pub fn is_transfer_error(self) -> bool {
        self.0 & (Self::OVERFLOW | Self::FATAL_INTERFACE | Self::BUS_DATA | Self::BUS_FATAL) != 0
    }
}

/// The controller.
pub struct Host<R>(pub R);

impl<R: Registers> Host<R> {
    /// Nothing answers on the bus.
    pub fn is_gone(&self) -> bool {
        self.0.read_u32(host::CONTROL) == u32::MAX
    }

    /// Asks the firmware for the controller, if it may have it (10.6). It has it when [`Host::is_handed_over`].
    pub fn ask_firmware(&self) {
        if self.0.read_u32(host::CAPABILITIES_2) & 1 != 0 {
            self.0.write_u32(host::HANDOFF, self.0.read_u32(host::HANDOFF) | 2);
        }
    }

    pub fn is_handed_over(&self) -> bool {
        self.0.read_u32(host::CAPABILITIES_2) & 1 == 0 || self.0.read_u32(host::HANDOFF) & 1 == 0
    }

    /// Resets the controller (10.4.3); it is done when [`Host::is_reset`].
    pub fn reset(&self) {
        self.0.write_u32(host::CONTROL, control::AHCI);
        self.0.write_u32(host::CONTROL, control::AHCI | control::RESET);
    }

    pub fn is_reset(&self) -> bool {
        self.0.read_u32(host::CONTROL) & control::RESET == 0
    }

    /// AHCI mode, with or without interrupts.
    pub fn enable(&self, interrupts: bool) {
        self.0.write_u32(host::CONTROL, control::AHCI | if interrupts { control::INTERRUPTS } else { 0 });
    }

    /// Command slots of each port, 1 to 32: CAP.NCS.
    pub fn slots(&self) -> u8 {
        (self.0.read_u32(host::CAPABILITIES) >> 8 & 0x1f) as u8 + 1
    }

    /// Native command queuing: CAP.SNCQ.
    pub fn queues(&self) -> bool {
        self.0.read_u32(host::CAPABILITIES) & 1 << 30 != 0
    }

    /// Addresses above 4 GiB: CAP.S64A.
    pub fn reaches_all(&self) -> bool {
        self.0.read_u32(host::CAPABILITIES) & 1 << 31 != 0
    }

    /// Numbers of the ports that are there.
    pub fn ports(&self) -> impl Iterator<Item = u32> + use<R> {
        let ports = self.0.read_u32(host::PORTS);
        (0..MAX_PORTS).filter(move |port| ports >> port & 1 != 0)
    }

    pub fn port(&self, number: u32) -> Port<'_, R> {
        Port { registers: &self.0, number }
    }
}

/// A port of the controller, with a number below [`MAX_PORTS`].
pub struct Port<'r, R> {
    registers: &'r R,
    number: u32,
}

impl<R: Registers> Port<'_, R> {
    fn at(&self, register: u32) -> u32 {
        PORTS_AT + PORT_BYTES * self.number + register
    }

    fn read(&self, register: u32) -> u32 {
        self.registers.read_u32(self.at(register))
    }

    fn write(&self, register: u32, value: u32) {
        self.registers.write_u32(self.at(register), value);
    }

    fn change(&self, register: u32, clear: u32, set: u32) {
        self.write(register, self.read(register) & !clear | set);
    }

    /// Lets the drive spin up.
    pub fn power(&self) {
        self.change(register::COMMAND, 0, command::SPIN_UP | command::POWER_ON);
    }

    /// Tells where the command list and the received frames are, and receives from then on (10.1.2).
    pub fn receive(&self, list: u64, received: u64) {
        self.registers.write_u64(self.at(register::LIST), list);
        self.registers.write_u64(self.at(register::RECEIVED), received);
        // The link is not to save power by itself: that would look as if it was lost (3.3.11, IPM).
        self.change(register::CONTROL, 0, NO_POWER_SAVING);
        self.change(register::COMMAND, 0, command::RECEIVE | command::SPIN_UP | command::POWER_ON);
        self.forget_errors();
    }

    /// Receives no more; done when [`Port::is_deaf`].
    pub fn stop_receiving(&self) {
        self.change(register::COMMAND, command::RECEIVE, 0);
    }

    pub fn is_deaf(&self) -> bool {
        self.read(register::COMMAND) & command::RECEIVING == 0
    }

    pub fn forget_errors(&self) {
        self.write(register::ERROR, u32::MAX);
        self.write(register::INTERRUPTS, u32::MAX);
    }

    /// Takes commands from the list.
    pub fn start(&self) {
        self.change(register::COMMAND, 0, command::START);
    }

    /// Takes no more commands; done when [`Port::is_stopped`].
    pub fn stop(&self) {
        self.change(register::COMMAND, command::START, 0);
    }

    /// The command list is not being worked on: the port does not reach memory but for received frames.
    pub fn is_stopped(&self) -> bool {
        self.read(register::COMMAND) & command::RUNNING == 0
    }

    /// Whether the port interrupts.
    pub fn enable_interrupts(&self, on: bool) {
        self.write(register::INTERRUPT_ENABLE, if on { Events::WANTED } else { 0 });
    }

    /// Takes what the interrupt is for. What comes afterwards interrupts again.
    pub fn take_events(&self) -> Events {
        let events = self.read(register::INTERRUPTS);
        self.write(register::INTERRUPTS, events);
        self.registers.write_u32(host::INTERRUPTS, 1 << self.number);
        Events(events)
    }

    /// There is a drive, and the link to it works: PxSSTS.DET.
    pub fn is_linked(&self) -> bool {
        let status = self.read(register::STATUS);
        status != u32::MAX && status & 0xf == 3
    }

    /// Begins or ends a reset of the link (10.4.2).
    pub fn hold_reset(&self, on: bool) {
        self.change(register::CONTROL, 0xf, u32::from(on));
    }

    /// The drive is ready for a command.
    pub fn is_ready(&self) -> bool {
        self.read(register::TASK_FILE) & (task::BUSY | task::DATA_REQUEST) == 0
    }

    /// The drive's last status is an error.
    pub fn is_failed(&self) -> bool {
        self.read(register::TASK_FILE) & (task::ERROR | task::FAULT) != 0
    }

    /// The device is an ATA drive (Serial ATA 3.0, 11.3).
    pub fn is_ata(&self) -> bool {
        self.read(register::SIGNATURE) == 0x0000_0101
    }

    /// Slots that the port works on.
    pub fn busy_slots(&self) -> u32 {
        self.read(register::ISSUE) | self.read(register::ACTIVE)
    }

    /// Gives the port the command in a slot, with native queuing or without (5.3.8, 5.6.4).
    pub fn issue(&self, slot: u16, queued: bool) {
        let bit = 1 << (slot & 31);
        if queued {
            self.write(register::ACTIVE, bit);
        }
        self.write(register::ISSUE, bit);
    }
}
