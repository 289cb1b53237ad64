//! Guests' memory, as the virtqueues want to see it.
//!
//! Owns: finding the ranges of a guest's memory in the environment, and accesses to them by guest-physical address. Must never: reach
//! beyond them.
#![no_std]
#![forbid(unsafe_code)]

use bulkhead_runtime::Program;
use bulkhead_runtime::program::GuestMemory;
use bulkhead_virtio::OutsideMemory;
use core::sync::atomic::{AtomicU16, Ordering};

/// In place of an unknown physical address: what no device of this kind reaches.
const UNREACHABLE: u64 = 1 << 62;

/// Most ranges of a guest's memory: below 3 GiB and above 4 GiB.
const MAX_RANGES: usize = 2;

/// A guest's memory.
pub struct Ram {
    ranges: heapless::Vec<GuestMemory, MAX_RANGES>,
}

impl Ram {
    /// The memory of this guest, or that a disk of this name has in the place of one; `None` if it is not mapped.
    pub fn new(program: &Program, guest: &str) -> Option<Self> {
        let mut ranges = heapless::Vec::new();
        for memory in program.guest_memories().filter(|memory| memory.entry.guest == guest) {
            ranges.push(memory).ok()?;
        }
        (!ranges.is_empty()).then_some(Self { ranges })
    }

    /// The range in which an address lies.
    fn range(&self, address: u64) -> Result<&GuestMemory, OutsideMemory> {
        let holds = |memory: &&GuestMemory| {
            address.checked_sub(memory.ram.start()).is_some_and(|offset| offset < memory.ram.len())
        };
        self.ranges.iter().find(holds).ok_or(OutsideMemory)
    }
}

impl bulkhead_virtio::GuestMemory for Ram {
    fn read(&self, address: u64, destination: &mut [u8]) -> Result<(), OutsideMemory> {
        self.range(address)?.ram.read(address, destination).map_err(|_| OutsideMemory)
    }

    fn write(&self, address: u64, source: &[u8]) -> Result<(), OutsideMemory> {
        self.range(address)?.ram.write(address, source).map_err(|_| OutsideMemory)
    }

    fn load_u16(&self, address: u64) -> Result<u16, OutsideMemory> {
        let word: &AtomicU16 = self.range(address)?.ram.atomic(address).map_err(|_| OutsideMemory)?;
        Ok(u16::from_le(word.load(Ordering::Acquire)))
    }

    fn store_u16(&self, address: u64, value: u16) -> Result<(), OutsideMemory> {
        let word: &AtomicU16 = self.range(address)?.ram.atomic(address).map_err(|_| OutsideMemory)?;
        word.store(value.to_le(), Ordering::Release);
        Ok(())
    }

    fn translate(&self, address: u64, length: u64) -> Result<bulkhead_virtio::PhysicalSegment, OutsideMemory> {
        let memory = self.range(address)?;
        let offset = address.checked_sub(memory.ram.start()).ok_or(OutsideMemory)?;
        if length > memory.ram.len().saturating_sub(offset) {
            return Err(OutsideMemory);
        }
        let base = if memory.entry.physical == 0 { UNREACHABLE } else { memory.entry.physical };
        Ok(bulkhead_virtio::PhysicalSegment { address: base.saturating_add(offset), length })
    }
}
