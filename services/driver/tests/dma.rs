//! Memory for DMA: cut within bounds, and accessed by parts of its words.

use bulkhead_driver::DmaMemory;
use std::sync::atomic::AtomicU64;

fn words(count: usize) -> Vec<AtomicU64> {
    (0..count).map(|_| AtomicU64::new(0)).collect()
}

#[test]
fn parts_are_aligned_and_do_not_overlap() {
    let words = words(64);
    let mut memory = DmaMemory::new(&words, 0x1008);
    let first = memory.take(24, 64).unwrap();
    let second = memory.take(4, 8).unwrap();
    assert_eq!((first.physical(), first.len()), (0x1040, 24));
    assert_eq!((second.physical(), second.len()), (0x1058, 8));
    assert_eq!(memory.physical(), 0x1060);
    assert!(memory.take(0x1000, 8).is_none());
    assert_eq!(memory.physical(), 0x1060);
    first.write_u64(16, 7);
    assert_eq!((second.read_u64(0), words[(0x1050 - 0x1008) / 8].load(std::sync::atomic::Ordering::Relaxed)), (0, 7));
}

#[test]
fn parts_of_words_are_little_endian() {
    let words = words(2);
    let memory = DmaMemory::new(&words, 0);
    memory.write_u16(2, 0xabcd);
    memory.write_u32(4, 0x1234_5678);
    assert_eq!(memory.read_u64(0), 0x1234_5678_abcd_0000);
    assert_eq!((memory.read_u16(4), memory.read_u32(0)), (0x5678, 0xabcd_0000));
    // Outside there is nothing.
    memory.write_u32(16, 1);
    assert_eq!(memory.read_u32(16), 0);
}

#[test]
fn bytes_are_copied_whole_or_not_at_all() {
    let words = words(3);
    let memory = DmaMemory::new(&words, 0);
    let text = b"a frame of bytes";
    assert!(memory.write(8, text));
    let mut back = [0; 16];
    assert!(memory.read(8, &mut back));
    assert_eq!(&back, text);
    assert!(!memory.write(16, text));
    assert!(!memory.read(usize::MAX - 7, &mut back));
}

#[test]
fn bytes_of_every_length_are_copied() {
    let words = words(8);
    let memory = DmaMemory::new(&words, 0);
    let text: Vec<u8> = (1..=40).collect();
    for length in 0..=text.len() {
        (0..8).for_each(|word| memory.write_u64(8 * word, u64::MAX));
        assert!(memory.write(16, &text[..length]));
        let mut back = [0xee; 48];
        assert!(memory.read(16, &mut back[..length]));
        assert_eq!((&back[..length], &back[length..]), (&text[..length], &vec![0xee; 48 - length][..]));
        let whole: Vec<u8> = (0..8).flat_map(|word| memory.read_u64(8 * word).to_le_bytes()).collect();
        let padding = vec![0; length.next_multiple_of(8) - length];
        let rest = vec![0xff; 48 - length.next_multiple_of(8)];
        assert_eq!(whole, [&[0xff; 16], &text[..length], &padding[..], &rest[..]].concat());
    }
}
