//! An interrupt on its way to a local APIC, and who carries it there.

/// A write to the interrupt address range, as a PCI function with MSI-X makes it (SDM vol. 3, 11.11).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MsiMessage {
    /// Address: 0xFEEx_xxxx.
    pub address: u64,
    /// Data: vector, delivery mode, trigger mode.
    pub data: u32,
}

/// What an interrupt does at its destination (SDM vol. 3, 11.6.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeliveryMode {
    /// The vector is requested at every destination.
    Fixed,
    /// The vector is requested at the one destination that runs at the lowest priority.
    LowestPriority,
    /// System-management interrupt: this machine has none, so it is ignored.
    SystemManagement,
    /// Non-maskable interrupt.
    NonMaskable,
    /// The processor is reset and waits for a start-up message.
    Init,
    /// A processor that waits for it starts at the page that the vector names.
    Startup,
    /// The vector comes from the 8259A.
    External,
}

impl DeliveryMode {
    /// The mode with this three-bit encoding; one of the eight is reserved.
    pub const fn from_bits(bits: u32) -> Option<Self> {
        match bits & 7 {
            0 => Some(Self::Fixed),
            1 => Some(Self::LowestPriority),
            2 => Some(Self::SystemManagement),
            4 => Some(Self::NonMaskable),
            5 => Some(Self::Init),
            6 => Some(Self::Startup),
            7 => Some(Self::External),
            _ => None,
        }
    }
}

/// Which processors an interrupt is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Destination {
    /// The processor with this local APIC identifier.
    Physical(u32),
    /// Processors whose logical destination register matches.
    Logical(u32),
    /// The sender.
    Own,
    /// Every processor.
    All,
    /// Every processor but the sender.
    Others,
}

impl Destination {
    /// The destination in an 8-bit field, as I/O APIC entries, MSI addresses and the xAPIC command register have it.
    pub const fn from_byte(logical: bool, byte: u8) -> Self {
        match (logical, byte) {
            (true, byte) => Self::Logical(byte as u32),
            (false, 0xff) => Self::All,
            (false, byte) => Self::Physical(byte as u32),
        }
    }
}

/// An interrupt for one or more local APICs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InterruptMessage {
    /// For whom.
    pub destination: Destination,
    /// To what effect.
    pub mode: DeliveryMode,
    /// Vector, or the page number of a start-up message.
    pub vector: u8,
    /// The end of this interrupt is to be told to the I/O APIC.
    pub level_triggered: bool,
}

impl InterruptMessage {
    /// Decodes a message-signalled interrupt; none if its address or delivery mode is not one of an interrupt.
    pub const fn from_msi(message: MsiMessage) -> Option<Self> {
        if message.address >> 20 != 0xfee {
            return None;
        }
        let Some(mode) = DeliveryMode::from_bits(message.data >> 8) else {
            return None;
        };
        Some(Self {
            destination: Destination::from_byte(message.address & 4 != 0, (message.address >> 12) as u8),
            mode,
            vector: message.data as u8,
            level_triggered: message.data & (1 << 15) != 0,
        })
    }
}

/// What carries interrupts from the shared devices to the processors.
pub trait Deliver {
    /// Carries `message` to its destinations. A message without a sender never has the destinations that need one.
    fn deliver(&mut self, message: InterruptMessage);

    /// The 8259A's output, which is wired to every processor's LINT0 pin, changed.
    fn external_interrupt(&mut self, asserted: bool);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn msi_fields() {
        let message = InterruptMessage::from_msi(MsiMessage { address: 0xfee0_3000, data: 0x0041 });
        assert_eq!(
            message,
            Some(InterruptMessage {
                destination: Destination::Physical(3),
                mode: DeliveryMode::Fixed,
                vector: 0x41,
                level_triggered: false
            })
        );
        let lowest = InterruptMessage::from_msi(MsiMessage { address: 0xfee0_100c, data: 0x8131 });
        assert!(lowest.is_some_and(|m| m.mode == DeliveryMode::LowestPriority
            && m.destination == Destination::Logical(1)
            && m.level_triggered));
        assert_eq!(InterruptMessage::from_msi(MsiMessage { address: 0xfec0_0000, data: 0x41 }), None);
        assert_eq!(InterruptMessage::from_msi(MsiMessage { address: 0xfee0_0000, data: 0x341 }), None);
    }
}
