//! The ACPI table, as firmware writes it and as it must not be.

use bulkhead_iommu::dmar::{IoApic, MAX_BYTES, Malformed, parse};
use proptest::prelude::*;

/// A table of these structures.
fn table(structures: &[&[u8]]) -> Vec<u8> {
    let mut bytes = vec![0; 48];
    bytes[..4].copy_from_slice(b"DMAR");
    bytes[37] = 1;
    bytes.extend(structures.concat());
    let length = bytes.len() as u32;
    bytes[4..8].copy_from_slice(&length.to_le_bytes());
    bytes
}

/// A unit at an address, with these device scopes.
fn unit(base: u64, scopes: &[&[u8]]) -> Vec<u8> {
    let scopes = scopes.concat();
    let mut bytes = vec![0, 0, 16 + scopes.len() as u8, 0, 1, 0, 0, 0];
    bytes.extend(base.to_le_bytes());
    bytes.extend(scopes);
    bytes
}

#[test]
fn units_and_io_apics() {
    // As QEMU writes it: an I/O APIC at ff:00.0; then a structure of another type.
    let first = unit(0xfed9_0000, &[&[3, 8, 0, 0, 0, 0xff, 0, 0], &[1, 8, 0, 0, 0, 0, 2, 0]]);
    let second = unit(0xfed9_1000, &[&[3, 8, 0, 0, 2, 0xf0, 0x1f, 7], &[3, 10, 0, 0, 3, 0, 1, 0, 2, 0]]);
    let description = parse(&table(&[&first, &[2, 0, 8, 0, 0, 0, 0, 0], &second])).unwrap();
    assert!(description.remaps_interrupts);
    assert_eq!(description.units, [0xfed9_0000, 0xfed9_1000]);
    let expected = [IoApic { identifier: 0, requester: 0xff00 }, IoApic { identifier: 2, requester: 0xf0ff }];
    assert_eq!(description.io_apics, expected);
}

#[test]
fn what_is_wrong_is_refused() {
    let whole = table(&[&unit(0xfed9_0000, &[])]);
    assert!(parse(&whole).is_ok());
    assert_eq!(parse(&whole[..whole.len() - 1]), Err(Malformed::Header));
    assert_eq!(parse(b"DMAR"), Err(Malformed::Header));
    assert_eq!(parse(&table(&[])), Err(Malformed::Units));
    assert_eq!(parse(&table(&[&unit(0, &[])])), Err(Malformed::Units));
    assert_eq!(parse(&table(&[&unit(0x1001, &[])])), Err(Malformed::Units));
    assert_eq!(parse(&table(&[&unit(0x1000, &[&[3, 0, 0, 0, 0, 0]])])), Err(Malformed::Structure));
    assert_eq!(parse(&table(&[&[0, 0, 0, 0]])), Err(Malformed::Structure));
    let many: Vec<_> = (1..10).map(|page| unit(page << 12, &[])).collect();
    let many: Vec<_> = many.iter().map(Vec::as_slice).collect();
    assert_eq!(parse(&table(&many)), Err(Malformed::Units));
}

proptest! {
    #[test]
    fn any_bytes_are_read_to_an_end(mut bytes in proptest::collection::vec(any::<u8>(), 8..MAX_BYTES), structures: bool) {
        if structures {
            let length = bytes.len() as u32;
            bytes[..4].copy_from_slice(b"DMAR");
            bytes[4..8].copy_from_slice(&length.to_le_bytes());
        }
        let _ = parse(&bytes);
    }
}
