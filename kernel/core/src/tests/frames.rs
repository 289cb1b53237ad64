//! The frame table against one counter a page.

use super::machine::{self, Ram, array};
use crate::frames::{FrameRange, FrameTable, GROUP_PAGES, Group, KERNEL};
use crate::phys::HostPhysical;
use bulkhead_abi::{Error, PAGE_SIZE};
use proptest::prelude::*;
use std::vec::Vec;

impl FrameTable {
    /// Whether every page is RAM that is neither mapped nor the kernel's.
    pub(crate) fn is_free(&self, range: FrameRange) -> bool {
        self.all(range, |state| state == 0)
    }

    /// Whether every page is the kernel's.
    pub(crate) fn is_kernel(&self, range: FrameRange) -> bool {
        self.all(range, |state| state == KERNEL)
    }
}

const PAGES: u64 = 3 * GROUP_PAGES + 100;
const FIRST: u64 = 0x4000_0000 / PAGE_SIZE;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Page {
    Mapped(u32),
    Kernel,
    Device,
}

#[derive(Clone, Debug)]
enum Operation {
    Claim,
    Release,
    Map,
    Unmap,
}

fn operation() -> impl Strategy<Value = (Operation, u64, u64)> {
    let kind =
        prop_oneof![Just(Operation::Claim), Just(Operation::Release), Just(Operation::Map), Just(Operation::Unmap)];
    let length = prop_oneof![1u64..8, 1u64..PAGES, Just(GROUP_PAGES), Just(1u64)];
    (kind, 0..PAGES + 8, length)
}

fn range(first: u64, pages: u64) -> FrameRange {
    FrameRange::new(HostPhysical((FIRST + first) * PAGE_SIZE), pages * PAGE_SIZE).expect("a range")
}

proptest! {
    #[test]
    fn frames_agree_with_counters(operations in proptest::collection::vec(operation(), 1..60)) {
        let (pages, groups) = (Ram::new(2), Ram::new(1));
        let table = FrameTable::new(
            HostPhysical(FIRST * PAGE_SIZE),
            array(&pages, PAGES),
            array::<Group>(&groups, FrameTable::groups_for(PAGES)),
        );
        let mut model: Vec<Page> = std::vec![Page::Device; PAGES as usize];
        // RAM with a hole of device memory.
        for (first, length) in [(0, 1200), (1210, PAGES - 1210)] {
            table.add_ram(range(first, length)).expect("was no RAM before");
            model[first as usize..(first + length) as usize].fill(Page::Mapped(0));
        }
        let mut mappings: Vec<(u64, u64)> = Vec::new();
        for (kind, first, length) in operations {
            let end = (first + length).min(PAGES);
            let known = &model[first.min(PAGES) as usize..end as usize];
            let inside = first + length <= PAGES;
            match kind {
                Operation::Claim => {
                    let free = inside && known.iter().all(|&page| page == Page::Mapped(0));
                    prop_assert_eq!(table.is_free(range(first, length)), free);
                    prop_assert_eq!(table.claim_for_kernel(range(first, length)).is_ok(), free);
                    if free {
                        model[first as usize..end as usize].fill(Page::Kernel);
                    }
                }
                Operation::Release => {
                    let kernel = inside && known.iter().all(|&page| page == Page::Kernel);
                    prop_assert_eq!(table.release_from_kernel(range(first, length)).is_ok(), kernel);
                    if kernel {
                        model[first as usize..end as usize].fill(Page::Mapped(0));
                    }
                }
                Operation::Map => {
                    let allowed = known.iter().all(|page| matches!(page, Page::Mapped(_) | Page::Device));
                    let outcome = table.add_mapping(range(first, length));
                    prop_assert_eq!(outcome, if allowed { Ok(()) } else { Err(Error::MemoryInUse) });
                    if allowed {
                        mappings.push((first, length));
                        for page in &mut model[first.min(PAGES) as usize..end as usize] {
                            if let Page::Mapped(count) = page {
                                *count += 1;
                            }
                        }
                    }
                }
                Operation::Unmap => {
                    if mappings.is_empty() {
                        continue;
                    }
                    let (first, length) = mappings.swap_remove((first % mappings.len() as u64) as usize);
                    table.remove_mapping(range(first, length));
                    let end = (first + length).min(PAGES);
                    for page in &mut model[first.min(PAGES) as usize..end as usize] {
                        if let Page::Mapped(count) = page {
                            *count -= 1;
                        }
                    }
                }
            }
            for (index, &page) in model.iter().enumerate() {
                let one = range(index as u64, 1);
                prop_assert_eq!(table.is_free(one), page == Page::Mapped(0));
                prop_assert_eq!(table.is_kernel(one), page == Page::Kernel);
                prop_assert_eq!(table.is_partition_ram(one), matches!(page, Page::Mapped(_)));
                let count = if let Page::Mapped(count) = page { Some(count) } else { None };
                prop_assert_eq!(machine::mappings(&table, HostPhysical((FIRST + index as u64) * PAGE_SIZE)), count);
            }
        }
    }
}

#[test]
fn ranges_are_checked() {
    let at = HostPhysical;
    assert_eq!(FrameRange::new(at(0), 0), Err(Error::OutOfRange));
    assert_eq!(FrameRange::new(at(1), PAGE_SIZE), Err(Error::OutOfRange));
    assert_eq!(FrameRange::new(at(0), 1), Err(Error::OutOfRange));
    assert_eq!(FrameRange::new(at(!0xfff), 2 * PAGE_SIZE), Err(Error::OutOfRange));
    assert!(FrameRange::page(at(0x5000)).is_ok());
}
