//! Free memory and free slots: what everything else is made of.

use crate::failure::Cause;
use alloc::vec::Vec;
use bulkhead_affinity::place;
use bulkhead_runtime::abi::{BootInfo, PAGE_SIZE, Rights, init_slot};
use bulkhead_runtime::object::{Capability, Memory, NewObject};
use bulkhead_runtime::syscall::Slot;
use core::ops::Range;

/// A part of a root memory capability that nothing uses.
#[derive(Clone, Copy, Debug)]
struct Free {
    root: Memory,
    /// Offset in the root capability.
    offset: u64,
    physical: u64,
    length: u64,
}

/// Memory that was allocated.
#[derive(Clone, Copy, Debug)]
pub struct Block {
    root: Memory,
    offset: u64,
    /// Physical address.
    pub physical: u64,
    /// Bytes.
    pub length: u64,
}

/// The free memory and the free slots.
#[derive(Debug)]
pub struct Allocator {
    /// In order of physical address.
    free: Vec<Free>,
    /// Where memory is taken from at the moment, if not from anywhere.
    confined: Option<Vec<Range<u64>>>,
    /// The slots from here on are used.
    end_slot: u64,
    /// The slots below are used, or the plan names them.
    first_slot: u64,
}

impl Allocator {
    /// All memory that the kernel left, and all slots that it left empty.
    pub fn new(boot: &BootInfo) -> Self {
        let ranges = boot.memory.iter().take(boot.memory_count as usize);
        let mut free: Vec<Free> = (init_slot::FIRST_MEMORY..)
            .zip(ranges)
            .map(|(slot, range)| Free {
                root: Memory(Slot(slot)),
                offset: 0,
                physical: range.base,
                length: range.length,
            })
            .collect();
        free.sort_by_key(|range| range.physical);
        Self { free, confined: None, end_slot: boot.slots, first_slot: init_slot::FIRST_FREE }
    }

    /// Leaves the slots below `first` to the plan.
    pub fn reserve_slots_below(&mut self, first: u64) {
        self.first_slot = self.first_slot.max(first);
    }

    /// A slot of init's table that is empty.
    pub fn slot(&mut self) -> Result<Slot, Cause> {
        if self.end_slot <= self.first_slot {
            return Err(Cause::NoSlots);
        }
        self.end_slot -= 1;
        Ok(Slot(self.end_slot))
    }

    /// From now on memory is taken from these ranges alone; with none, from anywhere again.
    pub fn confine(&mut self, ranges: Option<Vec<Range<u64>>>) {
        self.confined = ranges;
    }

    /// The lowest physical address at which so much free memory lies in one of these ranges.
    pub fn place_on(&self, ranges: impl Iterator<Item = Range<u64>>, size: u64, alignment: u64) -> Option<u64> {
        let free = self.free.iter().map(|range| range.physical..range.physical.saturating_add(range.length));
        place(ranges, free, size, alignment)
    }

    /// Takes memory, from the lowest address on that fits: devices with 32-bit addresses can reach it.
    pub fn take(&mut self, size: u64, alignment: u64) -> Result<Block, Cause> {
        let start = match &self.confined {
            Some(ranges) => self.place_on(ranges.iter().cloned(), size, alignment),
            None => self.place_on(core::iter::once(0..u64::MAX), size, alignment),
        };
        self.take_at(start.ok_or(Cause::NoMemory { size, alignment })?, size)
    }

    /// Takes the memory at a physical address.
    pub fn take_at(&mut self, physical: u64, size: u64) -> Result<Block, Cause> {
        let fits = |range: &Free| {
            physical
                .checked_sub(range.physical)
                .and_then(|skipped| skipped.checked_add(size))
                .is_some_and(|end| end <= range.length)
        };
        let index = self.free.iter().position(fits).ok_or(Cause::NotFree(physical))?;
        let start = self.free.get(index).map_or(physical, |range| range.physical);
        self.split(index, physical - start, size).ok_or(Cause::NotFree(physical))
    }

    /// Cuts a block out of a free range; what lies before and behind stays free.
    fn split(&mut self, index: usize, skipped: u64, size: u64) -> Option<Block> {
        let range = *self.free.get(index)?;
        let before = Free { length: skipped, ..range };
        let used = skipped.checked_add(size)?;
        let behind = Free {
            offset: range.offset + used,
            physical: range.physical + used,
            length: range.length.checked_sub(used)?,
            ..range
        };
        let rest = [before, behind].into_iter().filter(|part| part.length != 0);
        self.free.splice(index..=index, rest);
        Some(Block {
            root: range.root,
            offset: range.offset + skipped,
            physical: range.physical + skipped,
            length: size,
        })
    }

    /// A capability to freshly taken memory, with all rights but those to make objects.
    pub fn memory(&mut self, size: u64, alignment: u64) -> Result<(Memory, Block), Cause> {
        let block = self.take(size, alignment)?;
        Ok((self.capability(&block)?, block))
    }

    /// Memory to be donated to the pool of a partition or guest space.
    pub fn pool(&mut self, pages: u64) -> Result<Memory, Cause> {
        let block = self.take(pages * PAGE_SIZE, PAGE_SIZE)?;
        let slot = self.slot()?;
        block.root.derive_range(slot, Rights::CREATE, block.offset, block.length).map_err(Cause::Kernel)?;
        Ok(Memory(slot))
    }

    /// A capability to a block.
    pub fn capability(&mut self, block: &Block) -> Result<Memory, Cause> {
        let slot = self.slot()?;
        let rights = Rights::all().difference(Rights::CREATE);
        block.root.derive_range(slot, rights, block.offset, block.length).map_err(Cause::Kernel)?;
        Ok(Memory(slot))
    }

    /// A child of a memory capability, to be mapped: one capability is mapped at most once.
    pub fn child(&mut self, memory: Memory, rights: Rights, first: u64, length: u64) -> Result<Memory, Cause> {
        let slot = self.slot()?;
        memory.derive_range(slot, rights, first, length).map_err(Cause::Kernel)?;
        Ok(Memory(slot))
    }

    /// Makes a kernel object of freshly taken memory.
    pub fn create(&mut self, object: NewObject) -> Result<Slot, Cause> {
        let block = self.take(object_pages(object) * PAGE_SIZE, PAGE_SIZE)?;
        let slot = self.slot()?;
        block.root.create(object, 0, block.offset, slot).map_err(Cause::Kernel)?;
        Ok(slot)
    }

    /// Bytes that are still free.
    pub fn free_bytes(&self) -> u64 {
        self.free.iter().map(|range| range.length).sum()
    }
}

/// Bytes of a slot of a capability table.
const SLOT_BYTES: u64 = 128;

/// Pages to set aside for an object: at least as many as the kernel takes when it is left to choose.
pub fn object_pages(object: NewObject) -> u64 {
    match object {
        NewObject::Partition { slots } => 2 + (slots * SLOT_BYTES).div_ceil(PAGE_SIZE),
        NewObject::Vcpu { .. } | NewObject::GuestSpace { .. } => 16,
        NewObject::Thread { .. } | NewObject::Endpoint { .. } | NewObject::Notification | NewObject::Window { .. } => 1,
    }
}
