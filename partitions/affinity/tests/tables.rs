//! Tables of NUMA nodes: those that firmware makes, and those that it should not.

use bulkhead_affinity::{Affinity, Malformed, Misplaced, place, srat_length};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::ops::Range;

/// A structure of memory (ACPI 6.5, table 5.63).
fn memory(node: u32, start: u64, length: u64, flags: u32) -> Vec<u8> {
    let mut bytes = vec![1, 40];
    bytes.extend(node.to_le_bytes());
    bytes.extend([0; 2]);
    bytes.extend(start.to_le_bytes());
    bytes.extend(length.to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend(flags.to_le_bytes());
    bytes.extend([0; 8]);
    bytes
}

/// A structure of a processor with an APIC identifier of 8 bits (table 5.62).
fn processor(node: u32, apic: u8, flags: u32) -> Vec<u8> {
    let [n0, n1, n2, n3] = node.to_le_bytes();
    let mut bytes = vec![0, 16, n0, apic];
    bytes.extend(flags.to_le_bytes());
    bytes.extend([0, n1, n2, n3, 0, 0, 0, 0]);
    bytes
}

/// The same with one of 32 bits (table 5.65).
fn x2apic(node: u32, apic: u32, flags: u32) -> Vec<u8> {
    let mut bytes = vec![2, 24, 0, 0];
    bytes.extend(node.to_le_bytes());
    bytes.extend(apic.to_le_bytes());
    bytes.extend(flags.to_le_bytes());
    bytes.extend([0; 8]);
    bytes
}

/// A table of these structures, with its length and its checksum.
fn table(structures: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = b"SRAT".to_vec();
    bytes.resize(48, 0);
    bytes[8] = 3;
    bytes.extend(structures.iter().flatten());
    let length = bytes.len() as u32;
    bytes[4..8].copy_from_slice(&length.to_le_bytes());
    seal(&mut bytes);
    bytes
}

fn seal(table: &mut [u8]) {
    table[9] = 0;
    table[9] = table.iter().fold(0u8, |sum, byte| sum.wrapping_sub(*byte));
}

/// Starts and ends.
fn ranges(affinity: &Affinity, node: u32) -> Vec<(u64, u64)> {
    affinity.memory_of(node).map(|range| (range.start, range.end)).collect()
}

#[test]
fn nodes_have_their_memory_and_processors() {
    // As QEMU lays it down: the first node's memory has the hole below 1 MiB.
    let affinity = Affinity::parse(&table(&[
        processor(0, 0, 1),
        processor(0x0102_0301, 1, 1),
        x2apic(7, 300, 1),
        processor(5, 9, 0),
        memory(0, 0, 0xa_0000, 1),
        memory(0, 0x10_0000, 0x7f0_0000, 1),
        memory(1, 0xc00_0000, 0x400_0000, 3),
        memory(1, 0x800_0000, 0x400_0000, 1),
        memory(2, 0x1_0000_0000, 0, 1),
        memory(3, 0x2_0000_0000, 0x1000, 0),
        memory(4, 0x3_0000_0000, 0x1000, 5),
        vec![3, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ]))
    .unwrap();
    assert_eq!(ranges(&affinity, 0), [(0, 0xa_0000), (0x10_0000, 0x800_0000)]);
    assert_eq!(ranges(&affinity, 1), [(0x800_0000, 0x1000_0000)], "neighbours are one");
    for none in [2, 3, 4] {
        assert_eq!(ranges(&affinity, none), [], "node {none}");
    }
    let nodes = [0, 1, 300, 9, 2].map(|apic| affinity.node_of_processor(apic));
    assert_eq!(nodes, [Some(0), Some(0x0102_0301), Some(7), None, None]);
}

#[test]
fn wrong_tables_are_refused() {
    let good = table(&[memory(0, 0, 0x1000, 1)]);
    let parse = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut table = good.clone();
        change(&mut table);
        seal(&mut table);
        Affinity::parse(&table)
    };
    assert!(parse(&|_| {}).is_ok());
    assert_eq!(parse(&|table| table[0] = b's'), Err(Malformed::Table));
    assert_eq!(parse(&|table| table[4] = 47), Err(Malformed::Table));
    assert_eq!(parse(&|table| table[7] = 1), Err(Malformed::Table), "too long");
    assert_eq!(parse(&|table| table.truncate(87)), Err(Malformed::Table), "shorter than it says");
    assert_eq!(parse(&|table| table[49] = 0), Err(Malformed::Structure), "of no bytes");
    assert_eq!(parse(&|table| table[49] = 39), Err(Malformed::Structure));
    assert_eq!(parse(&|table| table[49] = 41), Err(Malformed::Structure));
    assert_eq!(parse(&|table| table[48] = 0).map(|affinity| ranges(&affinity, 0)), Ok(vec![]), "a longer processor");
    let mut unsealed = good.clone();
    unsealed[9] ^= 1;
    assert_eq!(Affinity::parse(&unsealed), Err(Malformed::Table));
    let of = |structures: &[Vec<u8>]| Affinity::parse(&table(structures)).map(|affinity| ranges(&affinity, 0));
    assert_eq!(of(&[memory(0, u64::MAX - 0xfff, 0x1001, 1)]), Err(Malformed::Memory), "wraps around");
    assert_eq!(of(&[memory(0, 0, 0x2000, 1), memory(1, 0x1000, 0x1000, 1)]), Err(Malformed::Memory));
    assert_eq!(of(&[memory(1, 0x1000, 1, 1), memory(0, 0, u64::MAX, 1)]), Err(Malformed::Memory));
    assert_eq!(of(&[memory(0, 0x1000, 0x2000, 1), memory(0, 0, 0x2000, 1)]), Ok(vec![(0, 0x3000)]), "one node, twice");
    assert_eq!(srat_length(b"SRAT\x30\0\0\0"), Some(48));
    assert_eq!(Misplaced::Full(1).to_string(), "1 KiB of it are not free in one piece");
}

#[test]
fn the_lowest_place_is_taken() {
    let free = [0x1000..0x5000, 0x8000..0x2_0000];
    let find = |ranges: &[(u64, u64)], size, alignment| {
        place(ranges.iter().map(|(start, end)| *start..*end), free.iter().cloned(), size, alignment)
    };
    assert_eq!(find(&[(0, 0x10_0000)], 0x4000, 0x1000), Some(0x1000));
    assert_eq!(find(&[(0, 0x10_0000)], 0x4000, 0x4000), Some(0x8000));
    assert_eq!(find(&[(0x3000, 0x9000)], 0x2000, 0x1000), Some(0x3000));
    assert_eq!(find(&[(0x3000, 0x9000)], 0x2001, 0x1000), None);
    assert_eq!(find(&[(0x9000, 0xb000), (0x3000, 0x4000)], 0x1000, 0x1000), Some(0x3000));
    assert_eq!(find(&[], 1, 1), None);
    assert_eq!(find(&[(0, u64::MAX)], u64::MAX, 1 << 63), None);
}

/// A range of a few pages, or one anywhere.
fn any_range() -> impl Strategy<Value = Range<u64>> {
    prop_oneof![
        (0u64..64, 0u64..32).prop_map(|(start, pages)| start << 12..(start + pages) << 12),
        (any::<u64>(), any::<u64>()).prop_map(|(start, length)| start..start.saturating_add(length)),
    ]
}

fn any_structure() -> impl Strategy<Value = Vec<u8>> {
    let node = || prop_oneof![0u32..4, any::<u32>()];
    prop_oneof![
        (node(), any_range(), 0u32..8).prop_map(|(node, range, flags)| memory(
            node,
            range.start,
            range.end - range.start,
            flags
        )),
        (node(), any::<u8>(), 0u32..2).prop_map(|(node, apic, flags)| processor(node, apic, flags)),
        (node(), any::<u32>(), 0u32..2).prop_map(|(node, apic, flags)| x2apic(node, apic, flags)),
        proptest::collection::vec(any::<u8>(), 0..48),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        let _ = Affinity::parse(&bytes);
    }

    /// Memory of a table that is accepted belongs to one node, and is that of the table's structures.
    #[test]
    fn no_memory_has_two_nodes(
        structures in proptest::collection::vec(any_structure(), 0..12),
        damages in proptest::collection::vec((48usize..600, any::<u8>()), 0..3),
    ) {
        let mut bytes = table(&structures);
        for (place, value) in damages {
            if let Some(byte) = bytes.get_mut(place) {
                *byte = value;
            }
        }
        seal(&mut bytes);
        if let Ok(affinity) = Affinity::parse(&bytes) {
            let nodes: Vec<u32> = bytes.windows(6).map(|window| u32::from_le_bytes([window[2], window[3], window[4], window[5]])).collect();
            let mut all: Vec<(u64, u64)> = Vec::new();
            let mut seen = BTreeSet::new();
            for node in nodes.into_iter().filter(|node| seen.insert(*node)) {
                let ranges = ranges(&affinity, node);
                prop_assert!(ranges.windows(2).all(|pair| pair[0].1 < pair[1].0), "ascending, and no neighbours");
                all.extend(ranges);
            }
            all.sort_unstable();
            prop_assert!(all.iter().all(|(start, end)| start < end));
            prop_assert!(all.windows(2).all(|pair| pair[0].1 <= pair[1].0));
        }
    }

    /// What is placed lies in free memory and in the ranges, is aligned, and nothing lower would be; as page by page shows.
    #[test]
    fn places_are_free_aligned_and_the_lowest(
        ranges in proptest::collection::vec((0u64..64, 1u64..16), 0..4),
        free in proptest::collection::vec((0u64..64, 1u64..16), 0..4),
        pages in 1u64..8,
        shift in 0u32..3,
    ) {
        let of = |list: &[(u64, u64)]| list.iter().map(|(start, pages)| start << 12..(start + pages) << 12).collect::<Vec<_>>();
        let (ranges, free) = (of(&ranges), of(&free));
        let (size, alignment) = (pages << 12, 0x1000u64 << shift);
        let fits = |start: u64| {
            let within = |list: &[Range<u64>]| list.iter().any(|range| range.start <= start && start + size <= range.end);
            within(&ranges) && within(&free) && start.is_multiple_of(alignment)
        };
        let lowest = (0..96).map(|page| page << 12).find(|start| fits(*start));
        prop_assert_eq!(place(ranges.iter().cloned(), free.iter().cloned(), size, alignment), lowest);
    }
}
