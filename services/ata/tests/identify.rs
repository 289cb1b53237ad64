//! The answer to IDENTIFY DEVICE: what it says, and what it must not be believed.

use bulkhead_ata::*;
use bulkhead_driver::RangeLimits;
use proptest::prelude::*;

fn answer() -> [u16; IDENTIFY_WORDS] {
    let mut words = [0; IDENTIFY_WORDS];
    words[49] = 0x300;
    words[60] = 1000;
    words[83] = 0x7400;
    words[85] = 0x20;
    words[87] = 0x4000;
    words[100] = 0x800;
    words[101] = 1;
    for (first, text) in [(10, "SERIAL 1"), (23, "FW 1.0  "), (27, "A MODEL ")] {
        for (word, pair) in words[first..].iter_mut().zip(text.as_bytes().chunks(2)) {
            *word = u16::from_be_bytes([pair[0], pair[1]]);
        }
    }
    words
}

#[test]
fn what_the_drive_says_is_kept() {
    let words = answer();
    let identity = Identity::parse(&words).unwrap();
    assert_eq!((identity.logical_sectors, identity.logical_bytes, identity.physical_exponent), (0x1_0800, 512, 0));
    assert!(identity.lba48 && identity.flush && identity.flush_ext && identity.write_cache);
    assert!(!identity.trim && identity.queuing.is_none());
    let information = identity.information(1, Some(64));
    assert_eq!(information.model(), "A MODEL");
    assert_eq!(&information.serial, b"SERIAL 1            ");
    assert_eq!(&information.firmware, b"FW 1.0  ");
    assert_eq!((information.sectors, information.command_bytes), (0x1_0800, 32 << 20));
    assert_eq!((information.discard, information.write_zeroes), (None, None));
    assert_eq!(information.identify[98..100], [0, 3]);
}

#[test]
fn large_sectors_count_in_small_ones() {
    let mut words = answer();
    words[106] = 0x7000 | 1;
    words[117] = 2048;
    words[75] = 31;
    words[76] = 0x100;
    words[169] = 1;
    let identity = Identity::parse(&words).unwrap();
    assert_eq!(identity.queuing, Some(Queuing { depth: 32 }));
    let information = identity.information(32, Some(100));
    assert_eq!((information.sectors, information.logical_block_size), (0x8_4000, 4096));
    assert_eq!(information.discard, Some(RangeLimits { sectors: 800, granularity: 16 }));
    for wrong in [0, 255, 300, 4096] {
        words[117] = wrong;
        assert_eq!(Identity::parse(&words), Err(Unusable::SectorSize), "{wrong}");
    }
}

#[test]
fn words_that_are_not_valid_say_nothing() {
    let mut words = answer();
    words[83] = 0xffff;
    words[76] = 0xffff;
    words[106] = 0xffff;
    words[87] = 0xffff;
    words[169] = 1;
    let identity = Identity::parse(&words).unwrap();
    assert_eq!((identity.logical_sectors, identity.command_sectors()), (1000, 256));
    assert!(!identity.lba48 && !identity.flush && !identity.flush_ext && !identity.write_cache && !identity.trim);
    assert_eq!((identity.queuing, identity.physical_exponent), (None, 0));
}

proptest! {
    /// Whatever comes, what is offered can be counted with.
    #[test]
    fn any_answer_is_bounded(words in proptest::collection::vec(any::<u16>(), IDENTIFY_WORDS)) {
        let words: [u16; IDENTIFY_WORDS] = words.try_into().unwrap();
        if let Ok(identity) = Identity::parse(&words) {
            let information = identity.information(32, Some(u32::MAX));
            prop_assert!(information.sectors > 0 && information.sectors <= 1 << 51);
            prop_assert!(matches!(information.logical_block_size, 512 | 1024 | 2048 | 4096));
            prop_assert!(information.physical_exponent <= 7);
            prop_assert!(information.serial.iter().chain(&information.model).all(|byte| (b' '..=b'~').contains(byte)));
            prop_assert!(identity.queuing.is_none_or(|queuing| (1..=32).contains(&queuing.depth)));
        }
    }
}
