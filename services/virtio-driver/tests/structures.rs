//! The capabilities of virtio devices.

use bulkhead_virtio_driver::{Place, Structures};
use proptest::prelude::*;

/// A configuration space.
fn read(space: &[u8; 256]) -> impl Fn(u8) -> u32 + '_ {
    |at| {
        assert_eq!(at % 4, 0);
        u32::from_le_bytes(space[at.into()..usize::from(at) + 4].try_into().unwrap())
    }
}

struct Capability {
    at: u8,
    next: u8,
    kind: u8,
    place: Place,
    multiplier: Option<u32>,
}

fn write(space: &mut [u8; 256], capability: &Capability) {
    let at = usize::from(capability.at);
    let length = if capability.multiplier.is_some() { 20 } else { 16 };
    let Place { bar, offset, length: bytes } = capability.place;
    space[at..at + 5].copy_from_slice(&[9, capability.next, length, capability.kind, bar]);
    space[at + 8..at + 12].copy_from_slice(&offset.to_le_bytes());
    space[at + 12..at + 16].copy_from_slice(&bytes.to_le_bytes());
    if let Some(multiplier) = capability.multiplier {
        space[at + 16..at + 20].copy_from_slice(&multiplier.to_le_bytes());
    }
}

fn place(offset: u32) -> Place {
    Place { bar: 4, offset, length: 0x1000 }
}

/// As an emulator has them: MSI-X, access by configuration space, notify, device, ISR, common.
fn usual() -> [u8; 256] {
    let mut space = [0; 256];
    space[0x98..0x9c].copy_from_slice(&[0x11, 0x84, 1, 0]);
    let capability = |at, next, kind, place, multiplier| Capability { at, next, kind, place, multiplier };
    write(&mut space, &capability(0x84, 0x70, 5, Place { bar: 0, offset: 0, length: 0 }, Some(0)));
    write(&mut space, &capability(0x70, 0x60, 2, place(0x3000), Some(4)));
    write(&mut space, &capability(0x60, 0x50, 4, place(0x2000), None));
    write(&mut space, &capability(0x50, 0x40, 3, place(0x1000), None));
    write(&mut space, &capability(0x40, 0, 1, place(0), None));
    space
}

#[test]
fn the_usual_structures_are_found() {
    let found = Structures::parse(read(&usual()), 0x98).unwrap();
    let expected = Structures {
        common: place(0),
        notify: place(0x3000),
        notify_multiplier: 4,
        isr: Some(place(0x1000)),
        device: place(0x2000),
    };
    assert_eq!(found, expected);
}

#[test]
fn the_first_of_a_kind_counts_and_reserved_bars_do_not() {
    let mut space = usual();
    let capability = Capability { at: 0xa4, next: 0x98, kind: 1, place: place(0x800), multiplier: None };
    write(&mut space, &capability);
    assert_eq!(Structures::parse(read(&space), 0xa4).unwrap().common, place(0x800));
    write(&mut space, &Capability { place: Place { bar: 6, ..place(0x800) }, ..capability });
    assert_eq!(Structures::parse(read(&space), 0xa4).unwrap().common, place(0));
}

#[test]
fn a_missing_structure_is_noticed() {
    for missing in [0x40, 0x60, 0x70] {
        let mut space = usual();
        space[missing] = 0x11;
        assert_eq!(Structures::parse(read(&space), 0x98), None);
    }
    let mut space = usual();
    space[0x50] = 0x11;
    assert_eq!(Structures::parse(read(&space), 0x98).unwrap().isr, None);
    // A notify structure without its multiplier; a list that does not begin; one that goes in a circle.
    let mut space = usual();
    space[0x72] = 16;
    assert_eq!(Structures::parse(read(&space), 0x98), None);
    assert_eq!(Structures::parse(read(&usual()), 0), None);
    let mut space = usual();
    space[0x61] = 0x70;
    assert_eq!(Structures::parse(read(&space), 0x98), None);
}

proptest! {
    /// Whatever a device has there: there is an answer, and reading is aligned and bounded.
    #[test]
    fn any_space_has_an_end(space in proptest::collection::vec(prop_oneof![Just(9u8), 0x40u8.., 0u8..6], 256), first: u8) {
        let space: [u8; 256] = space.try_into().unwrap();
        let reads = std::cell::Cell::new(0);
        let read = read(&space);
        let _ = Structures::parse(|at| { reads.set(reads.get() + 1); read(at) }, first);
        prop_assert!(reads.get() <= 48 * 5);
    }
}
