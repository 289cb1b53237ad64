//! Page tables against a map of pages.

use super::machine::{Ram, is_zero};
use crate::Progress;
use crate::page_table::{Attributes, Ept, Format, Mapping, Native, PageSize, PageTable, Pool};
use crate::phys::HostPhysical;
use bulkhead_abi::{Error, PAGE_SIZE, Rights};
use core::cell::Cell;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::vec::Vec;

const LARGE_PAGE: u64 = 512 * PAGE_SIZE;
const HUGE_PAGE: u64 = 512 * LARGE_PAGE;

/// A wish to map: page number, physical page number, pages, rights, largest page.
#[derive(Clone, Debug)]
struct Wish {
    page: u64,
    physical: u64,
    pages: u64,
    rights: Rights,
    uncached: bool,
    largest: PageSize,
    /// Unmap an older mapping first.
    unmap: Option<usize>,
}

fn wish() -> impl Strategy<Value = Wish> {
    let page = prop_oneof![
        0u64..2048,
        (0u64..8).prop_map(|page| page * 512),
        (0u64..3).prop_map(|page| page * 512 * 512),
        (0u64..1024).prop_map(|page| 0x7_f000_0000 + page)
    ];
    let physical =
        prop_oneof![0u64..2048, (0u64..8).prop_map(|page| page * 512), (0u64..3).prop_map(|page| page * 512 * 512)];
    let pages = prop_oneof![1u64..4, 1u64..1600, Just(512u64), Just(512u64 * 512), Just(512u64 * 512 + 513)];
    let rights =
        prop_oneof![Just(Rights::READ), Just(Rights::READ | Rights::WRITE), Just(Rights::READ | Rights::EXECUTE)];
    let largest = prop_oneof![Just(PageSize::Small), Just(PageSize::Large), Just(PageSize::Huge)];
    (page, physical, pages, rights, any::<bool>(), largest, proptest::option::of(any::<usize>())).prop_map(
        |(page, physical, pages, rights, uncached, largest, unmap)| Wish {
            page,
            physical,
            pages: if largest == PageSize::Small { pages.min(1600) } else { pages },
            rights,
            uncached,
            largest,
            unmap,
        },
    )
}

/// Runs the wishes; `pool_pages` limits the tables.
fn run<F: Format>(wishes: Vec<Wish>, pool_pages: u64) -> Result<(), TestCaseError> {
    let ram = Ram::new(pool_pages + 1);
    let pool = Pool::default();
    for page in 0..pool_pages {
        pool.give(ram.page(page + 1));
    }
    let tables = PageTable::<F>::new(ram.page(0));
    // First page -> mapping and attributes; the ranges do not overlap.
    let mut model: BTreeMap<u64, (Mapping, Attributes)> = BTreeMap::new();
    for wish in wishes {
        if let Some(chosen) = wish.unmap
            && !model.is_empty()
        {
            let first = *model.keys().nth(chosen % model.len()).expect("in range");
            let (mapping, _) = model.remove(&first).expect("there");
            let done = Cell::new(mapping.length);
            while tables.unmap_step(mapping.address, &done) == Progress::Again {}
            prop_assert_eq!(done.get(), 0);
        }
        let mapping =
            Mapping::new(wish.page * PAGE_SIZE, HostPhysical(wish.physical * PAGE_SIZE), wish.pages * PAGE_SIZE)
                .expect("a lower-half range");
        let attributes = Attributes { rights: wish.rights, uncached: wish.uncached, user: true };
        let overlaps = model.values().any(|(other, _)| {
            other.address < mapping.address + mapping.length && mapping.address < other.address + other.length
        });
        match tables.map(&mapping, attributes, &pool, wish.largest) {
            Ok(()) => {
                prop_assert!(!overlaps);
                model.insert(wish.page, (mapping, attributes));
            }
            Err(Error::AlreadyMapped) => prop_assert!(overlaps),
            Err(Error::PoolExhausted) => prop_assert_eq!(pool.count(), 0),
            Err(error) => prop_assert!(false, "{:?}", error),
        }
        for (mapping, attributes) in model.values() {
            for offset in [0, 1, mapping.length / 2, mapping.length - 1] {
                let found = tables.translate(mapping.address + offset).expect("mapped");
                prop_assert_eq!(found.physical.0, mapping.physical.0 + offset);
                prop_assert_eq!(found.attributes, *attributes);
            }
            for outside in [mapping.address.wrapping_sub(1), mapping.address + mapping.length] {
                let known = model.values().any(|(other, _)| outside.wrapping_sub(other.address) < other.length);
                prop_assert_eq!(tables.translate(outside & (!0 >> 16)).is_some(), known);
            }
        }
    }
    let mut steps = 0;
    while tables.destroy_step(&pool) == Progress::Again {
        steps += 1;
    }
    prop_assert!(steps <= pool_pages);
    prop_assert_eq!(pool.count(), pool_pages, "tables were lost");
    while let Some(page) = pool.take() {
        prop_assert!(is_zero(page));
    }
    Ok(())
}

proptest! {
    #[test]
    fn native_tables_agree_with_a_map(wishes in proptest::collection::vec(wish(), 1..12), pages in 0u64..40) {
        run::<Native>(wishes, pages)?;
    }

    #[test]
    fn extended_tables_agree_with_a_map(wishes in proptest::collection::vec(wish(), 1..12), pages in 0u64..40) {
        run::<Ept>(wishes, pages)?;
    }
}

/// A root and a pool of this many pages.
fn space(ram: &Ram) -> Pool {
    let pool = Pool::default();
    for page in 1..ram.pages() {
        pool.give(ram.page(page));
    }
    pool
}

const WRITABLE: Attributes = Attributes { rights: Rights::READ.union(Rights::WRITE), uncached: false, user: true };

#[test]
fn pages_are_as_large_as_alignment_allows() {
    let ram = Ram::new(12);
    let pool = space(&ram);
    let tables = PageTable::<Ept>::new(ram.page(0));
    // 2 MiB less a page, then 1 GiB, then a rest: as far as both sides are aligned.
    let start = HUGE_PAGE - LARGE_PAGE;
    let mapping = Mapping::new(start, HostPhysical(start), HUGE_PAGE + LARGE_PAGE + PAGE_SIZE).expect("a range");
    tables.map(&mapping, WRITABLE, &pool, PageSize::Huge).expect("pages enough");
    for (address, size) in [(start, PageSize::Large), (HUGE_PAGE, PageSize::Huge), (2 * HUGE_PAGE, PageSize::Small)] {
        assert_eq!(tables.translate(address).map(|found| found.size), Some(size));
    }
    // A physical address that is not aligned alike needs small pages.
    let mapping = Mapping::new(1 << 40, HostPhysical(PAGE_SIZE), LARGE_PAGE).expect("a range");
    while pool.count() > 2 {
        let _ = pool.take();
    }
    assert_eq!(tables.map(&mapping, WRITABLE, &pool, PageSize::Huge), Err(Error::PoolExhausted));
    assert!(tables.translate(1 << 40).is_none());
}

#[test]
fn the_kernels_half_outlives_a_partition() {
    let ram = Ram::new(8);
    let pool = space(&ram);
    let root = ram.page(0);
    root.page_words()[256].set(0xdead_b003);
    let tables = PageTable::<Native>::new(root);
    let mapping = Mapping::new(0x40_0000, HostPhysical(0x1000), PAGE_SIZE).expect("a range");
    tables.map(&mapping, WRITABLE, &pool, PageSize::Huge).expect("pages enough");
    while tables.destroy_step(&pool) == Progress::Again {}
    assert_eq!(pool.count(), 7);
    assert_eq!(root.page_words()[256].get(), 0xdead_b003);
}

#[test]
fn entries_are_as_the_manual_says() {
    let page = HostPhysical(0x1234_5000);
    let code = Attributes { rights: Rights::READ | Rights::EXECUTE, uncached: false, user: true };
    let device = Attributes { rights: Rights::READ | Rights::WRITE, uncached: true, user: false };
    assert_eq!(Native::leaf(page, 0, code), 0x1234_5005);
    assert_eq!(Native::leaf(page, 0, device), 1 << 63 | 0x1234_501b);
    assert_eq!(Native::leaf(HostPhysical(LARGE_PAGE), 1, code), LARGE_PAGE | 0x85);
    assert_eq!(Native::table(page), 0x1234_5007);
    assert_eq!(Ept::leaf(page, 0, code), 0x1234_5000 | 6 << 3 | 5);
    assert_eq!(Ept::leaf(page, 0, device), 0x1234_5000 | 1 << 6 | 3);
    assert_eq!(Ept::leaf(HostPhysical(HUGE_PAGE), 2, WRITABLE), HUGE_PAGE | 1 << 7 | 6 << 3 | 3);
    // Writable without readable would be a misconfiguration.
    let write = Attributes { rights: Rights::WRITE, uncached: false, user: true };
    assert_eq!(Ept::leaf(page, 0, write) & 7, 3);
    assert_eq!(Ept::table(page), 0x1234_5007);
}

#[test]
fn mappings_are_checked() {
    let new = |address, physical, length| Mapping::new(address, HostPhysical(physical), length).map(|_| ());
    assert_eq!(new(1, 0, PAGE_SIZE), Err(Error::Misaligned));
    assert_eq!(new(0, 1, PAGE_SIZE), Err(Error::Misaligned));
    assert_eq!(new(0, 0, 0), Err(Error::Misaligned));
    assert_eq!(new(1 << 47, 0, PAGE_SIZE), Err(Error::OutOfRange));
    assert_eq!(new((1 << 47) - PAGE_SIZE, 0, 2 * PAGE_SIZE), Err(Error::OutOfRange));
    assert_eq!(new(!0xfff, 0, 2 * PAGE_SIZE), Err(Error::OutOfRange));
    assert_eq!(new(0, 1 << 52, PAGE_SIZE), Err(Error::OutOfRange));
    assert_eq!(new(!0xfff, 0, PAGE_SIZE), Ok(()));
    assert_eq!(new((1 << 47) - PAGE_SIZE, 0, PAGE_SIZE), Ok(()));
}
