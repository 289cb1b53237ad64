//! Synthetic ELF kernels.

use super::*;
use crate::loader::load;
use crate::memory::test::VecMemory;
use alloc::vec;
use alloc::vec::Vec;
use bulkhead_abi::segment;
use proptest::prelude::*;

/// An ELF64 file with one PT_LOAD of 0x100 file bytes and 0x1000 bytes of memory at 16 MiB, and perhaps a PVH note.
fn image(pvh: bool) -> Vec<u8> {
    let mut bytes = vec![0u8; 0x300];
    let mut put = |offset: usize, value: &[u8]| bytes[offset..offset + value.len()].copy_from_slice(value);
    put(0, b"\x7fELF\x02\x01\x01");
    put(16, &2u16.to_le_bytes());
    put(18, &EM_X86_64.to_le_bytes());
    put(20, &1u32.to_le_bytes());
    put(24, &0x100_0040u64.to_le_bytes());
    put(32, &64u64.to_le_bytes());
    put(52, &64u16.to_le_bytes());
    put(54, &56u16.to_le_bytes());
    put(56, &2u16.to_le_bytes());
    let mut header = |at: usize, kind: u32, offset: u64, address: u64, file: u64, memory: u64| {
        put(at, &kind.to_le_bytes());
        put(at + 8, &offset.to_le_bytes());
        put(at + 24, &address.to_le_bytes());
        put(at + 32, &file.to_le_bytes());
        put(at + 40, &memory.to_le_bytes());
        put(at + 48, &4u64.to_le_bytes());
    };
    header(64, PT_LOAD, 0x200, 0x100_0000, 0x100, 0x1000);
    if pvh {
        header(120, PT_NOTE, 0xc0, 0, 24, 24);
    }
    put(0xc0, &4u32.to_le_bytes());
    put(0xc4, &8u32.to_le_bytes());
    put(0xc8, &(PHYS32_ENTRY as u32).to_le_bytes());
    put(0xcc, b"Xen\0");
    put(0xd0, &0x100_0850u64.to_le_bytes());
    put(0x200, &[0xcc; 0x100]);
    bytes
}

fn boot<'a>(kernel: &'a [u8], initrd: Option<&'a [u8]>) -> BootImage<'a> {
    BootImage { kernel, initrd, command_line: b"quiet", acpi_root: Some(GuestPhysical(0xf0000)) }
}

#[test]
fn loads_by_pvh() {
    let memory = VecMemory::new(32 << 20);
    memory.fill(GuestPhysical(0x100_0000), 0x1000, 0xff).unwrap();
    let state = load(&memory, &boot(&image(true), Some(b"initrd"))).unwrap();
    assert_eq!((state.rip, state.cr0, state.cr4), (0x100_0850, 0x11, 0));
    assert_eq!(state.segments[segment::CS].access, 0xc09b);
    let info = state.registers[register::RBX];
    assert_eq!(memory.u32(info), START_MAGIC);
    assert_eq!(memory.u32(info + 12), 1);
    let module = memory.u64(info + 16);
    assert_eq!(memory.bytes(memory.u64(module), 6), b"initrd");
    assert_eq!(memory.u64(module + 8), 6);
    assert_eq!(memory.bytes(memory.u64(info + 24), 6), b"quiet\0");
    assert_eq!(memory.u64(info + 32), 0xf0000);
    assert_eq!(memory.u32(info + 48), 4);
    assert_eq!(memory.u64(memory.u64(info + 40) + 8), 0x9fc00);
    assert_eq!(memory.bytes(0x100_0000, 0x100), [0xcc; 0x100]);
    assert_eq!(memory.bytes(0x100_0100, 0xf00), [0; 0xf00]);
}

#[test]
fn loads_without_a_note() {
    let memory = VecMemory::new(32 << 20);
    let state = load(&memory, &boot(&image(false), None)).unwrap();
    assert_eq!((state.rip, state.efer), (0x100_0040, 0x500));
    assert_eq!(state.registers[register::RSI], ZERO_PAGE.0);
    assert_eq!(memory.bytes(ZERO_PAGE.0 + 0x1e8, 1), [4]);
}

/// The same of 32 bits, without a note.
fn image_32() -> Vec<u8> {
    let mut bytes = vec![0u8; 0x300];
    let mut put = |offset: usize, value: &[u8]| bytes[offset..offset + value.len()].copy_from_slice(value);
    put(0, b"\x7fELF\x01\x01\x01");
    put(16, &2u16.to_le_bytes());
    put(18, &EM_386.to_le_bytes());
    put(20, &1u32.to_le_bytes());
    put(24, &0x100_0000u32.to_le_bytes());
    put(28, &52u32.to_le_bytes());
    put(40, &52u16.to_le_bytes());
    put(42, &32u16.to_le_bytes());
    put(44, &1u16.to_le_bytes());
    let header = [PT_LOAD, 0x200, 0xc100_0000, 0x100_0000, 0x100, 0x1000, 5, 4];
    for (place, field) in (52..).step_by(4).zip(header) {
        put(place, &field.to_le_bytes());
    }
    put(0x200, &[0xcc; 0x100]);
    bytes
}

#[test]
fn loads_a_32_bit_kernel_without_a_note() {
    let memory = VecMemory::new(32 << 20);
    let state = load(&memory, &boot(&image_32(), Some(b"initrd"))).unwrap();
    assert_eq!((state.rip, state.cr0, state.cr4, state.efer), (0x100_0000, 0x11, 0, 0));
    assert_eq!(state.segments[segment::CS].access, 0xc09b);
    assert_eq!(state.registers[register::RSI], ZERO_PAGE.0);
    assert_eq!(memory.bytes(0x100_0000, 0x100), [0xcc; 0x100]);
    let page = ZERO_PAGE.0;
    assert_eq!(memory.bytes(u64::from(memory.u32(page + 0x228)), 6), b"quiet\0");
    assert_eq!(memory.bytes(u64::from(memory.u32(page + 0x218)), 6), b"initrd");
    assert_eq!((memory.u32(page + 0x21c), memory.u64(page + 0x70)), (6, 0xf0000));
}

#[test]
fn refuses_nonsense() {
    let memory = VecMemory::new(8 << 20);
    assert!(matches!(load(&memory, &boot(&image(true), None)), Err(LoadError::LittleMemory { .. })));
    let mut low = image(true);
    low[64 + 24..64 + 32].copy_from_slice(&0x2000u64.to_le_bytes());
    assert!(matches!(load(&memory, &boot(&low, None)), Err(LoadError::BadAddress { .. })));
    let mut arm = image(true);
    arm[18] = 40;
    assert!(matches!(load(&memory, &boot(&arm, None)), Err(LoadError::BadElf(_))));
}

proptest! {
    #[test]
    fn no_file_panics(edits in prop::collection::vec((0usize..0x100, any::<u8>()), 0..12), length in 0usize..0x300) {
        let mut kernel = image(true);
        for (offset, value) in edits {
            kernel[offset] = value;
        }
        kernel.truncate(0x300 - length / 16);
        let memory = VecMemory::new(17 << 20);
        let _ = load(&memory, &boot(&kernel, None));
    }
}
