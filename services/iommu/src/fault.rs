//! What a unit refused (sections 7.2, 7.3, 11.4.14).

use core::fmt;

/// What was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// A read of the page at an address.
    Read(u64),
    /// A write to the page at an address.
    Write(u64),
    /// An interrupt, by the number of its entry, or what the device said it was.
    Interrupt(u16),
}

/// A fault report.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Who: bus << 8 | device << 3 | function.
    pub requester: u16,
    /// What.
    pub refused: Refused,
    /// Why, as the specification's table of fault reasons numbers it (7.1.3).
    pub reason: u8,
}

/// Reasons that concern interrupts are from here to [`LAST_INTERRUPT_REASON`].
const FIRST_INTERRUPT_REASON: u8 = 0x20;
const LAST_INTERRUPT_REASON: u8 = 0x27;

impl Fault {
    /// From the two halves of a fault recording register.
    pub(crate) const fn new(low: u64, high: u64) -> Self {
        let reason = (high >> 32) as u8;
        let refused = match reason {
            FIRST_INTERRUPT_REASON..=LAST_INTERRUPT_REASON => Refused::Interrupt((low >> 48) as u16),
            _ if high >> 62 & 1 != 0 => Refused::Read(low & !0xfff),
            _ => Refused::Write(low & !0xfff),
        };
        Self { requester: high as u16, refused, reason }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.refused {
            Refused::Read(address) => write!(formatter, "read of {address:#x}")?,
            Refused::Write(address) => write!(formatter, "write to {address:#x}")?,
            Refused::Interrupt(number) => write!(formatter, "interrupt {number:#x}")?,
        }
        write!(formatter, " refused (reason {:#x})", self.reason)
    }
}
