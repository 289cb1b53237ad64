//! The devices of a guest whose data plane is in a service: the control plane is here, and between them a device channel. The data plane of
//! a disk that is copied is here, too ([`CopiedDisk`]), and stands in the place of the service.

use crate::copied::CopiedDisk;
use crate::guest::Threads;
use bulkhead_channel::{
    Configuration, DeviceDescription, DeviceKind, Generation, Interrupts, MonitorSide, Outcome, QueueConfiguration,
};
use bulkhead_machine::virtio::{Device, DriverConfiguration, Event, VirtioPci};
use bulkhead_runtime::abi::Error;
use bulkhead_runtime::object::{GuestSpace, Notification};
use bulkhead_runtime::plan::DEVICE_INTERRUPTS;
use bulkhead_runtime::{println, program};

/// The link of one device to its service.
pub struct DeviceLink {
    monitor: MonitorSide<'static>,
    peer: Notification,
    /// Mask of the channel's signals.
    pub signal: u64,
    /// The first of them; those of the first queues' interrupts follow.
    first_bit: u32,
    /// Where these interrupts go without this program: the guest's processor, and the vector.
    routes: [Option<Route>; DEVICE_INTERRUPTS as usize],
    generation: Option<Generation>,
    /// The command whose answer is awaited was a reset, or the driver's choice.
    resetting: bool,
    configuring: bool,
    /// What the driver chose, until it resets the device.
    choice: Option<Configuration>,
    /// The data plane, if it is here.
    copied: Option<CopiedDisk>,
}

/// A processor of the guest, and a vector for it.
pub type Route = (usize, u8);

/// What the service offers, as the guest's PCI bus shows it. Features that belong to the transport are the control plane's matter.
fn device_of(description: &DeviceDescription) -> Device {
    let class = match description.kind {
        // Ethernet; mass storage, other (PCI Code and ID Assignment 1.11).
        DeviceKind::Network => 0x02_0000,
        DeviceKind::Block => 0x01_8000,
    };
    Device {
        device_type: description.kind as u16,
        class,
        features: description.features & !TRANSPORT_FEATURES,
        queues: description.queues,
        queue_size: description.queue_size,
        configuration: description.configuration,
    }
}

impl DeviceLink {
    /// The link over `channel`, or to a data plane that is here and uses the channel itself; nothing if its memory is too small.
    pub fn new(channel: &program::Channel, copied: Option<CopiedDisk>) -> Option<Self> {
        let words = copied.as_ref().map_or(channel.words(), |disk| disk.page);
        let mut link = Self {
            monitor: MonitorSide::attach(words).ok()?,
            peer: channel.peer,
            signal: channel.signal,
            first_bit: channel.entry.bit,
            routes: Default::default(),
            generation: None,
            resetting: false,
            configuring: false,
            choice: None,
            copied,
        };
        // To attach is to reset.
        link.tell();
        link.serve();
        Some(link)
    }

    /// The device, as soon as the service offers one that makes sense, and has obeyed: what it still did for an earlier life of this program
    /// would get into the next guest's memory.
    pub fn offered(&mut self) -> Option<Device> {
        if self.monitor.outcome() == Outcome::Pending {
            return None;
        }
        let (generation, description) = self.monitor.description()?.ok()?;
        self.generation = Some(generation);
        Some(device_of(&description))
    }

    fn tell(&self) {
        if self.copied.is_some() {
            // Whoever tells of what the driver did has it served afterwards.
            return;
        }
        // A service that is gone answers nothing; its successor reads the page anew.
        let _ = self.peer.signal(0);
    }

    /// Passes on what the guest's driver did.
    pub fn driver_did(&mut self, event: Event, space: GuestSpace) {
        match event {
            Event::Reset => {
                self.monitor.reset();
                self.choice = None;
                (self.resetting, self.configuring) = (true, false);
                self.tell();
            }
            Event::DriverReady(configuration) => {
                let choice = configuration_of(&configuration);
                self.monitor.configure(&choice);
                self.choice = Some(choice);
                self.configuring = true;
                self.tell();
            }
            // Notifications come here.
            Event::DoorbellMoved { .. } if self.copied.is_some() => {}
            Event::DoorbellMoved { old, new, .. } => {
                if let Some(old) = old {
                    // It may have lost its meaning already, when the service's notification went.
                    let _ = space.unbind_doorbell(old);
                }
                let bind = |port| match space.bind_doorbell(port, self.peer) {
                    // By a former life of this program.
                    Err(Error::AlreadyMapped) => {
                        space.unbind_doorbell(port).and_then(|()| space.bind_doorbell(port, self.peer))
                    }
                    other => other,
                };
                if let Some(new) = new
                    && let Err(error) = bind(new)
                {
                    println!("vmm: no doorbell at port {new:#x}: {error:?}; notifications go through the vmm");
                }
            }
            Event::Notified { .. } => self.tell(),
            // Whoever tells of what the driver did asks afterwards.
            Event::MessagesMoved => {}
        }
    }

    /// The bit by which the interrupt of queue `queue` comes, if it has one of its own.
    fn bit(&self, queue: usize) -> u32 {
        self.first_bit + 1 + queue as u32
    }

    /// Takes back what a former life of this program told the kernel, whose vCPUs outlive it.
    pub fn forget_routes(&self, threads: &Threads) {
        for thread in &threads.0 {
            for queue in 0..self.routes.len() {
                // The handle is the program's own, and the bit is one.
                let _ = thread.vcpu.direct(self.bit(queue), 0);
            }
        }
    }

    /// Has the kernel post the interrupts of the first queues, as far as they lead to one processor and to nothing else; `route` says where
    /// that of a queue leads. Those that do not come to [`Self::service_did`].
    pub fn redirect(&mut self, threads: &Threads, mut route: impl FnMut(u16) -> Option<Route>) {
        if self.copied.is_some() {
            return;
        }
        for (queue, known) in self.routes.into_iter().enumerate() {
            let new = route(queue as u16);
            if new == known {
                continue;
            }
            let bit = self.bit(queue);
            let direct = |route: Option<Route>, on: bool| {
                let (processor, vector) = route?;
                threads.0.get(processor)?.vcpu.direct(bit, if on { vector } else { 0 }).ok()
            };
            direct(known, false);
            let set = direct(new, true).and(new);
            if let Some(place) = self.routes.get_mut(queue) {
                *place = set;
            }
        }
    }

    /// Moves data, if the data plane is here; returns whether it is.
    pub fn serve(&mut self) -> bool {
        self.copied.as_mut().map(CopiedDisk::serve).is_some()
    }

    /// Passes on what the data plane did, after its signals, of all the `signals` that came.
    pub fn service_did(&mut self, function: &mut VirtioPci, signals: u64) {
        if self.monitor.generation() != self.generation {
            self.succeed(function);
        }
        if self.resetting && self.monitor.outcome() != Outcome::Pending {
            self.resetting = false;
            function.reset_done();
        }
        if self.configuring && self.monitor.outcome() != Outcome::Pending {
            self.configuring = false;
            if self.monitor.outcome() == Outcome::Refused {
                self.choice = None;
                function.set_needs_reset();
            }
        }
        if self.monitor.needs_reset() {
            function.set_needs_reset();
        }
        let mut interrupts = self.monitor.take_interrupts().0;
        if interrupts & Interrupts::CONFIGURATION.0 != 0 {
            interrupts &= !Interrupts::CONFIGURATION.0;
            self.configuration_changed(function);
        }
        while interrupts != 0 {
            function.raise(interrupts.trailing_zeros() as u16);
            interrupts &= interrupts - 1;
        }
        if self.copied.is_none() {
            for queue in (0..self.routes.len()).filter(|queue| signals >> self.bit(*queue) & 1 != 0) {
                function.raise(queue as u16);
            }
        }
    }

    /// The service was started anew: it is told what the driver chose. The driver notices nothing, unless it is another device now.
    fn succeed(&mut self, function: &mut VirtioPci) {
        let (before, Some(offered)) = (function.device(), self.offered()) else {
            return;
        };
        if before != offered {
            function.set_device(offered);
        }
        let Some(choice) = &self.choice else { return };
        // The device must offer what the driver has accepted.
        if choice.features & !offered.features != 0 {
            return function.set_needs_reset();
        }
        self.monitor.resume(choice);
        self.configuring = true;
        self.tell();
    }

    /// Shows the guest a configuration that has changed while the device was in use.
    fn configuration_changed(&mut self, function: &mut VirtioPci) {
        if let Some(Ok((generation, description))) = self.monitor.description()
            && Some(generation) == self.generation
        {
            function.set_device(device_of(&description));
        }
    }
}

fn configuration_of(chosen: &DriverConfiguration) -> Configuration {
    let mut configuration = Configuration { features: chosen.features & !VERSION_1, ..Configuration::default() };
    for (to, from) in configuration.queues.iter_mut().zip(&chosen.queues) {
        *to = from.map(|queue| QueueConfiguration {
            size: queue.size,
            descriptors: queue.descriptors,
            driver: queue.driver,
            device: queue.device,
        });
    }
    configuration
}

/// `VIRTIO_F_VERSION_1`: offered by the control plane itself.
const VERSION_1: u64 = 1 << 32;
/// Features that the control plane does not have: those from bit 33 on that concern it (virtio 1.2, 6), such as packed rings.
const TRANSPORT_FEATURES: u64 = !0 << 33 & !(!0 << 42);
