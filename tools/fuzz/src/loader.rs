//! Kernel files: a monitor reads what a person, or who made the file, put into them.

use crate::{Input, ram::Ram};
use bulkhead_machine::loader::{self, BootImage, FlatImage, FlatMode};
use bulkhead_machine::memory::GuestPhysical;

/// Bytes of the guest's RAM.
const RAM: usize = 4 << 20;
/// Bytes of a kernel file.
const KERNEL: usize = 0x6000;

/// Loads bytes as a kernel: with the magic numbers of a protocol, since chance does not find them, and the fields behind them at random.
pub fn run(input: &mut Input<'_>) {
    let protocol = input.byte() % 4;
    let has_initrd = input.byte() & 1 != 0;
    let line_length = input.below(300) as usize;
    let mut kernel = vec![0u8; KERNEL];
    // Fields stand close together: bytes go where the protocol has its header.
    let header = match protocol {
        0 => 0x1f0,
        1 => 4 * input.below(2048) as usize,
        _ => 0,
    };
    let bytes = input.rest();
    let line: Vec<u8> = bytes.iter().copied().cycle().take(line_length.min(bytes.len() * 300)).collect();
    for (place, byte) in kernel.iter_mut().skip(header).zip(bytes) {
        *place = *byte;
    }
    let mut put = |at: usize, magic: &[u8]| {
        if let Some(place) = kernel.get_mut(at..at + magic.len()) {
            place.copy_from_slice(magic);
        }
    };
    match protocol {
        0 => {
            put(0x1fe, &[0x55, 0xaa]);
            put(0x202, b"HdrS");
        }
        1 => put(header, &0x1bad_b002u32.to_le_bytes()),
        2 => put(0, b"\x7fELF\x02\x01\x01"),
        _ => put(0, b"\x7fELF\x01\x01\x01"),
    }
    let memory = Ram::new(RAM);
    let acpi_root = Some(GuestPhysical(0xe_0000));
    let initrd = has_initrd.then_some(bytes);
    let _ = loader::load(&memory, &BootImage { kernel: &kernel, initrd, command_line: &line, acpi_root });
    let _ = bulkhead_machine::loader::memory_map(bulkhead_machine::memory::MemoryLayout::new(RAM as u64));
    let flat = FlatImage { bytes: &kernel, address: GuestPhysical(header as u64 * 0x1000), mode: FlatMode::Long };
    let _ = loader::load_flat(&memory, &flat);
}
