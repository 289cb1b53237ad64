//! Synthetic bzImages, and a real one where the machine has one.

use super::*;
use crate::loader::{self, PAGE_TABLES};
use crate::memory::GuestPhysical;
use crate::memory::test::VecMemory;
use alloc::vec;
use alloc::vec::Vec;
use bulkhead_abi::segment;
use proptest::prelude::*;

/// A bzImage with four setup sectors and 8 KiB of code, as `edit` changes it.
fn image(edit: impl FnOnce(&mut SetupHeader)) -> Vec<u8> {
    let mut header = SetupHeader::new_zeroed();
    header.boot_flag = U16::new(0xaa55);
    header.jump = [0xeb, 0x6a];
    header.magic = *b"HdrS";
    header.version = U16::new(0x020f);
    header.load_flags = LOADED_HIGH;
    header.initrd_address_max = U32::new(0x7fff_ffff);
    header.kernel_alignment = U32::new(0x20_0000);
    header.relocatable = 1;
    header.extended_load_flags = U16::new(KERNEL_64);
    header.command_line_size = U32::new(2047);
    header.preferred_address = U64::new(0x100_0000);
    header.init_size = U32::new(0x100_0000);
    edit(&mut header);
    let mut bytes = vec![0; 5 * 512];
    bytes[HEADER_OFFSET..HEADER_OFFSET + size_of::<SetupHeader>()].copy_from_slice(header.as_bytes());
    bytes.extend((0..8192u32).map(|index| index as u8 | 1));
    bytes
}

fn boot<'a>(kernel: &'a [u8], initrd: Option<&'a [u8]>) -> BootImage<'a> {
    BootImage { kernel, initrd, command_line: b"console=ttyS0", acpi_root: Some(GuestPhysical(0xe0000)) }
}

#[test]
fn loads_by_the_64_bit_entry() {
    let memory = VecMemory::new(64 << 20);
    let initrd = [0x5a; 5000];
    let kernel = image(|_| ());
    let state = loader::load(&memory, &boot(&kernel, Some(&initrd))).unwrap();
    assert_eq!(state.rip, 0x100_0200);
    assert_eq!(state.registers[register::RSI], ZERO_PAGE.0);
    assert_eq!((state.cr0, state.cr3, state.cr4, state.efer), (0x8000_0011, PAGE_TABLES.0, 0x20, 0x500));
    assert_eq!(state.segments[segment::CS].access, 0xa09b);
    assert_eq!(memory.bytes(0x100_0000, 8192), kernel[5 * 512..]);
    assert_eq!(memory.bytes(0x3ff_e000, 5000), initrd);
    let page = ZERO_PAGE.0;
    assert_eq!(memory.u32(page + 0x218), 0x3ff_e000);
    assert_eq!(memory.u32(page + 0x21c), 5000);
    assert_eq!(memory.u64(page + 0x70), 0xe0000);
    assert_eq!(memory.bytes(u64::from(memory.u32(page + 0x228)), 14), b"console=ttyS0\0");
    assert_eq!(memory.bytes(page + 0x202, 4), b"HdrS");
    assert_eq!(memory.bytes(page + 0x210, 1), [0xff]);
    assert_eq!(memory.bytes(page + 0x1e8, 1), [4]);
    assert_eq!((memory.u64(page + 0x2d0 + 40), memory.u64(page + 0x2d0 + 48)), (0x10_0000, 63 << 20));
    // The identity map: 0x1234_5678 is in directory 0, entry 0x91.
    assert_eq!(memory.u64(0x6000 + 8 * 0x91), 0x1220_0083);
}

#[test]
fn loads_by_the_32_bit_entry() {
    let memory = VecMemory::new(32 << 20);
    let kernel = image(|header| {
        header.extended_load_flags = U16::ZERO;
        header.relocatable = 0;
        header.preferred_address = U64::new(0x10_0000);
    });
    let state = loader::load(&memory, &boot(&kernel, None)).unwrap();
    assert_eq!((state.rip, state.cr0), (0x10_0000, 0x11));
    assert_eq!(state.segments[segment::CS].access, 0xc09b);
    assert_eq!(state.registers[register::RSI], ZERO_PAGE.0);
}

#[test]
fn refusals_say_why() {
    let memory = VecMemory::new(64 << 20);
    let load = |kernel: Vec<u8>| loader::load(&memory, &boot(&kernel, None)).unwrap_err();
    assert_eq!(load(image(|header| header.version = U16::new(0x0204))), LoadError::OldBootProtocol(0x0204));
    assert!(matches!(
        load(image(|header| header.init_size = U32::new(0x800_0000))),
        LoadError::LittleMemory { part: Part::Kernel, needed: 0x900_0000, .. }
    ));
    assert!(matches!(load(image(|header| header.preferred_address = U64::new(0x1000))), LoadError::BadAddress { .. }));
    assert!(matches!(
        load(image(|header| header.preferred_address = U64::new(u64::MAX - 5))),
        LoadError::BadAddress { .. }
    ));
    assert!(matches!(
        load(image(|header| header.setup_sectors = 255)),
        LoadError::Truncated { part: Part::Kernel, .. }
    ));
    assert_eq!(load(Vec::new()), LoadError::UnknownFormat);
    let kernel = image(|_| ());
    let initrd = vec![0; 40 << 20];
    assert!(matches!(
        loader::load(&memory, &boot(&kernel, Some(&initrd))),
        Err(LoadError::Overlap { first: Part::Kernel, second: Part::Initrd, .. })
    ));
    let long = [b'x'; 3000];
    let image = BootImage { command_line: &long, ..boot(&kernel, None) };
    assert_eq!(loader::load(&memory, &image), Err(LoadError::LongCommandLine { length: 3000, limit: 2047 }));
}

#[test]
fn loads_a_real_kernel() {
    let Some(path) = std::env::var_os("BULKHEAD_TEST_VMLINUZ") else {
        return;
    };
    let kernel = std::fs::read(path).unwrap();
    let memory = VecMemory::new(128 << 20);
    let state = loader::load(&memory, &boot(&kernel, Some(&[1; 4096]))).unwrap();
    assert_eq!(state.rip & 0xfff, 0x200);
    assert_eq!(state.efer, 0x500);
}

proptest! {
    #[test]
    fn no_header_panics(header: Vec<u8>, jump: u8, offset in 0usize..0x80) {
        let mut kernel = image(|fields| fields.jump[1] = jump);
        for (target, byte) in kernel[HEADER_OFFSET + offset..].iter_mut().zip(&header) {
            *target = *byte;
        }
        let memory = VecMemory::new(4 << 20);
        let _ = loader::load(&memory, &boot(&kernel, Some(&[0; 100])));
        let _ = check(&kernel);
    }
}
