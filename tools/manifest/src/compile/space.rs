//! One partition's signal bits, capability slots and virtual addresses, as the compiler gives them away.

use bulkhead_abi::{PAGE_SIZE, init_slot};
use bulkhead_plan::{BindingRecord, EnvironmentEntry, NO_BIT, Name, layout, writer::EnvironmentWriter};
use std::collections::BTreeSet;

/// Page-table pages in every pool beyond what the mappings need: the state pages of vCPUs, and reserve.
const SPARE_PAGES: u32 = 8;

/// A partition in the making.
#[derive(Debug)]
pub(super) struct Space {
    next_bit: u32,
    next_slot: u64,
    next_address: u64,
    next_guest_address: u64,
    mappings: Vec<(u64, u64)>,
    thread_slots: Vec<(u64, u64)>,
    environment: EnvironmentWriter,
}

/// How large a partition's kernel objects must be.
#[derive(Debug, Clone, Copy)]
pub(super) struct SpaceSize {
    /// Pages of its page tables, at most.
    pub(super) pool_pages: u32,
    /// First slot that is not used.
    pub(super) next_slot: u64,
}

impl Space {
    pub(super) fn for_init() -> Self {
        Self::new(init_slot::FIRST_FREE)
    }

    pub(super) fn for_partition() -> Self {
        let mut space = Self::new(layout::FIRST_SLOT);
        space.thread_slots.push((layout::THREAD_SLOT, layout::NOTIFICATION_SLOT));
        space.maps(layout::ENVIRONMENT, layout::ENVIRONMENT_MAX);
        space
    }

    fn new(next_slot: u64) -> Self {
        Self {
            next_bit: 0,
            next_slot,
            next_address: layout::SHARED,
            next_guest_address: layout::GUEST_RAM,
            mappings: Vec::new(),
            thread_slots: Vec::new(),
            environment: EnvironmentWriter::default(),
        }
    }

    /// A signal bit.
    pub(super) fn bit(&mut self) -> u32 {
        self.bits(1)
    }

    /// So many signal bits in a row: the first one, or [`NO_BIT`] for none.
    pub(super) fn bits(&mut self, count: u32) -> u32 {
        let first = if count == 0 { NO_BIT } else { self.next_bit };
        self.next_bit += count;
        first
    }

    /// A slot.
    pub(super) fn slot(&mut self) -> u64 {
        self.next_slot += 1;
        self.next_slot - 1
    }

    /// An address for so many bytes, with an unmapped page behind them.
    pub(super) fn address(&mut self, size: u64) -> u64 {
        let address = self.next_address;
        self.maps(address, size);
        self.next_address = (address + size).next_multiple_of(PAGE_SIZE) + PAGE_SIZE;
        address
    }

    /// An address for device memory, aligned to its size (a power of two) so that a large page can map it.
    pub(super) fn window(&mut self, size: u64) -> u64 {
        self.next_address = self.next_address.next_multiple_of(size);
        self.address(size)
    }

    /// An address for memory that is mapped by large pages alone, below a gigabyte of it, aligned to its size (a power of two).
    pub(super) fn large_window(&mut self, size: u64) -> u64 {
        let address = self.next_guest_address;
        self.maps(address, 1);
        self.next_guest_address = (address + size).next_multiple_of(1 << 30) + (1 << 30);
        address
    }

    /// An address for a guest's RAM, aligned so that large pages can map it.
    pub(super) fn guest_address(&mut self, size: u64) -> u64 {
        let address = self.next_guest_address;
        self.maps(address, size);
        self.next_guest_address = (address + size).next_multiple_of(1 << 30) + (1 << 30);
        address
    }

    /// Notes that something is mapped there.
    pub(super) fn maps(&mut self, address: u64, size: u64) {
        self.mappings.push((address, size));
    }

    /// The slots of thread `number` and of its notification.
    pub(super) fn thread_slots(&mut self, number: u64) -> (u64, u64) {
        while self.thread_slots.len() as u64 <= number {
            let slots = (self.slot(), self.slot());
            self.thread_slots.push(slots);
        }
        self.thread_slots.get(number as usize).copied().unwrap_or_default()
    }

    pub(super) fn push(&mut self, entry: EnvironmentEntry, binding: BindingRecord) {
        self.environment.push(entry, binding);
    }

    pub(super) fn push_text(&mut self, name: Name, text: &str) {
        self.environment.push_text(name, text);
    }

    pub(super) fn size(&self) -> SpaceSize {
        SpaceSize { pool_pages: table_pages(&self.mappings) + SPARE_PAGES, next_slot: self.next_slot }
    }

    pub(super) fn environment(self) -> EnvironmentWriter {
        self.environment
    }
}

/// Pages of four-level tables that map these ranges by 4-KiB pages: no choice of page sizes needs more.
pub(super) fn table_pages(mappings: &[(u64, u64)]) -> u32 {
    let covering = |shift: u32| {
        let mut blocks = BTreeSet::new();
        for (start, size) in mappings.iter().filter(|(_, size)| *size != 0) {
            blocks.extend(start >> shift..=(start + (size - 1)) >> shift);
        }
        blocks.len() as u32
    };
    1 + covering(39) + covering(30) + covering(21)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_mappings() {
        assert_eq!(table_pages(&[]), 1);
        assert_eq!(table_pages(&[(0x40_0000, 0x1000)]), 4);
        assert_eq!(table_pages(&[(0x40_0000, 0x1000), (0x41_0000, 0x1000)]), 4);
        assert_eq!(table_pages(&[(0, 128 << 20)]), 1 + 1 + 1 + 64);
        assert_eq!(table_pages(&[(0x3fff_f000, 0x2000)]), 1 + 1 + 2 + 2);
    }

    #[test]
    fn addresses_do_not_touch() {
        let mut space = Space::for_partition();
        let first = space.address(0x1800);
        let second = space.address(0x1000);
        assert_eq!(first, layout::SHARED);
        assert!(second >= first + 0x3000);
        assert_ne!(space.slot(), space.slot());
        assert_ne!(space.bit(), space.bit());
        assert_eq!(space.thread_slots(0), (layout::THREAD_SLOT, layout::NOTIFICATION_SLOT));
        assert_eq!(space.thread_slots(1), space.thread_slots(1));
    }
}
