//! The PCI configuration space in memory (PCI firmware specification 3.3, 4.1.2).

use super::table::Table;
use crate::layout::PCI_CONFIGURATION;
use alloc::vec::Vec;

pub(super) fn build() -> Vec<u8> {
    let mut table = Table::new(b"MCFG", 1);
    table.qword(0);
    // Segment group 0, from bus 0 to bus 0.
    table.qword(PCI_CONFIGURATION.start).word(0).byte(0).byte(0).dword(0);
    table.finish()
}
