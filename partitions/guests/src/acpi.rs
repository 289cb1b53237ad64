//! The processors of the machine, as its firmware lists them: ACPI's root pointer, root table, and MADT (ACPI 6.5, 5.2).

/// The area of the firmware where the root pointer lies, on a boundary of 16 bytes (5.2.5.1).
const FIRMWARE: core::ops::Range<usize> = 0xe_0000..0x10_0000;
const ROOT_POINTER: u64 = u64::from_le_bytes(*b"RSD PTR ");
const MADT: u32 = u32::from_le_bytes(*b"APIC");
/// Bytes of the header that every table has; the length is at 4.
const HEADER: usize = 36;

/// A value in memory, which must lie in the first 4 GiB.
fn read<T: Copy>(address: usize) -> T {
    // SAFETY: the first 4 GiB are mapped one to one; the firmware's tables are plain data that nobody changes.
    unsafe { (address as *const T).read_unaligned() }
}

/// Calls `found` with the local APIC identifier of each processor that can be used, in the order of the table.
pub fn processors(mut found: impl FnMut(u32)) {
    let Some(table) = madt() else { return };
    let end = table + read::<u32>(table + 4) as usize;
    // Local APIC address and flags precede the entries.
    let mut entry = table + HEADER + 8;
    while entry + 2 <= end {
        let (kind, length) = (read::<u8>(entry), read::<u8>(entry + 1));
        match kind {
            // Processor local APIC: identifier, then flags with bit 0 for enabled.
            0 if read::<u32>(entry + 4) & 1 != 0 => found(u32::from(read::<u8>(entry + 3))),
            // Processor local x2APIC.
            9 if read::<u32>(entry + 8) & 1 != 0 => found(read(entry + 4)),
            _ => {}
        }
        entry += usize::from(length.max(2));
    }
}

fn madt() -> Option<usize> {
    let is_root = |address: &usize| read::<u64>(*address) == ROOT_POINTER && checksum(*address, 20) == 0;
    let root = FIRMWARE.step_by(16).find(is_root)?;
    // Revision 2 has the extended root table, with addresses of 8 bytes.
    let (table, width) = if read::<u8>(root + 15) >= 2 {
        (read::<u64>(root + 24) as usize, 8)
    } else {
        (read::<u32>(root + 16) as usize, 4)
    };
    let end = table + read::<u32>(table + 4) as usize;
    let mut addresses = (table + HEADER..end).step_by(width).map(|place| match width {
        8 => read::<u64>(place) as usize,
        _ => read::<u32>(place) as usize,
    });
    addresses.find(|address| read::<u32>(*address) == MADT)
}

fn checksum(address: usize, length: usize) -> u8 {
    (address..address + length).fold(0, |sum, place| sum.wrapping_add(read::<u8>(place)))
}
