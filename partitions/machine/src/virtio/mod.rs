//! Virtio devices on PCI, virtio 1.2 without the legacy interface: the control plane.
//!
//! What a driver does while it sets a device up (configuration space, features, queue addresses, interrupt vectors) happens here.
//! The data plane (the queues themselves) is elsewhere, in whoever emulates the device: it learns of the driver's choice by an
//! [`Event`], of work by the notification port of each queue, and asks for interrupts by [`VirtioPci::raise`].

mod common;
mod configuration;
mod function;
mod msix;

pub use function::{BarPlaces, NOTIFY_MULTIPLIER, VirtioPci};
pub use msix::MSIX_VECTORS;

/// Queues that a device may have at most: each has an MSI-X vector, and so has the configuration.
pub const MAX_QUEUES: usize = MSIX_VECTORS - 1;

/// Bytes of a device-specific configuration.
pub const CONFIGURATION_BYTES: usize = 64;

/// The part of a device that its emulator decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// Device type (virtio 1.2, chapter 5).
    pub device_type: u16,
    /// PCI class, subclass and programming interface.
    pub class: u32,
    /// Feature bits offered; `VIRTIO_F_VERSION_1` is added.
    pub features: u64,
    /// Number of queues; those beyond [`MAX_QUEUES`] do not exist.
    pub queues: u16,
    /// Largest size of a queue; one that is no power of two is rounded down to one.
    pub queue_size: u16,
    /// The device-specific configuration.
    pub configuration: [u8; CONFIGURATION_BYTES],
}

/// Where the driver put a queue: guest-physical addresses, as the driver wrote them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueAddresses {
    /// Descriptors: a power of two, at most what the device offers.
    pub size: u16,
    /// Descriptor table.
    pub descriptors: u64,
    /// Driver area (available ring).
    pub driver: u64,
    /// Device area (used ring).
    pub device: u64,
}

/// What the driver chose, complete when it sets `DRIVER_OK`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DriverConfiguration {
    /// Features accepted: a subset of the offered ones.
    pub features: u64,
    /// By queue number; `None` for a queue that is not enabled.
    pub queues: [Option<QueueAddresses>; MAX_QUEUES],
}

/// Something that the emulator of the device, or the kernel, has to be told. Events of one kind that nobody took yet merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "lives on the stack for one event")]
pub enum Event {
    /// The driver resets the device: no queue may be touched any more. The driver sees the reset as finished after
    /// [`VirtioPci::reset_done`].
    Reset,
    /// The driver is ready: the queues may be served.
    DriverReady(DriverConfiguration),
    /// The notification port of a queue is another one, or is reachable no more, or for the first time.
    DoorbellMoved {
        /// The queue.
        queue: u16,
        /// The port until now.
        old: Option<u16>,
        /// The port from now on.
        new: Option<u16>,
    },
    /// What [`VirtioPci::message`] answers may be something else now.
    MessagesMoved,
    /// The driver notified a queue and the access came here, since no doorbell was bound to its port.
    Notified {
        /// The queue.
        queue: u16,
    },
}
