//! Which messages are for a local APIC (SDM vol. 3, 11.6.2 and 11.12.10).

use super::{Entry, LocalApic, MASKED, SOFTWARE_ENABLE};
use crate::devices::message::Destination;

/// How a local APIC is addressed: all that senders need to know of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Address {
    /// Logical destination register, its upper byte; not used in x2APIC mode.
    pub logical: u8,
    /// Logical destinations are sets of eight processors, not clusters of four.
    pub flat: bool,
    /// x2APIC mode.
    pub x2apic: bool,
    /// IA32_APIC_BASE enables it.
    pub enabled: bool,
    /// It takes vectors: the spurious-interrupt register enables it, too.
    pub takes_vectors: bool,
    /// The LINT0 pin is open.
    pub hears_pin: bool,
    /// The processor takes posted interrupts.
    pub posts: bool,
}

impl Default for Address {
    /// That after reset, of a processor whose pin is closed.
    fn default() -> Self {
        Self {
            logical: 0,
            flat: true,
            x2apic: false,
            enabled: true,
            takes_vectors: false,
            hears_pin: false,
            posts: false,
        }
    }
}

impl Address {
    /// As a word, to publish it in.
    pub const fn to_word(self) -> u64 {
        self.logical as u64
            | (self.flat as u64) << 8
            | (self.x2apic as u64) << 9
            | (self.enabled as u64) << 10
            | (self.takes_vectors as u64) << 11
            | (self.hears_pin as u64) << 12
            | (self.posts as u64) << 13
    }

    /// What [`to_word`](Self::to_word) made a word of.
    pub const fn from_word(word: u64) -> Self {
        Self {
            logical: word as u8,
            flat: word >> 8 & 1 != 0,
            x2apic: word >> 9 & 1 != 0,
            enabled: word >> 10 & 1 != 0,
            takes_vectors: word >> 11 & 1 != 0,
            hears_pin: word >> 12 & 1 != 0,
            posts: word >> 13 & 1 != 0,
        }
    }

    /// Whether the local APIC with this address, of processor `identifier`, is among the destinations.
    pub const fn matches(self, identifier: u32, destination: Destination, is_sender: bool) -> bool {
        self.enabled
            && match destination {
                Destination::Own => is_sender,
                Destination::All => true,
                Destination::Others => !is_sender,
                Destination::Physical(wanted) => wanted == identifier,
                Destination::Logical(set) if self.x2apic => {
                    let own = x2apic_logical(identifier);
                    own >> 16 == set >> 16 && own & set & 0xffff != 0
                }
                Destination::Logical(set) if self.flat => self.logical as u32 & set & 0xff != 0,
                Destination::Logical(set) => {
                    let (own, set) = (self.logical as u32, set & 0xff);
                    (own >> 4 == set >> 4 || set & 0xf0 == 0xf0) && own & set & 0xf != 0
                }
            }
    }
}

/// The x2APIC logical destination register follows from the identifier (SDM vol. 3, 11.12.10.2).
pub(super) const fn x2apic_logical(identifier: u32) -> u32 {
    (identifier >> 4) << 16 | 1 << (identifier & 0xf)
}

impl LocalApic {
    /// How it is addressed now.
    pub fn address(&self) -> Address {
        let pin_open = if self.is_enabled() {
            self.entry(Entry::Lint0) & MASKED == 0
        } else {
            // Without a local APIC the pin is the processor's own INTR.
            self.is_boot_processor()
        };
        Address {
            logical: (self.logical_destination >> 24) as u8,
            flat: self.destination_format >> 28 == 0xf,
            x2apic: self.is_x2apic(),
            enabled: self.is_enabled(),
            takes_vectors: self.spurious & SOFTWARE_ENABLE != 0,
            hears_pin: pin_open,
            posts: self.delegates_vectors(),
        }
    }
}
