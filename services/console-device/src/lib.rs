//! The emulator of a virtio console whose ports are channels (virtio 1.2, 5.3, with `VIRTIO_CONSOLE_F_MULTIPORT`).
//!
//! Owns: the data plane of a guest's ports ([`Console`]): bytes between virtqueues and the rings of text channels, and the messages by
//! which device and driver tell each other of ports (5.3.6.2), also whether somebody is at the other end. Must never: lose bytes of a
//! ring while the guest has the port closed, hide from a driver that somebody has gone, trust what the guest says, or work on one port for more than [`BURST`] bytes before it has looked at the others.
//!
//! A driver that breaks a queue's own rules stops the device until it resets it. A message that is merely wrong is dropped.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod console;
mod control;
mod line;
mod port;

pub use console::{Console, Served};

/// Most ports of a console: each has two queues, and so have the messages about ports.
pub const MAX_PORTS: usize = 6;
/// Largest queue.
pub const QUEUE_SIZE: u16 = 64;
/// Bytes that [`Console::serve`] moves in each direction of a port before it asks to be called again.
pub const BURST: usize = 16 << 10;
/// Device type of a console (virtio 1.2, 5).
pub const DEVICE_TYPE: u16 = 3;

/// Features, by their number in virtio 1.2, 5.3.3.
pub mod feature {
    /// The device has several ports, and messages about them.
    pub const MULTIPORT: u64 = 1 << 1;
}

/// A queue's work in one call of [`Console::serve`]: a chain costs something beside its bytes.
struct Budget(usize);

impl Budget {
    /// What a chain costs.
    const CHAIN: usize = 64;

    /// Bytes that may be copied next, of at most `most`.
    fn piece(&self, most: usize) -> u64 {
        self.0.min(most) as u64
    }

    const fn is_spent(&self) -> bool {
        self.0 == 0
    }

    const fn spend(&mut self, cost: usize) {
        self.0 = self.0.saturating_sub(cost);
    }
}
