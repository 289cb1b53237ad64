//! Tables, read as hardware reads them, say what they were told and nothing else.

mod common;

use bulkhead_driver::DmaMemory;
use bulkhead_iommu::{Range, TableError, Tables, Unit, bytes_needed};
use common::{MEMORY, Model, memory, word};
use proptest::prelude::*;
use std::sync::atomic::AtomicU64;

const PAGE: u64 = 4096;

/// What hardware finds for a device's access: whether it may read, and write (section 3.7).
fn walk(memory: &[AtomicU64], root: u64, requester: u16, address: u64) -> (bool, bool) {
    let entry = word(memory, root + u64::from(requester >> 8) * 16);
    if entry & 1 == 0 {
        return (false, false);
    }
    let context = (entry & !0xfff) + u64::from(requester & 0xff) * 16;
    let (low, high) = (word(memory, context), word(memory, context + 8));
    if low & 1 == 0 {
        return (false, false);
    }
    assert_eq!(low & 0xffe, 0, "only translated requests, faults reported");
    assert_ne!(high >> 8 & 0xffff, 0, "domain 0");
    let levels = (high & 7) as u32 + 2;
    if address >> (12 + 9 * levels) != 0 {
        return (false, false);
    }
    let (mut table, mut rights) = (low & !0xfff, 3);
    for level in (1..=levels).rev() {
        let index = address >> (12 + 9 * (level - 1)) & 0x1ff;
        let entry = word(memory, table + index * 8);
        rights &= entry;
        if level == 1 || entry & 1 << 7 != 0 {
            let bits = 12 + 9 * (level - 1);
            if entry & 3 != 0 {
                assert_eq!(entry & !0xfff, address >> bits << bits, "mapped to itself");
            }
            break;
        }
        if entry & 3 == 0 {
            return (false, false);
        }
        table = entry & !0xfff;
    }
    (rights & 1 != 0, rights & 2 != 0)
}

fn range() -> impl Strategy<Value = Range> {
    // Around borders of 2 MiB and 1 GiB.
    let start = (0u64..4, -600i64..600).prop_map(|(gigabyte, page)| ((gigabyte << 18) as i64 + 700 + page) as u64);
    (start, 0u64..1200, any::<bool>()).prop_map(|(start, pages, writable)| Range {
        address: start * PAGE,
        length: pages * PAGE,
        writable,
    })
}

fn capability(levels: u64, large: bool) -> u64 {
    levels << 9 | 2 | 47 << 16 | 0x22 << 24 | u64::from(large) << 34
}

proptest! {
    #[test]
    fn devices_reach_what_they_were_told(
        devices in proptest::collection::vec(proptest::collection::vec(range(), 0..4), 1..4),
        levels in 1u64..4,
        large: bool,
    ) {
        let needed = bytes_needed(devices.iter().map(|ranges| ranges.iter().map(|range| range.length)));
        let words = memory((needed / PAGE) as usize);
        let model = Model::new(&words);
        model.set64(8, capability(levels, large));
        let format = Unit::new(&model, 4096).unwrap().format().unwrap();
        let mut tables = Tables::new(DmaMemory::new(&words, MEMORY), format).unwrap();
        let requester = |index: usize| (index as u16) << 8 | 0x80 | index as u16;
        for (index, ranges) in devices.iter().enumerate() {
            prop_assert_eq!(tables.add(requester(index), ranges.iter().copied()), Ok(()));
        }
        for (index, ranges) in devices.iter().enumerate() {
            // The pages at all borders.
            let borders = devices.iter().flatten().flat_map(|range| [range.address, range.address + range.length]);
            let pages = borders.flat_map(|at| [at.wrapping_sub(PAGE), at, at + PAGE]).chain([0, 2 << 20, 1 << 39]);
            for page in pages.filter(|page| *page < 1 << 47) {
                let of = |range: &&Range| range.address <= page && page < range.address + range.length;
                let reads = ranges.iter().any(|range| of(&range));
                let writes = ranges.iter().filter(of).any(|range| range.writable);
                prop_assert_eq!(walk(&words, tables.root(), requester(index), page), (reads, writes), "{:#x}", page);
            }
            prop_assert_eq!(walk(&words, tables.root(), requester(index) ^ 1, ranges.first().map_or(0, |range| range.address)), (false, false));
        }
    }
}

#[test]
fn a_device_without_whole_tables_reaches_nothing() {
    let words = memory(5);
    let format = Unit::new(&Model::new(&words), 4096).unwrap().format().unwrap();
    let mut tables = Tables::new(DmaMemory::new(&words, MEMORY), format).unwrap();
    let range = |address, length| Range { address, length, writable: true };
    assert_eq!(tables.add(8, [range(0, PAGE), range(8 << 30, PAGE)]), Err(TableError::Memory));
    assert_eq!(walk(&words, tables.root(), 8, 0), (false, false));
    let words = memory(20);
    let mut tables = Tables::new(DmaMemory::new(&words, MEMORY), format).unwrap();
    for wrong in [range(1, PAGE), range(0, 1), range((1 << 39) - PAGE, 2 * PAGE), range(u64::MAX - 4095, PAGE)] {
        assert_eq!(tables.add(8, [wrong]), Err(TableError::Range), "{wrong:?}");
    }
    assert_eq!(tables.add(8, [range(PAGE, PAGE)]), Ok(()));
    assert_eq!(tables.add(8, [range(0, PAGE)]), Err(TableError::Twice));
    assert_eq!(walk(&words, tables.root(), 8, PAGE), (true, true));
    assert_eq!(walk(&words, tables.root(), 8, 0), (false, false));
}
