//! The device: its ports and their messages.

use crate::control::Control;
use crate::port::Port;
use crate::{BURST, Budget, MAX_PORTS, QUEUE_SIZE, feature};
use alloc::vec::Vec;
use bulkhead_channel::{CONFIGURATION_BYTES, DeviceConfiguration, Invalid, QueueConfiguration, TextChannel};
use bulkhead_virtio::{GuestMemory, Queue, QueueError};

/// Queue of messages to the driver, and from it. Port 0 has the two before, the other ports have those behind (virtio 1.2, 5.3.2).
const CONTROL_RECEIVE: usize = 2;
const CONTROL_TRANSMIT: usize = 3;
/// Offset of `max_nr_ports` in the configuration (virtio 1.2, 5.3.4).
const PORTS_OFFSET: usize = 4;

/// Number of a port's receive queue; its transmit queue is the next one.
const fn receive_queue(port: usize) -> usize {
    if port == 0 { 0 } else { 2 * port + 2 }
}

/// What [`Console::serve`] did, and what the caller is to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[must_use]
pub struct Served {
    /// Queues that the driver wants an interrupt for: bit `n` is queue `n`.
    pub interrupts: u32,
    /// Ports whose other end is to be signalled: bit `n` is port `n`.
    pub signals: u32,
    /// There may be more to do: serve again, after others have had their turn.
    pub more: bool,
    /// There will be something to do at this time.
    pub again: Option<u64>,
    /// The driver broke the rules of a queue: the device needs a reset, and does nothing before.
    pub broken: bool,
}

/// A guest's console.
#[derive(Default)]
pub struct Console<'a> {
    ports: Vec<Port<'a>>,
    control: Control,
    pause: u64,
}

impl<'a> Console<'a> {
    /// A console without ports. A port whose other end has closed stays so to the driver for at least `pause`, in the units of
    /// [`Console::serve`]'s time: a driver may have to let a program run to notice it.
    pub fn new(pause: u64) -> Self {
        Self { pause, ..Self::default() }
    }

    /// Adds a port for a channel, before the driver knows of the device. Whether there was room for it.
    pub fn add(&mut self, name: &'a str, channel: TextChannel<'a>) -> bool {
        let has_room = self.ports.len() < MAX_PORTS;
        if has_room {
            self.ports.push(Port::new(name, channel));
        }
        has_room
    }

    /// Who was at the other end of a port is gone. The driver is told, after it has got what that one had sent.
    pub fn cut(&mut self, port: usize) {
        if let Some(port) = self.ports.get_mut(port) {
            port.cut();
        }
    }

    /// Somebody is at the other end of a port; so it is at first.
    pub fn connect(&mut self, port: usize) {
        if let Some(port) = self.ports.get_mut(port) {
            port.line.connect();
        }
    }

    /// Queues of the device.
    pub fn queues(&self) -> u16 {
        // There are at most `MAX_PORTS` ports.
        (2 * self.ports.len() + 2) as u16
    }

    /// What the driver reads of the device-specific configuration.
    pub fn configuration(&self) -> DeviceConfiguration {
        let mut bytes = [0; CONFIGURATION_BYTES];
        let ports = (self.ports.len() as u32).to_le_bytes();
        for (to, from) in bytes.iter_mut().skip(PORTS_OFFSET).zip(ports) {
            *to = from;
        }
        bytes
    }

    /// The driver's choice: the features that it accepted, and its queues by their number. On an error the device does nothing before the
    /// next reset.
    pub fn configure(
        &mut self,
        features: u64,
        queues: &[Option<QueueConfiguration>],
        memory: &impl GuestMemory,
    ) -> Result<(), QueueError> {
        self.reset();
        let make = |number: usize| -> Result<Option<Queue>, QueueError> {
            let Some(at) = queues.get(number).copied().flatten() else { return Ok(None) };
            let at = at.validate(QUEUE_SIZE).map_err(|_: Invalid| QueueError::Memory)?;
            Queue::new(at, features, memory).map(Some)
        };
        let mut made = || {
            let multiport = features & feature::MULTIPORT != 0;
            for (number, port) in self.ports.iter_mut().enumerate().take(if multiport { MAX_PORTS } else { 1 }) {
                port.receive = make(receive_queue(number))?;
                port.transmit = make(receive_queue(number) + 1)?;
                // Without messages nobody says that the only port is open.
                port.open = !multiport;
            }
            if multiport {
                self.control.receive = make(CONTROL_RECEIVE)?;
                self.control.transmit = make(CONTROL_TRANSMIT)?;
            }
            Ok(())
        };
        let result = made();
        if result.is_err() {
            self.reset();
        }
        result
    }

    /// Forgets the driver and its queues.
    pub fn reset(&mut self) {
        self.control.reset();
        self.ports.iter_mut().for_each(Port::reset);
    }

    /// Moves what can be moved, within bounds. To be called when the driver has notified a queue, when the other end of a channel has
    /// signalled or has changed, and when the last call asked for it. `now` is the time, in any unit.
    pub fn serve(&mut self, memory: &impl GuestMemory, now: u64) -> Served {
        let mut served = Served::default();
        if self.work(memory, now, &mut served).is_err() {
            served.broken = true;
            self.reset();
        }
        for (number, port) in self.ports.iter_mut().enumerate() {
            served.signals |= u32::from(core::mem::take(&mut port.signal)) << number;
        }
        served.again = self.ports.iter().filter_map(|port| port.line.reopens()).filter(|at| *at > now).min();
        served
    }

    fn work(&mut self, memory: &impl GuestMemory, now: u64, served: &mut Served) -> Result<(), QueueError> {
        let mut budget = Budget(BURST);
        self.control.obey(&mut self.ports, memory, &mut budget)?;
        served.more |= budget.is_spent();
        for port in &mut self.ports {
            let (mut out, mut back) = (Budget(BURST), Budget(BURST));
            port.send(memory, &mut out)?;
            port.deliver(memory, &mut back)?;
            served.more |= out.is_spent() || back.is_spent();
        }
        // An end comes behind the bytes before it, and what was written to nobody is gone before there is somebody.
        served.more |= self.control.tell(&mut self.ports, memory, now, self.pause)?;
        let control = [(CONTROL_RECEIVE, &mut self.control.receive), (CONTROL_TRANSMIT, &mut self.control.transmit)];
        let ports = self.ports.iter_mut().enumerate().flat_map(|(number, port)| {
            let receive = receive_queue(number);
            [(receive, &mut port.receive), (receive + 1, &mut port.transmit)]
        });
        for (number, queue) in control.into_iter().chain(ports) {
            if let Some(queue) = queue
                && queue.wants_interrupt(memory)?
            {
                served.interrupts |= 1 << number;
            }
        }
        Ok(())
    }
}
