//! The fixed description table (ACPI 6.5, 5.2.9): the registers of [`power`](crate::devices::power).

use super::table::Table;
use crate::devices::power;
use crate::devices::rtc;
use alloc::vec::Vec;

/// Profile: enterprise server.
const SERVER: u8 = 4;
/// Boot architecture: ISA devices (the serial port) yes, 8042 no, VGA no.
const BOOT_ARCHITECTURE: u16 = 1 << 0 | 1 << 2;
/// WBINVD works; C1 on every processor; no fixed sleep button; no RTC wake-up status; the timer has 32 bits; the reset register
/// works; headless.
const FLAGS: u32 = 1 << 0 | 1 << 2 | 1 << 5 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 12;

/// A block of registers in I/O space: port, bits, bits of one access (as log2 of bytes, plus 1). All 0 for none.
struct Block(u16, u8, u8);

const NONE: Block = Block(0, 0, 0);

impl Table {
    /// A generic address structure (ACPI 6.5, 5.2.3.2).
    fn block(&mut self, block: &Block) -> &mut Self {
        let space = u8::from(block.0 != 0);
        self.byte(space).byte(block.1).byte(0).byte(block.2).qword(u64::from(block.0))
    }
}

/// The table, given the addresses of FACS and DSDT.
pub(super) fn build(facs: u32, dsdt: u32) -> Vec<u8> {
    let event = u32::from(power::EVENT_PORT);
    let control = u32::from(power::CONTROL_PORT);
    let timer = u32::from(power::TIMER_PORT);
    let mut table = Table::new(b"FACP", 6);
    table.dword(facs).dword(dsdt).byte(0).byte(SERVER).word(u16::from(power::SCI));
    // No SMI command port: the machine is in ACPI mode from the start.
    table.dword(0).bytes(&[0; 4]);
    table.dword(event).dword(0).dword(control).dword(0).dword(0).dword(timer).dword(0).dword(0);
    // Lengths of event, control, PM2, timer, GPE blocks; GPE1 base; C-state control.
    table.bytes(&[4, 2, 0, 4, 0, 0, 0, 0]);
    // Latencies that say: no C2, no C3. No cache flush by reading, no duty cycle.
    table.word(0x0fff).word(0xffff).word(0).word(0).byte(0).byte(0);
    // No day and month alarm.
    table.byte(0).byte(0).byte(rtc::CENTURY);
    table.word(BOOT_ARCHITECTURE).byte(0).dword(FLAGS);
    table.block(&Block(power::RESET_PORT, 8, 1)).byte(power::RESET_VALUE);
    // No ARM boot flags; minor version 3.
    table.word(0).byte(3);
    table.qword(0).qword(u64::from(dsdt));
    let blocks = [
        Block(power::EVENT_PORT, 32, 2),
        NONE,
        Block(power::CONTROL_PORT, 16, 2),
        NONE,
        NONE,
        Block(power::TIMER_PORT, 32, 3),
        NONE,
        NONE,
        // Sleep control and status exist on hardware-reduced machines only.
        NONE,
        NONE,
    ];
    for block in &blocks {
        table.block(block);
    }
    table.bytes(b"Bulkhead");
    table.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_the_length_of_revision_6() {
        let table = build(0xe_0040, 0xe_0080);
        assert_eq!(table.len(), 276);
        assert_eq!(table[108], 0x32);
        assert_eq!(table[128], 6);
        assert_eq!(table[116..128], [1, 8, 0, 1, 0xf9, 0x0c, 0, 0, 0, 0, 0, 0]);
        assert_eq!(table[208..220], [1, 32, 0, 3, 0x08, 0x06, 0, 0, 0, 0, 0, 0]);
    }
}
