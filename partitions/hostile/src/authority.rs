//! What the manifest gives the program to try with: one capability of each type that a native partition can have.

use crate::raw;
use bulkhead_runtime::Program;
use bulkhead_runtime::abi::{AnyMethod, Error, PartitionMethod};
use bulkhead_runtime::plan::{EndpointSide, layout};

/// Slots by what is in them.
#[derive(Clone, Copy, Debug)]
pub struct Authority {
    /// Its own partition: `CONTROL`.
    pub partition: u64,
    /// Its window: `READ`, `GRANT`.
    pub window: u64,
    /// Its notification: `WAIT`, `SIGNAL`.
    pub notification: u64,
    /// Its thread: `CONTROL`.
    pub thread: u64,
    /// To signal the neighbour.
    pub peer: u64,
    /// The neighbour's endpoint: `CALL`.
    pub calls: u64,
    /// Its own endpoint: `RECEIVE`.
    pub serves: u64,
    /// Its memory: `READ`, `WRITE`, `GRANT`, `REVOKE`.
    pub own: u64,
    /// Bytes of that.
    pub own_bytes: u64,
    /// Memory that nobody writes: `READ`, `GRANT`, `REVOKE`.
    pub law: u64,
    /// Ports: `READ`, `WRITE`, `GRANT`.
    pub ports: u64,
    /// An interrupt line: `CONTROL`, `GRANT`.
    pub interrupt: u64,
    /// The first of the empty slots, which go up to the end of the table.
    pub free: u64,
    /// Slots of the table.
    pub slots: u64,
}

/// An address range that nothing is mapped in.
pub const FREE_ADDRESS: u64 = 0x5000_0000_0000;

impl Authority {
    /// What the environment says.
    pub fn find(program: &Program) -> Option<Self> {
        let environment = program.environment();
        let own_partition = environment.own_partition()?;
        let endpoint = |side| environment.endpoints().find(|endpoint| endpoint.side == side).map(|found| found.slot);
        let own = environment.memory("own")?;
        let slots = raw::invoke(own_partition.slot, PartitionMethod::Inspect as u64, [0; 4]).ok()?[3];
        let used = environment.entries().iter().map(|entry| entry.slot).chain([own_partition.window]).max()?;
        Some(Self {
            partition: own_partition.slot,
            window: own_partition.window,
            notification: layout::NOTIFICATION_SLOT,
            thread: layout::THREAD_SLOT,
            peer: crate::channel(program)?.entry.slot,
            calls: endpoint(EndpointSide::Client)?,
            serves: endpoint(EndpointSide::Server)?,
            own: own.slot,
            own_bytes: own.size,
            law: environment.memory("law")?.slot,
            ports: environment.ports().next()?.slot,
            interrupt: environment.interrupts().next()?.slot,
            free: used + 1,
            slots,
        })
    }

    /// Slots with a capability of each type, with the type's name.
    pub fn each(&self) -> [(&'static str, u64); 8] {
        [
            ("Memory", self.own),
            ("Partition", self.partition),
            ("Thread", self.thread),
            ("Endpoint", self.calls),
            ("Notification", self.notification),
            ("IoPorts", self.ports),
            ("Interrupt", self.interrupt),
            ("Window", self.window),
        ]
    }

    /// Unmaps what it has mapped of its first capabilities.
    pub fn unmap(&self) {
        for slot in 0..self.free {
            // What is not mapped cannot be unmapped.
            let _ = raw::invoke(self.partition, PartitionMethod::Unmap as u64, [slot, 0, 0, 0]);
        }
    }

    /// Empties the slots that were empty at first. Answers how many were not.
    pub fn tidy(&self) -> u64 {
        let delete = |slot: &u64| raw::invoke(*slot, AnyMethod::Delete as u64, [0; 4]) != Err(Error::SlotEmpty);
        (self.free..self.slots).filter(delete).count() as u64
    }
}
