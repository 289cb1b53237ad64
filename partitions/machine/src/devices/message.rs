//! An interrupt on its way to a local APIC.

/// A write to the interrupt address range, as a PCI function with MSI-X makes it (SDM vol. 3, 11.11).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MsiMessage {
    /// Address: 0xFEEx_xxxx.
    pub address: u64,
    /// Data: vector, delivery mode, trigger mode.
    pub data: u32,
}
