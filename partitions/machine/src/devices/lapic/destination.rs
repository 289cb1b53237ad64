//! Which messages are for a local APIC (SDM vol. 3, 11.6.2 and 11.12.10).

use super::LocalApic;
use crate::devices::message::Destination;

impl LocalApic {
    /// Whether this local APIC is among the destinations.
    pub fn matches(&self, destination: Destination, is_sender: bool) -> bool {
        match destination {
            Destination::Own => is_sender,
            Destination::All => true,
            Destination::Others => !is_sender,
            Destination::Physical(identifier) => identifier == self.identifier,
            Destination::Logical(set) if self.is_x2apic() => {
                let own = self.x2apic_logical_destination();
                own >> 16 == set >> 16 && own & set & 0xffff != 0
            }
            Destination::Logical(set) => {
                let own = self.logical_destination >> 24;
                if self.destination_format >> 28 == 0xf {
                    own & set & 0xff != 0
                } else {
                    (own >> 4 == set >> 4 & 0xf || set & 0xf0 == 0xf0) && own & set & 0xf != 0
                }
            }
        }
    }

    /// The x2APIC logical destination register follows from the identifier (SDM vol. 3, 11.12.10.2).
    pub(super) const fn x2apic_logical_destination(&self) -> u32 {
        (self.identifier >> 4) << 16 | 1 << (self.identifier & 0xf)
    }
}
