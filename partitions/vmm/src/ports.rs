//! The guest's channels: ports of a virtio console, whose data plane is here, too.
//!
//! The threads of all processors work on them, one at a time, when the guest notifies a queue or the other end of a channel signals. One
//! call moves no more than a bounded number of bytes; what is left is done after a signal that the vmm sends itself.

use alloc::vec::Vec;
use bulkhead_channel::{QueueConfiguration, is_gone, is_up};
use bulkhead_console_device::{Console, DEVICE_TYPE, QUEUE_SIZE, feature};
use bulkhead_guest_memory::Ram;
use bulkhead_machine::virtio::{Device, DriverConfiguration, Event, VirtioPci};
use bulkhead_runtime::object::Notification;
use bulkhead_runtime::plan::{ChannelKind, Disk};
use bulkhead_runtime::program::{CONSOLE, Channel};
use bulkhead_runtime::status::Status;
use bulkhead_runtime::{Program, println, time};

/// The class of the PCI function: simple communication controller, other (PCI Code and ID Assignment 1.11).
const CLASS: u32 = 0x07_8000;
/// How long a port whose other end has closed stays so, in milliseconds. Linux tells a program that waits for bytes of an end only if
/// the port is still closed when the program runs.
const PAUSE: u64 = 50;

/// Who is at the other end of a port.
struct Peer {
    notification: Notification,
    /// Number by which init tells of its lives; none if they do not matter.
    index: Option<u32>,
    /// The word of its life that the console knows.
    life: u32,
}

/// The console and what is behind its ports.
pub struct Ports {
    console: Console<'static>,
    memory: Ram,
    /// By port.
    peers: Vec<Peer>,
    status: Option<Status<'static>>,
    /// This program, to go on later.
    own: Notification,
    /// Mask of the channels' signals.
    pub signal: u64,
    /// When there will be something to do without a signal.
    pub again: Option<u64>,
}

/// Whether a channel is one of the manifest's: all others of this kind are the monitor's own.
fn is_port(channel: &Channel) -> bool {
    channel.entry.kind == ChannelKind::Text && channel.entry.name != CONSOLE
}

impl Ports {
    /// The guest's ports, if it has any.
    pub fn new(program: &Program, guest: &str) -> Option<Self> {
        let memory = Ram::new(program, guest)?;
        let mut ports = Self {
            console: Console::new(time::milliseconds(PAUSE)),
            memory,
            peers: Vec::new(),
            status: program.status(),
            own: program.notification(),
            signal: 0,
            again: None,
        };
        for channel in program.channels().filter(is_port) {
            let name = channel.entry.name;
            // Neither happens with what a manifest's check has passed.
            if !channel.text().is_some_and(|text| ports.console.add(name, text)) {
                println!("vmm: the guest gets no port for channel {name}");
                continue;
            }
            // Services of disks go on over a restart where they were: to the guest nobody is gone.
            let index = (!name.ends_with(Disk::CONTROL_PORT)).then_some(channel.entry.peer_index);
            ports.peers.push(Peer { notification: channel.peer, index, life: 0 });
            ports.signal |= channel.signal;
        }
        (!ports.peers.is_empty()).then_some(ports)
    }

    /// The device as the guest's PCI bus shows it.
    pub fn device(&self) -> Device {
        Device {
            device_type: DEVICE_TYPE,
            class: CLASS,
            features: feature::MULTIPORT,
            queues: self.console.queues(),
            queue_size: QUEUE_SIZE,
            configuration: self.console.configuration(),
        }
    }

    /// Has the first processor's thread look when there will be something to do.
    pub fn call(&self) {
        if self.again.is_some() {
            // The notification is this program's own, and lives as long as it.
            let _ = self.own.signal(self.signal);
        }
    }

    /// Does what the guest's driver asks for.
    pub fn driver_did(&mut self, event: Event, function: &mut VirtioPci) {
        match event {
            Event::Reset => {
                self.console.reset();
                function.reset_done();
            }
            Event::DriverReady(choice) => self.configure(&choice, function),
            Event::Notified { .. } => self.serve(function),
            // Notifications and interrupts come here.
            Event::DoorbellMoved { .. } | Event::MessagesMoved => (),
        }
    }

    fn configure(&mut self, choice: &DriverConfiguration, function: &mut VirtioPci) {
        let queues = choice.queues.map(|queue| {
            queue.map(|queue| QueueConfiguration {
                size: queue.size,
                descriptors: queue.descriptors,
                driver: queue.driver,
                device: queue.device,
            })
        });
        match self.console.configure(choice.features, &queues, &self.memory) {
            Ok(()) => self.serve(function),
            Err(_) => function.set_needs_reset(),
        }
    }

    /// Looks who is at the other ends.
    fn look(&mut self) {
        for (port, peer) in self.peers.iter_mut().enumerate() {
            let (Some(status), Some(index)) = (self.status, peer.index) else { continue };
            let life = status.life_of(index);
            let before = core::mem::replace(&mut peer.life, life);
            if is_gone(before, life) {
                self.console.cut(port);
            }
            if life != before && is_up(life) {
                self.console.connect(port);
            }
        }
    }

    /// Moves bytes, and tells both sides.
    pub fn serve(&mut self, function: &mut VirtioPci) {
        self.look();
        let served = self.console.serve(&self.memory, time::now());
        self.again = served.again;
        for queue in (0..u32::BITS as u16).filter(|queue| served.interrupts >> queue & 1 != 0) {
            function.raise(queue);
        }
        for (_, peer) in (0..).zip(&self.peers).filter(|(port, _)| served.signals >> port & 1 != 0) {
            // A partition that is gone takes nothing; its successor finds what is in the ring.
            let _ = peer.notification.signal(0);
        }
        if served.broken {
            function.set_needs_reset();
        }
        if served.more {
            // The notification is this program's own, and lives as long as it.
            let _ = self.own.signal(self.signal);
        }
    }
}
