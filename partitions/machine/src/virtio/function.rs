//! A virtio device as a PCI function.

use super::common::{Common, Effect, Offer, VERSION_1, read_bytes};
use super::configuration::{self as space, Identity, MEMORY_BAR, MEMORY_SIZE, PORT_BAR, command, window};
use super::msix::{MsiX, PENDING_SIZE, TABLE_SIZE};
use super::{CONFIGURATION_BYTES, Device, Event, MAX_QUEUES};
use crate::bus::Width;
use crate::devices::message::MsiMessage;
use crate::devices::pci::{BarOffset, PciFunction, Space};

/// Bytes between the notification ports of two queues.
pub const NOTIFY_MULTIPLIER: u16 = 4;

/// ISR bit: a queue has used buffers.
const ISR_QUEUE: u8 = 1;
/// ISR bit: the configuration changed.
const ISR_CONFIGURATION: u8 = 2;
/// PCI status: the function has capabilities; it asserts its interrupt.
const STATUS_CAPABILITIES: u32 = 1 << 4;
const STATUS_INTERRUPT: u32 = 1 << 3;

/// Where a function's windows are when the guest starts; the guest may move them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarPlaces {
    /// First notification port: a multiple of 64.
    pub ports: u16,
    /// Start of the memory window: a multiple of 16 KiB.
    pub memory: u32,
}

/// A virtio device on the PCI bus.
#[derive(Clone, Debug)]
pub struct VirtioPci {
    device: Device,
    identity: Identity,
    command: u16,
    port_base: u32,
    memory_base: u32,
    interrupt_line: u8,
    /// BAR, offset and length of the capability for access through configuration space.
    access: [u32; 3],
    msix: MsiX,
    common: Common,
    isr: u8,
    /// Ports that the owner was told of.
    doorbells: [Option<u16>; MAX_QUEUES],
    reset_pending: bool,
    ready_pending: bool,
    /// Another message may go with a queue's interrupt now.
    messages_pending: bool,
    notified: u16,
}

/// Queues of a device that have a notification port.
fn queues_of(device: &Device, identity: &Identity) -> u16 {
    device.queues.min((identity.port_size / u32::from(NOTIFY_MULTIPLIER)) as u16).min(MAX_QUEUES as u16)
}

fn offer_of(device: &Device, identity: &Identity) -> Offer {
    Offer {
        features: device.features | VERSION_1,
        queues: queues_of(device, identity),
        queue_size: 1 << device.queue_size.max(1).ilog2(),
    }
}

fn identity_of(device: &Device) -> Identity {
    let queues = u32::from(device.queues.clamp(1, MAX_QUEUES as u16));
    Identity {
        device_type: device.device_type,
        class: device.class,
        device_configuration: CONFIGURATION_BYTES as u32,
        port_size: (queues * u32::from(NOTIFY_MULTIPLIER)).next_power_of_two(),
        notify_multiplier: NOTIFY_MULTIPLIER.into(),
    }
}

impl VirtioPci {
    /// A function for `device` whose windows are at `places`, decoding nothing until the guest enables it.
    pub fn new(device: Device, places: BarPlaces) -> Self {
        let identity = identity_of(&device);
        Self {
            command: 0,
            port_base: u32::from(places.ports) & !(identity.port_size - 1),
            memory_base: places.memory & !(MEMORY_SIZE - 1),
            interrupt_line: 0,
            access: [0; 3],
            msix: MsiX::new(),
            common: Common::new(offer_of(&device, &identity)),
            isr: 0,
            doorbells: [None; MAX_QUEUES],
            reset_pending: false,
            ready_pending: false,
            messages_pending: false,
            notified: 0,
            identity,
            device,
        }
    }

    /// The device.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Exchanges the device for one of another shape (its emulator was restarted, or has changed its capacity), and tells the
    /// driver that the configuration changed. It has no more queues than there are ports for: those and the configuration's size stay as they
    /// were at first.
    pub fn set_device(&mut self, device: Device) {
        self.common.set_offer(offer_of(&device, &self.identity));
        self.device = device;
        self.common.configuration_changed();
        self.raise_configuration();
    }

    /// The emulator lost the driver's configuration or refused it: tells the driver to reset the device. A driver that was told so
    /// already, or that has not begun yet, is not told.
    pub fn set_needs_reset(&mut self) {
        if self.common.set_needs_reset() {
            self.raise_configuration();
        }
    }

    /// The emulator has forgotten the queues: ends the reset that [`Event::Reset`] announced.
    pub fn reset_done(&mut self) {
        if self.common.resetting() {
            self.common.reset();
            self.isr = 0;
        }
    }

    /// `queue` has used buffers that the driver wants to know of; of queues that do not exist nobody is told. Ask [`PciFunction::take_message`] and
    /// [`PciFunction::interrupt_asserted`] afterwards.
    pub fn raise(&mut self, queue: u16) {
        if !self.common.ready() || queue >= self.queues() {
            return;
        }
        if self.msix.enabled() {
            self.msix.request(self.common.queue_vector(queue));
        } else {
            self.isr |= ISR_QUEUE;
        }
    }

    /// The message that [`Self::raise`] would send for `queue`, if it would and does nothing else. [`Event::MessagesMoved`] tells when to
    /// ask again.
    pub fn message(&self, queue: u16) -> Option<MsiMessage> {
        let raises = self.common.ready() && queue < self.queues();
        if raises { self.msix.unmasked(self.common.queue_vector(queue)) } else { None }
    }

    fn raise_configuration(&mut self) {
        if !self.common.ready() {
            return;
        }
        self.isr |= ISR_CONFIGURATION;
        self.msix.request(self.common.configuration_vector());
    }

    /// The notification port of `queue`, if the guest can reach it.
    pub fn doorbell(&self, queue: u16) -> Option<u16> {
        let reachable = self.command & command::PORTS != 0 && self.port_base != 0 && queue < self.queues();
        let port = self.port_base.checked_add(u32::from(queue) * u32::from(NOTIFY_MULTIPLIER))?;
        if reachable { u16::try_from(port).ok() } else { None }
    }

    fn queues(&self) -> u16 {
        queues_of(&self.device, &self.identity)
    }

    /// The next thing to tell others; asked after every access of the guest until there is none.
    pub fn take_event(&mut self) -> Option<Event> {
        for queue in 0..MAX_QUEUES as u16 {
            let new = self.doorbell(queue);
            let known = self.doorbells.get_mut(usize::from(queue))?;
            if *known != new {
                let old = core::mem::replace(known, new);
                return Some(Event::DoorbellMoved { queue, old, new });
            }
        }
        if core::mem::take(&mut self.reset_pending) {
            return Some(Event::Reset);
        }
        if core::mem::take(&mut self.ready_pending) {
            return Some(Event::DriverReady(self.common.driver_configuration()));
        }
        if core::mem::take(&mut self.messages_pending) {
            return Some(Event::MessagesMoved);
        }
        if self.notified != 0 {
            let queue = self.notified.trailing_zeros() as u16;
            self.notified &= self.notified - 1;
            return Some(Event::Notified { queue });
        }
        None
    }

    fn register(&self, offset: u8) -> u32 {
        match offset {
            0x04 => {
                let interrupt = if self.isr != 0 && !self.msix.enabled() { STATUS_INTERRUPT } else { 0 };
                u32::from(self.command) | (STATUS_CAPABILITIES | interrupt) << 16
            }
            0x10 => self.port_base | 1,
            0x14 => self.memory_base,
            // INTA#.
            0x3c => u32::from(self.interrupt_line) | 1 << 8,
            // MSI-X capability, next is the common configuration.
            space::MSIX => 0x11 | u32::from(space::COMMON) << 8 | u32::from(self.msix.control()) << 16,
            0x98 | 0x9c | 0xa0 => self.access.get(usize::from((offset - 0x98) / 4)).copied().unwrap_or(0),
            _ => space::fixed(&self.identity, offset),
        }
    }

    /// Writes the bits `mask` of the register at `offset`.
    fn set_register(&mut self, offset: u8, value: u32, mask: u32) {
        let merge = |old: u32| old & !mask | value & mask;
        match offset {
            0x04 => self.command = merge(self.command.into()) as u16 & command::WRITABLE,
            0x10 => self.port_base = merge(self.port_base) & 0xffff_fffc & !(self.identity.port_size - 1),
            0x14 => self.memory_base = merge(self.memory_base) & !(MEMORY_SIZE - 1),
            0x3c => self.interrupt_line = merge(self.interrupt_line.into()) as u8,
            space::MSIX => {
                let control = merge(u32::from(self.msix.control()) << 16) >> 16;
                self.msix.set_control(control as u16);
                self.messages_pending = true;
            }
            0x98 => self.access[0] = merge(self.access[0]) & 0xff,
            0x9c => self.access[1] = merge(self.access[1]),
            0xa0 => self.access[2] = merge(self.access[2]),
            _ => (),
        }
    }

    /// The place and width that the capability for access through configuration space stands at.
    fn access_place(&self) -> Option<(BarOffset, Width)> {
        let [bar, offset, length] = self.access;
        let width = Width::from_bytes(length).filter(|width| *width != Width::Qword)?;
        let size = match bar as u8 {
            PORT_BAR => self.identity.port_size,
            MEMORY_BAR => MEMORY_SIZE,
            _ => return None,
        };
        let inside = offset.is_multiple_of(length) && offset.checked_add(length).is_some_and(|end| end <= size);
        inside.then_some((BarOffset { bar: bar as u8, offset: offset.into() }, width))
    }

    fn read_window(&mut self, offset: u64, width: Width) -> u64 {
        match offset {
            window::COMMON..window::ISR => self.common.read(offset, width),
            // Reading the status acknowledges the interrupt.
            window::ISR => core::mem::take(&mut self.isr).into(),
            window::DEVICE..window::TABLE => read_bytes(&self.device.configuration, offset - window::DEVICE, width),
            window::TABLE..window::PENDING if offset - window::TABLE < TABLE_SIZE => {
                self.msix.read_table(offset - window::TABLE, width)
            }
            window::PENDING.. if offset - window::PENDING < PENDING_SIZE => {
                self.msix.read_pending(offset - window::PENDING, width)
            }
            _ => 0,
        }
    }

    fn write_window(&mut self, offset: u64, width: Width, value: u64) {
        match offset {
            window::COMMON..window::ISR => match self.common.write(offset, width, value) {
                Effect::None => (),
                Effect::Vector => self.messages_pending = true,
                Effect::Reset => {
                    self.messages_pending = true;
                    self.reset_pending = true;
                    self.ready_pending = false;
                    self.notified = 0;
                }
                Effect::Ready => {
                    self.ready_pending = true;
                    self.messages_pending = true;
                }
            },
            window::TABLE..window::PENDING if offset - window::TABLE < TABLE_SIZE => {
                self.msix.write_table(offset - window::TABLE, width, value);
                self.messages_pending = true;
            }
            _ => (),
        }
    }

    fn notify(&mut self, offset: u64) {
        let queue = offset / u64::from(NOTIFY_MULTIPLIER);
        if queue < u64::from(self.queues()) && self.common.ready() {
            self.notified |= 1 << queue;
        }
    }
}

impl PciFunction for VirtioPci {
    fn read_config(&mut self, offset: u8, width: Width) -> u32 {
        if offset & !3 == space::ACCESS_DATA {
            return match self.access_place() {
                Some((place, width)) => self.read_bar(place, width) as u32,
                None => 0,
            };
        }
        (self.register(offset & !3) >> (8 * u32::from(offset & 3))) & width.mask() as u32
    }

    fn write_config(&mut self, offset: u8, width: Width, value: u32) {
        if offset & !3 == space::ACCESS_DATA {
            if let Some((place, width)) = self.access_place() {
                self.write_bar(place, width, u64::from(value) & width.mask());
            }
            return;
        }
        let shift = 8 * u32::from(offset & 3);
        let mask = (width.mask() as u32) << shift;
        self.set_register(offset & !3, value << shift, mask);
    }

    fn decode(&self, space: Space, address: u64) -> Option<BarOffset> {
        let (bar, enabled, base, size) = match space {
            Space::Ports => (PORT_BAR, command::PORTS, self.port_base, self.identity.port_size),
            Space::Memory => (MEMORY_BAR, command::MEMORY, self.memory_base, MEMORY_SIZE),
        };
        if self.command & enabled == 0 || base == 0 {
            return None;
        }
        let offset = address.checked_sub(base.into()).filter(|offset| *offset < size.into())?;
        Some(BarOffset { bar, offset })
    }

    fn read_bar(&mut self, place: BarOffset, width: Width) -> u64 {
        if place.bar == MEMORY_BAR { self.read_window(place.offset, width) } else { 0 }
    }

    fn write_bar(&mut self, place: BarOffset, width: Width, value: u64) {
        match place.bar {
            MEMORY_BAR => self.write_window(place.offset, width, value),
            PORT_BAR => self.notify(place.offset),
            _ => (),
        }
    }

    fn interrupt_asserted(&self) -> bool {
        self.isr != 0 && !self.msix.enabled() && self.command & command::INTERRUPT_DISABLE == 0
    }

    fn take_message(&mut self) -> Option<MsiMessage> {
        self.msix.take()
    }
}

#[cfg(test)]
#[path = "function_test.rs"]
mod test;
