//! Clients against the service's own code: data are what they should be while the service is started anew at any time, and a service
//! that writes whatever it likes does no harm.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod copied;
mod drive;
mod hostile;
mod native;

use bulkhead_block_client::{BlockClient, Doorbell, MEMORY_BYTES};
use bulkhead_block_device::{Disk, DiskRange, NoBounce, Service, Withheld};
use bulkhead_channel::AtomicU64;
use bulkhead_doubles::{Time, WordMemory};
use bulkhead_virtio::GuestMemory;
use drive::{Machine, TestDrive};
use std::cell::Cell;
use std::rc::Rc;

/// Whether somebody has rung since it was asked.
#[derive(Clone, Default)]
struct Bell(Rc<Cell<bool>>);

impl Doorbell for Bell {
    fn ring(&self) {
        self.0.set(true);
    }
}

fn channel() -> &'static [AtomicU64] {
    Box::leak((0..512).map(|_| AtomicU64::new(0)).collect())
}

/// A disk of the service's.
#[derive(Clone)]
struct Share {
    channel: &'static [AtomicU64],
    memory: WordMemory,
    range: DiskRange<'static>,
    bell: Bell,
}

impl Share {
    fn new(machine: &Machine, first_sector: u64, sectors: u64, read_only: bool) -> Self {
        let range = DiskRange { name: "client/0", first_sector, sectors, read_only, withheld: Withheld::default() };
        Self { channel: channel(), memory: machine.memory(MEMORY_BYTES), range, bell: Bell::default() }
    }

    fn client(&self) -> BlockClient<'static, Bell> {
        BlockClient::attach(self.channel, self.memory.words(), self.bell.clone()).unwrap()
    }
}

/// The service with its drive.
struct Server {
    machine: Machine,
    shares: Vec<Share>,
    service: Service<'static, TestDrive, Time, WordMemory, NoBounce>,
}

impl Server {
    fn new(machine: &Machine, shares: &[Share]) -> Self {
        let mut service = Service::new(machine.start(), Time::default(), NoBounce);
        for share in shares {
            let disk = Disk::publish(share.channel, share.memory, share.range, service.information()).unwrap();
            service.add(disk).unwrap();
        }
        Self { machine: machine.clone(), shares: shares.to_vec(), service }
    }

    /// The service ends where it is, and another one begins.
    fn restart(&mut self) {
        *self = Self::new(&self.machine, &self.shares);
    }

    /// Runs until it waits.
    fn work(&mut self) {
        while self.service.work() {}
    }

    /// All that is pending is done.
    fn finish(&mut self) {
        self.work();
        while !self.machine.pending.borrow().is_empty() || self.machine.interrupts() {
            if !self.machine.pending.borrow().is_empty() {
                self.machine.execute(0);
            }
            self.service.on_interrupt();
            self.work();
        }
    }
}

/// Whether a share's memory holds these bytes at an address.
fn bytes(memory: &impl GuestMemory, address: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    memory.read(address, &mut bytes).unwrap();
    bytes
}
