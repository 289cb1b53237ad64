//! A guest's disk: the control plane here, the data plane in the block service, and between them a device channel.

use bulkhead_channel::{
    Configuration, DeviceDescription, Generation, Interrupts, MonitorSide, Outcome, QueueConfiguration,
};
use bulkhead_machine::virtio::{BlockDevice, BlockFeatures, DriverConfiguration, Event, VirtioPci};
use bulkhead_runtime::object::{GuestSpace, Notification};
use bulkhead_runtime::{println, program};

/// A virtio disk as the guest's PCI bus has it.
pub type DiskFunction = VirtioPci<BlockDevice>;

/// The link of one disk to its service.
pub struct Disk {
    monitor: MonitorSide<'static>,
    peer: Notification,
    /// Mask of the channel's signal.
    pub signal: u64,
    generation: Option<Generation>,
    /// The command whose answer is awaited was a reset.
    resetting: bool,
    configuring: bool,
}

/// What the service offers, as the guest's device shows it.
fn features_of(description: &DeviceDescription) -> BlockFeatures {
    BlockFeatures {
        capacity_sectors: description.capacity_sectors,
        logical_block_size: description.logical_block_size,
        physical_block_exponent: description.physical_block_exponent,
        features: description.features,
        segments: description.segments,
        queues: description.queues,
        queue_size: description.queue_size,
    }
}

impl Disk {
    /// The link over `channel`; nothing if its memory is too small.
    pub fn new(channel: &program::Channel) -> Option<Self> {
        Some(Self {
            monitor: MonitorSide::attach(channel.words()).ok()?,
            peer: channel.peer,
            signal: channel.signal,
            generation: None,
            resetting: false,
            configuring: false,
        })
    }

    /// The device, as soon as the service offers one that makes sense.
    pub fn offered(&mut self) -> Option<BlockDevice> {
        let (generation, description) = self.monitor.description()?.ok()?;
        self.generation = Some(generation);
        Some(BlockDevice::new(&features_of(&description)))
    }

    fn tell(&self) {
        // A service that is gone answers nothing; its successor reads the page anew.
        let _ = self.peer.signal(0);
    }

    /// Passes on what the guest's driver did.
    pub fn driver_did(&mut self, event: Event, space: GuestSpace) {
        match event {
            Event::Reset => {
                self.monitor.reset();
                self.resetting = true;
                self.tell();
            }
            Event::DriverReady(configuration) => {
                self.monitor.configure(&configuration_of(&configuration));
                self.configuring = true;
                self.tell();
            }
            Event::DoorbellMoved { old, new, .. } => {
                if let Some(old) = old {
                    // It may have lost its meaning already, when the service's notification went.
                    let _ = space.unbind_doorbell(old);
                }
                if let Some(new) = new
                    && let Err(error) = space.bind_doorbell(new, self.peer)
                {
                    println!("vmm: no doorbell at port {new:#x}: {error:?}; notifications go through the vmm");
                }
            }
            Event::Notified { .. } => self.tell(),
        }
    }

    /// Passes on what the service did, after its signal.
    pub fn service_did(&mut self, function: &mut DiskFunction) {
        if self.resetting && self.monitor.outcome() != Outcome::Pending {
            self.resetting = false;
            function.reset_done();
        }
        if self.configuring && self.monitor.outcome() != Outcome::Pending {
            self.configuring = false;
            if self.monitor.outcome() == Outcome::Refused {
                function.set_needs_reset();
            }
        }
        if self.monitor.generation() != self.generation
            && let Some(device) = self.offered()
        {
            // The service was restarted: it knows nothing of the driver's queues any more.
            function.set_device(device);
            function.set_needs_reset();
        }
        if self.monitor.needs_reset() {
            function.set_needs_reset();
        }
        // That the configuration changed has been seen above.
        let mut interrupts = self.monitor.take_interrupts().0 & !Interrupts::CONFIGURATION.0;
        while interrupts != 0 {
            function.raise(interrupts.trailing_zeros() as u16);
            interrupts &= interrupts - 1;
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
