//! An address space, a capability table, and a pool of page-table memory.

use crate::arch::cpu;
use crate::object::thread::{Sibling, Thread};
use crate::vmx::{MappedHere, Vcpu};
use bulkhead_abi::Error;
use bulkhead_core::object::ObjectHeader;
use bulkhead_core::page_table::Pool;
use bulkhead_core::phys::{HostPhysical, KernelObject};
use bulkhead_core::queue::List;
use bulkhead_core::table::Table;
use core::cell::Cell;

/// Ranges of ports that one partition may use.
pub const MAX_PORT_RANGES: usize = 16;

/// A partition. It lies on one page, the root of its page tables on the next, its capability table on those after.
#[repr(C)]
pub struct Partition {
    /// Common to all objects.
    pub header: ObjectHeader,
    /// Its capability table.
    pub table: Cell<Option<Table>>,
    /// The root page table.
    pub root: Cell<HostPhysical>,
    /// Memory for page tables.
    pub pool: Pool,
    /// Its threads.
    pub threads: List<Thread, Sibling>,
    /// The vCPUs whose shared page is mapped here.
    pub vcpus: List<Vcpu, MappedHere>,
    /// Its port ranges: first port and count.
    pub ports: [Cell<(u16, u32)>; MAX_PORT_RANGES],
}

// SAFETY: cells, and structures for which zero is empty.
unsafe impl KernelObject for Partition {}

const _: () = assert!(size_of::<Partition>() <= 4096);

impl Partition {
    /// Makes the executing processor's I/O bitmap this partition's. `false`: it was already.
    pub fn load_ports(&self) -> bool {
        let cpu = cpu::this();
        let own = core::ptr::from_ref(self) as u64;
        if cpu.ports_of.get() == own || self.ports.iter().all(|range| range.get().1 == 0) {
            return false;
        }
        for (range, loaded) in self.ports.iter().zip(&cpu.loaded_ports) {
            let (first, count) = loaded.replace(range.get());
            cpu.task.set_ports(first, count, false);
        }
        for range in &self.ports {
            let (first, count) = range.get();
            cpu.task.set_ports(first, count, true);
        }
        cpu.ports_of.set(own);
        cpu.task.enable_ports(true);
        true
    }

    /// Gives the partition a range of ports.
    pub fn allow_ports(&self, first: u16, count: u32) -> Result<(), Error> {
        let free = self.ports.iter().find(|range| range.get().1 == 0).ok_or(Error::PoolExhausted)?;
        free.set((first, count));
        self.forget_loaded();
        Ok(())
    }

    /// Takes a range of ports away, on every processor at once: the hardware reads the bitmap at each access.
    pub fn deny_ports(&self, first: u16, count: u32) {
        if let Some(range) = self.ports.iter().find(|range| range.get() == (first, count)) {
            range.set((0, 0));
        }
        let own = core::ptr::from_ref(self) as u64;
        for cpu in cpu::all().filter(|cpu| cpu.ports_of.get() == own) {
            cpu.task.set_ports(first, count, false);
        }
        self.forget_loaded();
    }

    /// Has every processor load the ranges again before it next uses them.
    pub fn forget_loaded(&self) {
        let own = core::ptr::from_ref(self) as u64;
        for cpu in cpu::all().filter(|cpu| cpu.ports_of.get() == own) {
            cpu.task.enable_ports(false);
            cpu.ports_of.set(0);
        }
    }
}
