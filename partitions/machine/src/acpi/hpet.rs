//! The high precision event timer (IA-PC HPET specification 1.0a, 3.2.4).

use super::table::Table;
use crate::devices::hpet;
use alloc::vec::Vec;

pub(super) fn build() -> Vec<u8> {
    /// Shortest period for which a periodic comparator loses no interrupt, in counts: 0.1 ms.
    const SHORTEST_PERIOD: u16 = 1432;
    let mut table = Table::new(b"HPET", 1);
    table.dword(hpet::IDENTITY);
    // Generic address structure: memory, 64 bits wide.
    table.byte(0).byte(64).byte(0).byte(0).qword(hpet::BASE);
    // Number 0 of one; no guarantee for the rest of its page.
    table.byte(0).word(SHORTEST_PERIOD).byte(0);
    table.finish()
}
